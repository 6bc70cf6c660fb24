"""Pictures: what is drawn is what was recorded, and a picture comes out."""

import sys

import numpy as np
import pytest
from click.testing import CliRunner
from export_setup import MS, SECOND, LogBuilder

from otel_train import names
from otel_train import resource_names as rn
from otel_train.cli import group
from otel_train.derive.timeline import NOT_DRAWN, timeline
from otel_train.report.plot import LEGEND, _tick
from otel_train.resource_names import series
from otel_train.runlog.layout import EVALUATION

READ = series(rn.DISK_IO, system__device="sda", disk__io__direction="read")
BUSY = series(rn.GPU_UTILIZATION, hw__id="GPU-1", hw__type="gpu")


def recorded(tmp_path, run_id="run-a", rank=0, step_ms=500):
    """A minute of steps, of which 100 ms wait; a sample every five seconds; a checkpoint, an evaluation, an alert."""
    builder = LogBuilder(tmp_path, run_id, rank)
    for number in range(60_000 // step_ms):
        builder.step(number, step_ms * MS, [("data_wait", 0, 100 * MS), ("forward", 100 * MS, 200 * MS)], samples=8)
        if builder.end_ns % (5 * SECOND) == 0:
            builder.resources(builder.end_ns, {READ: builder.end_ns / SECOND * 1e6, BUSY: 0.5})
    builder.step(999, SECOND, flags=EVALUATION)
    builder.event(names.CHECKPOINT, 20 * SECOND, 2 * SECOND)
    builder.event(names.EVALUATION_KIND, 60 * SECOND, SECOND)
    builder.event(names.ALERT, 30 * SECOND, attributes={names.ALERT_RULE: "gpu_idle", names.ALERT_STATE: names.FIRING})
    return builder


def test_stretches_hold_what_was_recorded(tmp_path):
    """Rates, medians, phases and what is left of the step; counters as rates; marks at their times."""
    found = timeline(recorded(tmp_path).log, stretches=6)
    assert pytest.approx([16.0] * 6) == found.rate
    assert "samples" == found.rate_unit
    assert pytest.approx([0.5] * 6) == found.step_s
    assert pytest.approx([0.1] * 6, rel=1e-5) == found.phases_s["data_wait"]
    assert pytest.approx([0.2] * 6, rel=1e-5) == found.phases_s[NOT_DRAWN]
    times, rates = found.resources[READ]
    assert (11, pytest.approx(1e6)) == (len(times), rates.mean())
    assert [(20, 22)] == found.checkpoints
    assert [(60, 61)] == found.evaluations
    assert [(30, "gpu_idle", False)] == found.alerts


def test_a_stretch_without_steps_is_empty(tmp_path):
    """Not zero: nothing is drawn there."""
    builder = LogBuilder(tmp_path)
    builder.step(0, SECOND)
    builder.step(1, SECOND, start_ns=9 * SECOND)
    found = timeline(builder.log, stretches=10)
    assert [False] + [True] * 8 + [False] == np.isnan(found.step_s).tolist()


def test_a_run_without_steps(tmp_path):
    """It died in its start-up: its samples are drawn all the same."""
    builder = LogBuilder(tmp_path)
    builder.resources(5 * SECOND, {BUSY: 0})
    builder.resources(10 * SECOND, {BUSY: 0})
    shown = plotted(tmp_path, "run-a")
    assert 0 == shown.exit_code, shown.output


def plotted(tmp_path, *arguments):
    return CliRunner().invoke(group, ["plot", "--dir", str(tmp_path), *arguments, "-o", str(tmp_path / "out.svg")])


def test_the_picture_names_what_it_shows(tmp_path):
    """Every panel of which something was sampled, phases, alerts, the legend of marks; none of what was not."""
    recorded(tmp_path)
    shown = plotted(tmp_path, "run-a")
    assert (0, f"Drawn: {tmp_path / 'out.svg'}\n") == (shown.exit_code, shown.output)
    picture = (tmp_path / "out.svg").read_text()
    for text in ("throughput, samples a second", "step, ms", "GPU, %", "disk and network", "data_wait", "gpu_idle",
                 "seconds since the run began", LEGEND):  # fmt: skip
        assert f"<!-- {text}" in picture or f" {text}" in picture, text
    assert "CPU, %" not in picture


def test_several_ranks_and_runs(tmp_path):
    """Each with its name; a rank can be chosen."""
    recorded(tmp_path, "run-a", 0)
    recorded(tmp_path, "run-a", 1, 600)
    recorded(tmp_path, "run-b", 0, 400)
    assert 0 == plotted(tmp_path, "run-a", "run-b").exit_code
    picture = (tmp_path / "out.svg").read_text()
    assert all(f"run-{run} rank {rank}" in picture for run, rank in (("a", 0), ("a", 1), ("b", 0)))
    assert 0 == plotted(tmp_path, "run-a", "--rank", "1").exit_code
    assert "rank 0" not in (tmp_path / "out.svg").read_text()
    missing = plotted(tmp_path, "run-a", "--rank", "7")
    assert (1, True) == (missing.exit_code, "no rank 7 is recorded of run-a" in missing.output)


def test_more_ranks_than_colours(tmp_path):
    """Said on the picture."""
    for rank in range(18):
        builder = LogBuilder(tmp_path, "wide", rank)
        builder.step(0, SECOND)
    assert 0 == plotted(tmp_path, "wide").exit_code
    assert "2 more are not drawn" in (tmp_path / "out.svg").read_text()


def test_a_png(tmp_path):
    """The format is the ending's."""
    recorded(tmp_path)
    path = tmp_path / "picture.png"
    assert 0 == CliRunner().invoke(group, ["plot", "run-a", "--dir", str(tmp_path), "-o", str(path)]).exit_code
    assert b"\x89PNG" == path.read_bytes()[:4]
    wrong = CliRunner().invoke(group, ["plot", "run-a", "--dir", str(tmp_path), "-o", "picture.gif"])
    assert (1, True) == (wrong.exit_code, "allowed are files that end in .png, .svg, .pdf" in wrong.output)


def test_without_matplotlib(tmp_path, monkeypatch):
    """What to type."""
    recorded(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    shown = plotted(tmp_path, "run-a")
    assert (1, True) == (shown.exit_code, "pip install 'otel-train[plot]'" in shown.output)


@pytest.mark.parametrize(("last", "tick"), [(9, 1), (10.5, 2), (17.8, 2), (33, 5), (90, 10), (0.5, 0.05), (240, 50)])
def test_ticks_are_round(last, tick):
    """Ten at most."""
    assert pytest.approx(tick) == _tick(last)
