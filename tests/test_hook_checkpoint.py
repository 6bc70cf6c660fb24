"""``torch.save`` and ``torch.load`` under zero code: what is a checkpoint, and what an event of it says."""

import io
import os
import pickle
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
import torch
from checkpoint_hooks import (
    MIB,
    SlowFile,
    SlowToPickle,
    about,
    checkpoints,
    hooked,
    left_out,
    stage_names,
    stages,
    told,
)

import otel_train
from otel_train import active, instrumentation
from otel_train.hooks.file_checkpoint import BURST


@pytest.fixture
def quick(monkeypatch):
    """On however busy a machine, a small call is a short one."""
    monkeypatch.setattr("otel_train.hooks.file_checkpoint.SHORT_NS", 60_000_000_000)


class Unpicklable:
    """Raises when it is pickled."""

    def __reduce__(self):
        raise RuntimeError("not this one")


@pytest.mark.parametrize("as_path", [str, Path], ids=["str", "Path"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_save_to_a_path(tmp_path, as_path, zipped):
    """Kind, path, the file's size and the rate are on record, in both of torch's formats."""
    path = tmp_path / "model.pt"
    with hooked() as run:
        torch.save(about(2), as_path(path), _use_new_zipfile_serialization=zipped)
    (event,) = checkpoints(run)
    size = path.stat().st_size
    assert {
        "dl.checkpoint.kind": "save",
        "dl.checkpoint.path": str(path),
        "dl.checkpoint.size": size,
        "dl.checkpoint.rate": size / (event.duration_ns / 1e9),
        "code.function.name": "torch.save",
    } == event.attributes
    assert (None, None) == (event.error, event.thread)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("where", ["path", "file", "memory"])
def test_a_load(tmp_path, where, zipped):
    """Loads from a path, an open file and memory have the size of what there is to read."""
    path = tmp_path / "model.pt"
    torch.save(about(2), path, _use_new_zipfile_serialization=zipped)
    with hooked() as run, open(path, "rb") as file:
        loaded = torch.load({"path": path, "file": file, "memory": io.BytesIO(path.read_bytes())}[where])
    assert torch.equal(about(2), loaded)
    (event,) = checkpoints(run)
    assert ("load", "torch.load", path.stat().st_size, None if where == "memory" else str(path)) == tuple(
        event.attributes.get(name)
        for name in ("dl.checkpoint.kind", "code.function.name", "dl.checkpoint.size", "dl.checkpoint.path")
    )


def test_a_save_to_memory_and_to_an_open_file(tmp_path):
    """The size is what was written to it, not what was there before; an open file has its path, memory has none."""
    memory = io.BytesIO()
    memory.write(b"before")
    with hooked() as run, open(tmp_path / "model.pt", "wb") as file:
        file.write(b"header")
        torch.save(about(2), memory)
        torch.save(about(3), file)
    in_memory, in_file = (event.attributes for event in checkpoints(run))
    assert len(memory.getvalue()) - len(b"before") == in_memory["dl.checkpoint.size"]
    assert "dl.checkpoint.path" not in in_memory
    assert (tmp_path / "model.pt").stat().st_size - len(b"header") == in_file["dl.checkpoint.size"]
    assert str(tmp_path / "model.pt") == in_file["dl.checkpoint.path"]


def test_every_way_to_call_it(tmp_path):
    """By keyword, as ``torch.serialization.save``, and imported by name after the hook was put in place."""
    with hooked() as run:
        from torch import save

        save(obj=about(1), f=tmp_path / "a.pt")
        torch.serialization.save(about(1), tmp_path / "b.pt")
        torch.serialization.load(f=tmp_path / "b.pt")
    assert ["a.pt", "b.pt", "b.pt"] == [Path(event.attributes["dl.checkpoint.path"]).name for event in checkpoints(run)]


def test_a_failed_save_marks_the_error_and_raises_it(tmp_path):
    """What cannot be pickled, or written, is a failed checkpoint without a size; the exception is the caller's own."""
    with hooked() as run:
        with pytest.raises(RuntimeError, match="not this one"):
            torch.save({"weights": about(1), "bad": Unpicklable()}, tmp_path / "model.pt")
        with pytest.raises(RuntimeError, match="not this one"):
            torch.save(Unpicklable(), io.BytesIO())
        with pytest.raises(RuntimeError, match="directory"):
            torch.save(about(1), tmp_path / "nowhere" / "model.pt")
        with pytest.raises(OSError, match="No space"), open("/dev/full", "wb") as full:
            torch.save(about(1), full, _use_new_zipfile_serialization=False)
        with pytest.raises(AttributeError, match="write"):
            torch.save(about(1), 7)
    events = checkpoints(run)
    assert ["RuntimeError", "RuntimeError", "RuntimeError", "OSError", "AttributeError"] == [
        event.error["type"] for event in events
    ]
    assert [False] * 5 == ["dl.checkpoint.size" in event.attributes for event in events]


def test_a_load_that_fails(tmp_path, quick):
    """A large file that is no checkpoint is a failed load; a missing small one is nothing."""
    (tmp_path / "noise").write_bytes(bytes(2 * MIB))
    with hooked() as run:
        with pytest.raises(RuntimeError, match="tar format"):
            torch.load(tmp_path / "noise")
        with pytest.raises(FileNotFoundError):
            torch.load(tmp_path / "missing")
    assert [("load", "RuntimeError")] == [
        (event.attributes["dl.checkpoint.kind"], event.error["type"]) for event in checkpoints(run)
    ]


def test_what_is_no_checkpoint_is_counted_and_left_out(tmp_path, quick):
    """Small loads, and small saves in memory, however many."""
    torch.save(about(0.01), tmp_path / "sample.pt")
    with hooked() as run:
        for _ in range(50):
            torch.load(tmp_path / "sample.pt")
            torch.save(about(0.01), io.BytesIO())
    assert [] == told(run)
    assert 100 == left_out(run)


def test_a_slow_small_one_is_a_checkpoint():
    """What is small but takes more than ten milliseconds is worth an event."""
    with hooked() as run:
        torch.save(SlowToPickle(0.02), io.BytesIO())
    (event,) = checkpoints(run)
    assert event.attributes["dl.checkpoint.size"] < MIB


def test_a_small_save_to_disk_is_a_checkpoint(tmp_path):
    """The model of a tutorial is kept in kilobytes: that too is a checkpoint."""
    with hooked() as run:
        torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "tiny.pt")
    assert [str(tmp_path / "tiny.pt")] == [event.attributes["dl.checkpoint.path"] for event in checkpoints(run)]


def test_a_flood_is_bounded(tmp_path):
    """A script that saves a file a sample gets a hundred events and a count; a save of a second is always told."""
    start_s = time.monotonic()
    with hooked() as run:
        for _ in range(BURST + 50):
            torch.save(about(0), tmp_path / "sample.pt")
        torch.save(SlowToPickle(1.0), tmp_path / "model.pt")
    took_s = time.monotonic() - start_s
    events = checkpoints(run)
    assert str(tmp_path / "model.pt") == events[-1].attributes["dl.checkpoint.path"]
    assert BURST + 51 == len(events) + left_out(run)
    assert BURST <= len(events) <= BURST + took_s + 2


class Samples(torch.utils.data.Dataset):
    """Samples in files of 2 MiB."""

    def __init__(self, folder):
        self.folder = folder
        for index in range(4):
            torch.save(about(2), folder / f"{index}.pt")

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.load(self.folder / f"{index}.pt")[:8]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_set_that_is_loaded_is_no_checkpoint(tmp_path, workers):
    """Large samples read by a data loader are data, in this process and in its workers."""
    samples = Samples(tmp_path)
    with hooked() as run:
        for _ in torch.utils.data.DataLoader(samples, num_workers=workers):
            pass
        for _ in otel_train.trace_dataloader(samples[index] for index in range(4)):
            pass
    assert [] == checkpoints(run)
    assert (8 if workers == 0 else 4) == left_out(run)


def test_pickling_a_tensor_is_no_checkpoint():
    """torch saves each storage in memory when a tensor is pickled; that is neither told nor counted."""
    with hooked() as run:
        assert torch.equal(about(2), pickle.loads(pickle.dumps(about(2))))
    assert [] == told(run)
    assert 0 == left_out(run)


def test_a_save_inside_a_checkpoint_is_a_stage_of_it(tmp_path):
    """Of the script's own checkpoint: one checkpoint, whose size is the folder's, and a stage for each save."""
    with hooked() as run, otel_train.trace_checkpoint(tmp_path):
        torch.save(about(2), tmp_path / "model.pt")
        torch.save(about(3), tmp_path / "optimizer.pt")
    (event,) = checkpoints(run)
    assert sum(file.stat().st_size for file in tmp_path.iterdir() if file.suffix == ".pt") == sum(
        stage.attributes["dl.checkpoint.size"] for stage in stages(run)
    )
    assert ["torch.save", "torch.save"] == stage_names(run)
    assert (tmp_path / "optimizer.pt").stat().st_size + (tmp_path / "model.pt").stat().st_size <= event.attributes[
        "dl.checkpoint.size"
    ]
    kinds = [each.kind for each in told(run)]
    assert ["checkpoint.stage", "checkpoint.stage", "checkpoint"] == kinds


def test_a_folder_that_takes_long_to_look_at_has_no_size(tmp_path, monkeypatch):
    """The training does not wait for a slow file system: the size is what its stages wrote, or missing."""
    monkeypatch.setattr("otel_train.checkpoint.LONGEST_LOOK_S", -1.0)
    (tmp_path / "other").write_bytes(bytes(1000))
    with hooked() as run:
        with otel_train.trace_checkpoint(tmp_path):
            pass
        with otel_train.trace_checkpoint(tmp_path):
            torch.save(about(2), tmp_path / "model.pt")
    assert [None, (tmp_path / "model.pt").stat().st_size] == [
        event.attributes.get("dl.checkpoint.size") for event in checkpoints(run)
    ]


def test_what_is_no_path_is_none():
    """A thing that is no path is the script's mistake to hear of from the function that it calls."""
    with hooked() as run, otel_train.trace_checkpoint(7):
        pass
    assert [False] == ["dl.checkpoint.path" in event.attributes for event in checkpoints(run)]


def test_what_a_save_reads_again_is_part_of_the_save(tmp_path):
    """A load inside a save is a stage of kind save, and no checkpoint loaded."""
    with hooked() as run, otel_train.trace_checkpoint(tmp_path / "model.pt"):
        torch.save(about(2), tmp_path / "model.pt")
        torch.load(tmp_path / "model.pt")
    assert ["torch.save", "torch.load"] == stage_names(run)
    assert {"save"} == {event.attributes["dl.checkpoint.kind"] for event in told(run)}


def test_the_size_of_what_goes_elsewhere_is_that_of_its_stages():
    """A checkpoint to an address that is no file here has the size of what was serialised for it."""
    memory = io.BytesIO()
    with hooked() as run, otel_train.trace_checkpoint("s3://bucket/model.pt"):
        torch.save(about(2), memory)
    assert [len(memory.getvalue())] == [event.attributes["dl.checkpoint.size"] for event in checkpoints(run)]


def test_two_threads_save_at_once(tmp_path):
    """Neither is a stage of the other; the one beside the training names its thread and is in the background."""
    inside = threading.Barrier(2, timeout=30)

    class Meets:
        def __reduce__(self):
            inside.wait()
            return (int, ())

    with hooked() as run:
        with otel_train.trace_step():
            pass
        beside = threading.Thread(target=lambda: torch.save(Meets(), tmp_path / "beside.pt"), name="writer")
        beside.start()
        torch.save(Meets(), tmp_path / "training.pt")
        beside.join()
    assert {("training.pt", None, None), ("beside.pt", "writer", "background")} == {
        (Path(event.attributes["dl.checkpoint.path"]).name, event.thread, event.attributes.get("dl.checkpoint.mode"))
        for event in checkpoints(run)
    }
    assert [] == stages(run)


def train(model, optimizer, data, after_step=lambda: None):
    """Train a model."""
    for batch in data:
        optimizer.zero_grad()
        model(batch).sum().backward()
        optimizer.step()
        after_step()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_save_after_the_optimizers_step_is_between_steps(tmp_path, workers):
    """The step ends where the save begins; the file is the same as without any hook."""
    model = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = torch.utils.data.DataLoader(torch.randn(6, 4), batch_size=2, num_workers=workers)
    with hooked() as run:
        train(model, optimizer, loader, lambda: torch.save(SlowToPickle(0.05), tmp_path / "model.pt"))
    assert [0, 1, 2] == [step.step for step in run.steps]
    assert [0, 1, 2] == [event.step for event in checkpoints(run)]
    assert all(event.duration_ns >= 50_000_000 for event in checkpoints(run))
    records = [(int(step["start_ns"]), int(step["duration_ns"])) for _, found in run.log.steps.read() for step in found]
    for (start, duration), event in zip(records, checkpoints(run), strict=True):
        assert start + duration <= event.start_ns


def test_a_save_before_the_optimizers_step_lies_in_the_step(tmp_path):
    """The step goes on around it."""
    model = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with hooked() as run:
        for batch in torch.utils.data.DataLoader(torch.randn(2, 4), batch_size=1):
            model(batch).sum().backward()
            torch.save(SlowToPickle(0.05), tmp_path / "model.pt")
            optimizer.step()
    assert [True, True] == [step.duration_s >= 0.05 for step in run.steps]
    assert [0, 1] == [event.step for event in checkpoints(run)]


def test_a_small_load_leaves_the_step_alone(tmp_path, quick):
    """A script that loads a small file a step without a loader has the same steps as one that does not."""
    torch.save(torch.ones(1, 4), tmp_path / "sample.pt")
    model = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with hooked() as run:
        train(model, optimizer, (torch.load(tmp_path / "sample.pt") for _ in range(3)))
    assert [0, 1, 2] == [step.step for step in run.steps]
    assert [] == checkpoints(run)


def test_time_and_size_are_exact(tmp_path):
    """A sleep while it is pickled, and one while it is written, are in its time; the bytes are those written."""
    file = SlowFile(0.2)
    with hooked() as run:
        torch.save({"slow": SlowToPickle(0.2), "weights": about(1)}, tmp_path / "model.pt")
        torch.save(about(1), file)
    pickled, written = checkpoints(run)
    assert 0.2 <= pickled.duration_ns / 1e9
    assert 0.2 <= written.duration_ns / 1e9
    assert len(file.content) == written.attributes["dl.checkpoint.size"]


def test_training_and_files_are_the_same_to_the_bit(tmp_path):
    """A training that saves and loads on its way has the same weights and the same files with the hooks as without."""

    def weights_and_file(folder):
        folder.mkdir()
        torch.manual_seed(7)
        model = torch.nn.Sequential(torch.nn.Linear(4, 512), torch.nn.Dropout(), torch.nn.Linear(512, 1024))
        optimizer = torch.optim.AdamW(model.parameters())

        def save_and_load():
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "model.pt")
            model.load_state_dict(torch.load(folder / "model.pt")["model"])

        train(model, optimizer, torch.utils.data.DataLoader(torch.randn(6, 4), batch_size=2), save_and_load)
        return [weight.clone() for weight in model.parameters()], (folder / "model.pt").read_bytes()

    plain, plain_file = weights_and_file(tmp_path / "plain")
    with hooked() as run:
        hooked_ones, hooked_file = weights_and_file(tmp_path / "hooked")
    assert all(map(torch.equal, plain, hooked_ones))
    assert plain_file == hooked_file
    assert 6 == len(checkpoints(run))


