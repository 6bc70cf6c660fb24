"""What trackers are told: rows that add up to the run, under names that each tracker takes, and settings."""

import math
import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_builder import MS, SECOND, LogBuilder
from mlflow.utils.validation import _validate_metric_name

from otel_train import names
from otel_train import resource_names as rn
from otel_train.derive import catalogue
from otel_train.derive.slices import Place, cut
from otel_train.derive.summary import summarize_run
from otel_train.errors import SettingsError
from otel_train.runlog.runs import find_run
from otel_train.setting_values import TRACKERS
from otel_train.settings import load
from otel_train.testing import record
from otel_train.trackers import chosen
from otel_train.trackers.rows import Reached, closing_of, next_end_ns, row_until, rows_of, tracked

FAR_NS = 10**15


def built(tmp_path, steps=40, step_ns=SECOND):
    """A run of one rank whose record has some of everything."""
    log = LogBuilder(tmp_path)
    for number in range(steps):
        log.step(number, step_ns, [("data_wait", 0, step_ns // 4), ("forward", step_ns // 4, step_ns // 2)], samples=8)
        if number % 10 == 9:
            log.event(names.CHECKPOINT, log.end_ns - step_ns, step_ns // 2, attributes={names.CHECKPOINT_SIZE: 1000})
            log.resources(log.end_ns, {rn.series(rn.PROCESS_MEMORY_USAGE): 1e6 + number})
            overhead = {names.OVERHEAD_TRAINING: (number + 1) * step_ns / 1e11}
            log.event(names.HEALTH, log.end_ns, attributes=overhead)
    return log


def test_one_interval_over_the_run_is_the_run(tmp_path):
    """The live values are those of the catalogue: an interval that holds everything says what the report says."""
    log = built(tmp_path)
    row, _ = row_until(log.log, Reached(0), log.end_ns)
    run = summarize_run(find_run(tmp_path, None))
    for name in ("step_time.p50", "samples_per_second", "data_wait.share", "checkpoint.time", "overhead.share"):
        assert pytest.approx(catalogue.find(name).of(run)) == row.values[tracked(*name.split("."))], name
    assert pytest.approx(0.5) == row.values["otel_train/phase/forward/share"]
    assert 1e6 + 39 == row.values["otel_train/resource/process.memory.usage/max"]
    assert 39 == row.step


def test_rows_are_at_the_step_and_time_of_their_end(tmp_path):
    """Four intervals of ten steps, each at its last step."""
    log = built(tmp_path)
    rows = list(rows_of(log.log, 10.0, log.end_ns))
    assert [9, 19, 29, 39] == [row.step for row in rows]
    unix_ns = log.log.anchor.unix_ns
    assert [unix_ns + 10 * SECOND * number for number in (1, 2, 3, 4)] == [row.unix_ns for row in rows]
    memory = [row.values["otel_train/resource/process.memory.usage/max"] for row in rows]
    assert [1e6 + 9, 1e6 + 19, 1e6 + 29, 1e6 + 39] == memory, "each interval has its own samples"
    assert [1.0] * 4 == [row.values["otel_train/step_time/p50"] for row in rows]
    assert [pytest.approx(0.01)] * 4 == [row.values["otel_train/overhead/share"] for row in rows]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 45 * SECOND), max_size=8))
def test_nothing_is_left_out_or_told_twice(tmp_path_factory, moments):
    """However a record is cut, each step, event and sample is in one part, in its order."""
    log = built(tmp_path_factory.mktemp("runs")).log
    place, parts = Place(), []
    for end_ns in [*sorted(moments), FAR_NS]:
        parts.append(cut(log, place, end_ns))
        place = parts[-1].end
    steps = [int(step) for part in parts for _, records in part.steps.read() for step in records["step"]]
    assert list(range(40)) == steps
    assert list(log.events()) == [event for part in parts for event in part.events()]
    assert list(log.resources()) == [row for part in parts for row in part.resources()]


def test_a_record_that_comes_late_is_in_the_next_part(tmp_path):
    """An event of another thread is written after its time: it is told with what follows."""
    log = built(tmp_path, steps=10)
    first = cut(log.log, Place(), 5 * SECOND)
    log.event(names.EVALUATION_KIND, SECOND, SECOND)
    second = cut(log.log, first.end, FAR_NS)
    assert names.EVALUATION_KIND in [event.kind for event, _ in second.events()]
    assert 5 == second.steps.bounds()[0]


def test_an_outage_makes_rows_longer(tmp_path):
    """What was not told for a thousand intervals takes far fewer rows, the last ones the shortest."""
    log = built(tmp_path, steps=1000).log
    reached, times = Reached(0), []
    while reached.time_ns < 1000 * SECOND:
        before_ns = reached.time_ns
        _, reached = row_until(log, reached, next_end_ns(log, reached, 1.0, 1000 * SECOND, 60))
        times.append((reached.time_ns - before_ns) // SECOND)
    assert len(times) <= 60 * (1 + math.log(1000 / 60)) + 1
    assert (17, 1) == (times[0], times[-1])


def test_alerts_are_values_and_texts(tmp_path):
    """1 where a rule begins to fire, 0 where it is over."""
    log = LogBuilder(tmp_path)
    told = {names.ALERT_RULE: "hang", names.ALERT_SEVERITY: "critical", names.ALERT_SUMMARY: "no step"}
    log.event(names.ALERT, 2 * SECOND, attributes={**told, names.ALERT_STATE: names.FIRING})
    log.event(names.ALERT, 8 * SECOND, attributes={**told, names.ALERT_STATE: names.RESOLVED})
    first, reached = row_until(log.log, Reached(0), 5 * SECOND)
    second, _ = row_until(log.log, reached, 10 * SECOND)
    assert (1.0, 0.0) == (first.values["otel_train/alert/hang"], second.values["otel_train/alert/hang"])
    assert [(True, "no step")] == [(alert.fires, alert.text) for alert in first.alerts]


def test_what_is_missing_or_no_number_is_not_told(tmp_path):
    """Neither zero nor NaN; what the script gives to ``log()`` is its own to tell."""
    log = LogBuilder(tmp_path)
    log.step(0, MS)
    log.scalar(0, math.nan)
    log.event(names.HEALTH, log.end_ns, attributes={names.OVERHEAD_TRAINING: math.nan})
    row, _ = row_until(log.log, Reached(0), FAR_NS)
    closing = closing_of(summarize_run(find_run(tmp_path, None)))
    for told in (row.values, closing.values):
        assert all(math.isfinite(value) for value in told.values())
        assert not [name for name in told if "loss" in name or "samples" in name or "data_wait" in name]


def test_a_record_without_a_step(tmp_path):
    """Has no rows, and a summary that says so."""
    log = LogBuilder(tmp_path)
    assert [] == list(rows_of(log.log, 10.0, 60 * SECOND))
    closing = closing_of(summarize_run(find_run(tmp_path, None)))
    assert 0.0 == closing.values["otel_train/run/steps"]
    assert "no training step" in closing.sentence


@given(st.lists(st.text(min_size=1, max_size=300), min_size=1, max_size=2, unique=True))
def test_mlflow_takes_every_name(texts):
    """Whatever a phase is called, its name is valid, and its own."""
    made = [tracked("phase", text, "share") for text in texts]
    for name in made:
        _validate_metric_name(name)
        assert len(name) <= 250
    assert len(texts) == len(set(made))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("off", ()),
        (False, ()),
        ([], ()),
        ("auto", ("auto",)),
        ("MLflow, wandb,mlflow", ("mlflow", "wandb")),
        (["tensorboard"], ("tensorboard",)),
    ],
)
def test_trackers_are_named(value, expected):
    """In the environment with commas, in code as a list too."""
    assert expected == load({"trackers": value}, environ={}).trackers


