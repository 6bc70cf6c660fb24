"""``otel-train scaling``: its report, JSON, picture and errors; real ranks with a fault that is named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from scaling_runs import ALONE, CPU, always, build_ranks, one_rank

from otel_train.cli import group
from otel_train.derive.scaling import scaling
from otel_train.derive.scaling_law import STRONG, WEAK
from otel_train.derive.summary import summarize_run
from otel_train.runlog.runs import find_run


def run_command(directory, *arguments):
    """The command line's result."""
    return CliRunner().invoke(group, ["scaling", "--dir", str(directory), *arguments])


def build_study(directory):
    """Weak scaling over 1, 2 and 4 ranks that lose a little more each time."""
    for size, backward in ((1, 8), (2, 9), (4, 9.6)):
        build_ranks(directory, f"of-{size}", [always(**ALONE | {"backward": backward})] * size)


def test_the_report_on_a_terminal(tmp_path):
    """Each size with speed-up, efficiency and overhead; the part that most went to; the law and the next doubling."""
    build_study(tmp_path)
    shown = run_command(tmp_path, "of-1", "of-2", "of-4")
    assert 0 == shown.exit_code, shown.output
    output = " ".join(shown.output.split())
    for line in (
        "Every run has the same samples in a step of each rank (32): weak scaling.",
        "1 2,286 1.00 100.0 % 14.0 ms 14.0 ms",
        "4 8,205 3.59 89.7 % 15.6 ms 14.0 ms 1.60 ms 56.0 ms",
        "4 ranks lose 1.60 ms of a step's 15.6 ms, most of it to communication: 1.60 ms.",
        "Gustafson's law from 3 runs",
        "At 8 ranks 16.1 k (",
    ):
        assert line in output


def test_the_report_as_json(tmp_path):
    """With what the whole runs lost, and null where a part is not known."""
    build_study(tmp_path)
    found = json.loads(run_command(tmp_path, "of-1", "of-2", "of-4", "--json").output)
    last = found["points"][-1]
    assert (1, "weak", "samples", 4, None) == (
        found["schema_version"], found["kind"], found["unit"], last["workers"], last["lost_s"]["launch"]
    )  # fmt: skip
    assert (0.056, 0.546) == pytest.approx((last["overhead_time_s"], last["time_s"]))
    assert {"name", "law", "serial_share", "runs", "residual"} == set(found["law"])
    assert (8, True) == (
        found["doubling"]["workers"],
        found["doubling"]["rate"]["low"] < found["doubling"]["rate"]["value"],
    )


def test_every_key_of_the_json_is_documented(tmp_path):
    """In ``docs/scaling.md``."""
    build_study(tmp_path)
    found = json.loads(run_command(tmp_path, "of-1", "of-2", "of-4", "--json").output)
    documented = (Path(__file__).parent.parent / "docs" / "scaling.md").read_text()
    keys = {*found, *found["points"][0], *found["law"], *found["doubling"], *found["points"][0]["lost_s"]}
    assert [] == sorted(key for key in keys if f"`{key}`" not in documented)


def test_the_picture(tmp_path):
    """Ideal, measured and fitted rates; the parts of the loss. Another ending is refused before anything is read."""
    build_study(tmp_path)
    shown = run_command(tmp_path, "of-1", "of-2", "of-4", "-o", str(tmp_path / "out.svg"))
    assert 0 == shown.exit_code, shown.output
    picture = (tmp_path / "out.svg").read_text()
    for text in ("samples a second", "ideal", "Gustafson's law", "95 % of further runs", "measured", "communication"):
        assert f"<!-- {text}" in picture, text
    wrong = run_command(tmp_path, "of-1", "of-2", "-o", "out.gif")
    assert (1, True) == (wrong.exit_code, "allowed are files that end in .png, .svg, .pdf" in wrong.output)


def test_the_picture_without_matplotlib(tmp_path, monkeypatch):
    """What to type."""
    build_study(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    shown = run_command(tmp_path, "of-1", "of-2", "-o", str(tmp_path / "out.png"))
    assert (1, True) == (shown.exit_code, "pip install 'otel-train[plot]'" in shown.output)


def test_errors_of_the_command_are_one_line(tmp_path):
    """No run, another's hardware, one size."""
    one_rank(tmp_path)
    build_ranks(tmp_path, "gpu", [always(**ALONE)] * 2, hardware=CPU | {"gpus": [{"model": "H100"}]})
    build_ranks(tmp_path, "cpu", [always(**ALONE)] * 2, hardware={"cpu": {"model": "Epyc"}})
    for arguments in (("one", "cpu"), ("one", "nothing"), ("one",)):
        shown = run_command(tmp_path, *arguments)
        assert (1, 1, "Error: ") == (shown.exit_code, shown.output.count("\n"), shown.output[:7])
    assert 0 == run_command(tmp_path, "one", "cpu", "--force").exit_code


TRAINING = Path(__file__).parent / "scaling_rank.py"


def train(directory, run_id, size, batch=16, **slow):
    """A real training of so many ranks under gloo; its summary."""
    environ = {
        **os.environ, "OTEL_TRAIN_DIR": str(directory), "OTEL_TRAIN_RUN_ID": run_id, "WORLD_SIZE": str(size),
        "STORE": str(directory / f"store-{run_id}"), "STEPS": "30", "BATCH": str(batch), "WIDTH": "32",
        **{name: str(value) for name, value in slow.items()},
    }  # fmt: skip
    command = [sys.executable, str(TRAINING)]
    ranks = [subprocess.Popen(command, env={**environ, "RANK": str(rank)}) for rank in range(size)]
    assert [0] * size == [rank.wait(120) for rank in ranks]
    return summarize_run(find_run(directory, run_id))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A real training of one rank."""
    return train(tmp_path_factory.mktemp("alone"), "alone", 1)


def test_a_real_slow_rank(tmp_path, alone):
    """One of two ranks sleeps 100 ms in each forward: the time is lost to imbalance, and the ranks wait for it."""
    slow = train(tmp_path, "slow", 2, SLOW_RANK_MS=100)
    found = scaling([alone, slow])
    assert (WEAK, "imbalance") == (found.kind, found.points[1].lost_most)
    assert 1 == slow.imbalance.last_rank


def test_real_slow_data(tmp_path, alone):
    """Each of two ranks waits 100 ms for every batch; half the batch each, so it is strong scaling."""
    found = scaling([alone, train(tmp_path, "data", 2, batch=8, SLOW_DATA_MS=100)])
    assert (STRONG, "data") == (found.kind, found.points[1].lost_most)