def test_without_a_run_calls_pass_through(tmp_path):
    """Saving and loading before a run and after it are what they always were, and begin no run."""
    begun = []
    instrumentation.instrument(lambda: begun.append(True))
    try:
        torch.save(about(2), tmp_path / "model.pt")
        assert torch.equal(about(2), torch.load(tmp_path / "model.pt"))
    finally:
        instrumentation.uninstrument()
    assert [] == begun
    assert active.recorder is None


def test_a_process_that_only_saves_writes_no_files(tmp_path):
    """Instrumented, with nothing to train, it leaves no run behind."""
    code = (
        "import torch\nfrom otel_train import instrumentation, session\nimport otel_train\n"
        "instrumentation.instrument(otel_train.init)\n"
        f"torch.save(torch.ones(1 << 20), {str(tmp_path / 'model.pt')!r})\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    assert ["model.pt"] == os.listdir(tmp_path)


def test_the_hook_is_the_function_to_everybody_else():
    """It pickles, and looks, like torch's own; taken back, everything is what it was."""
    before = (torch.save, torch.load, torch.serialization.save, torch.serialization.load)
    instrumentation.instrument()
    try:
        assert torch.save is torch.serialization.save is not before[0]
        assert torch.save is pickle.loads(pickle.dumps(torch.save))
        assert ("save", "torch.serialization") == (torch.save.__name__, torch.save.__module__)
    finally:
        instrumentation.uninstrument()
    assert before == (torch.save, torch.load, torch.serialization.save, torch.serialization.load)


def test_compiled_code_has_the_same_graphs(tmp_path):
    """A function that saves in its middle has as many graphs and breaks as without the hook, and is recorded."""
    from torch._dynamo.testing import CompileCounter
    from torch._dynamo.utils import counters

    def function(x):
        y = x * 2
        torch.save(y, tmp_path / "y.pt")
        return y + 1

    def graphs():
        torch._dynamo.reset()
        counters.clear()
        counter = CompileCounter()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            torch.compile(function, backend=counter)(torch.ones(3))
        return counter.frame_count, sum(counters["graph_break"].values())

    plain = graphs()
    with hooked() as run:
        assert plain == graphs()
    assert 1 == len(checkpoints(run))


def test_a_run_that_ends_inside_a_save(tmp_path):
    """The save goes on and is not recorded; the next run's are checkpoints of their own."""

    class EndsTheRun:
        def __reduce__(self):
            active.session.shutdown()
            return (int, ())

    with hooked() as run:
        torch.save(EndsTheRun(), tmp_path / "model.pt")
    assert [] == checkpoints(run)
    with hooked() as run:
        torch.save(about(1), tmp_path / "model.pt")
    assert (1, 0) == (len(checkpoints(run)), len(stages(run)))
