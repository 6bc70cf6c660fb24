"""TensorBoard: its own reader finds our values beside the user's, also of a process that was killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from test_tracker_rows import built

import otel_train
from otel_train import active, instrumentation
from otel_train.cli import group
from otel_train.testing import FakeClock, record

HERE = Path(__file__).parent
P50 = "otel_train/step_time/p50"


def train(clock, steps=25):
    """A step a second."""
    for _ in range(steps):
        with otel_train.trace_step(samples=4), otel_train.trace_phase("forward"):
            clock.advance(1.0)


def steps_of(folder):
    """The steps at which TensorBoard's reader finds a value; none where there is no file yet."""
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return [point.step for point in reader.Scalars(P50)] if P50 in reader.Tags()["scalars"] else []


def test_values_lie_beside_the_users(tmp_path):
    """In a folder of their own inside the user's: his file, still open, is read on."""
    from torch.utils.tensorboard import SummaryWriter

    clock = FakeClock()
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("loss", 1.0, 0)
        with record(clock, trackers="tensorboard", tensorboard_dir=tmp_path, exit_timeout_s=60):
            train(clock)
        writer.add_scalar("loss", 0.5, 24)
    found = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    assert {".", "otel_train"} == set(found.Runs())
    assert [0, 24] == [point.step for point in found.Scalars(".", "loss")]
    points = found.Scalars("otel_train", P50)
    assert [(9, 1.0), (19, 1.0), (24, 1.0)] == [(point.step, point.value) for point in points]
    (text,) = found.Tensors("otel_train", "otel_train/test/text_summary")
    assert b"| otel_train/run/steps | 25 |" in text.tensor_proto.string_val[0]


def test_zero_code_sees_the_writer(tmp_path):
    """The one made last; afterwards the class is as it was, and nothing is remembered."""
    from torch.utils.tensorboard import SummaryWriter

    before = SummaryWriter.__init__
    instrumentation.instrument()
    try:
        assert before.__doc__ == SummaryWriter.__init__.__doc__
        clock = FakeClock()
        with record(clock, trackers="tensorboard", exit_timeout_s=60):
            SummaryWriter(str(tmp_path / "first")).close()
            with SummaryWriter(str(tmp_path / "second")):
                train(clock)
    finally:
        instrumentation.uninstrument()
    assert [9, 19, 24] == steps_of(tmp_path / "second" / "otel_train")
    assert not (tmp_path / "first" / "otel_train").exists()
    assert before is SummaryWriter.__init__
    assert [] == active.summary_folders


def test_a_folder_that_cannot_be_written(tmp_path, caplog):
    """One warning; the training goes on."""
    (tmp_path / "file").write_text("")
    clock = FakeClock()
    with record(clock, trackers="tensorboard", tensorboard_dir=tmp_path / "file") as run:
        train(clock)
    assert 25 == len(run.steps)
    said = [entry.getMessage() for entry in caplog.records if entry.name == "otel_train"]
    assert 1 == len([line for line in said if "tensorboard did not take measures" in line]), said


def test_sigkill(tmp_path):
    """What was written is whole: TensorBoard reads it to its end."""
    command = [sys.executable, str(HERE / "tracked_training.py"), "tensorboard", str(tmp_path / "stop")]
    environ = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    process = subprocess.Popen(command, env=environ, cwd=tmp_path, text=True, stdout=subprocess.PIPE)
    process.stdout.readline()
    folder = tmp_path / "otel_train"
    while not folder.exists() or len(steps_of(folder)) < 2:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    steps = steps_of(folder)
    assert sorted(steps) == steps


def test_a_forked_worker_writes_nothing(tmp_path):
    """It has neither the thread nor anything of the file to write when it ends."""
    clock = FakeClock()
    with record(clock, trackers="tensorboard", tensorboard_dir=tmp_path, exit_timeout_s=60):
        train(clock)
        child = os.fork()
        if not child:
            os._exit(len(sys._current_frames()) - 1)
        _, status = os.waitpid(child, 0)
    assert 0 == status
    assert [9, 19, 24] == steps_of(tmp_path / "otel_train")


def test_a_record_is_told_afterwards(tmp_path):
    """A folder of the run's name where one asks for it."""
    built(tmp_path / "runs")
    done = CliRunner().invoke(group, ["export", "--to", "tensorboard", "-o", str(tmp_path / "board")])
    assert 0 == done.exit_code, done.output
    assert f"4 rows and the summary are in {tmp_path / 'board' / 'run-a'}" in done.output
    assert [9, 19, 29, 39] == steps_of(tmp_path / "board" / "run-a")