@pytest.mark.parametrize("value", ["comet", "auto,mlflow", ["mlflow", 3]])
def test_a_wrong_tracker(value):
    """The error says what there is."""
    with pytest.raises(SettingsError, match=r"allowed is off, auto, or some of mlflow, tensorboard, wandb"):
        load({"trackers": value}, environ={})


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_library_stops_init(name, monkeypatch):
    """Before the run begins, and the error says what to type; ``auto`` does without it."""
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SettingsError, match=rf"pip install 'otel-train\[{name}\]'"), record(trackers=name):
        pass
    found = chosen.chosen_trackers(load({"trackers": "auto"}, environ={}), 0)
    assert name not in [tracker.name for tracker in found]


def test_tensorboard_needs_a_folder_or_zero_code():
    """Nothing lists the writers that a script made: without a hook that saw it, the script has to say."""
    with pytest.raises(SettingsError, match=r"tensorboard_dir=writer.log_dir"), record(trackers="tensorboard"):
        pass


def test_a_folder_is_no_library(tmp_path, monkeypatch):
    """wandb writes to ``wandb/`` where the script runs, which Python would import as an empty package."""
    os.mkdir(tmp_path / "no_such_tracker")
    monkeypatch.syspath_prepend(tmp_path)
    assert not chosen.is_installed("no_such_tracker")


def test_rank_0_tells_unless_others_are_asked():
    """Or those that are named."""
    given = load({"trackers": "mlflow"}, environ={})
    assert [1, 0] == [len(chosen.chosen_trackers(given, rank)) for rank in (0, 1)]
    given = load({"trackers": "mlflow", "tracker_ranks": "all"}, environ={})
    assert 1 == len(chosen.chosen_trackers(given, 1))
