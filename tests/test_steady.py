"""Which steps are steady, and what is left out of a comparison."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_builder import MS, LogBuilder

from otel_train import names
from otel_train.derive.steady import merged_steady, steady_run, steady_steps, warm_up_of
from otel_train.runlog.layout import EVALUATION, FAILED, PROFILED
from otel_train.runlog.runs import Run

PHASES = [("data_wait", 0, MS), ("forward", MS, 3 * MS), ("attention", MS, 2 * MS, 1), ("backward", 4 * MS, 5 * MS)]


def build(directory, steps=60, rank=0, flags=None, **options):
    builder = LogBuilder(directory, rank=rank, **options)
    for number in range(steps):
        builder.step(number, 10 * MS, PHASES, samples=8, tokens=80, flags=(flags or {}).get(number, 0))
    return builder


def test_all_but_the_warm_up_is_steady_in_a_run_where_nothing_happens(tmp_path):
    """Five steps are left out at the beginning; the rest is there with its numbers, times, phases and amounts."""
    steady = steady_steps(build(tmp_path).log)
    assert {"warm-up": 5} == steady.left_out
    assert list(range(5, 60)) == steady.steps.tolist()
    assert [0.01] * 55 == steady.durations_s.tolist()
    each = {name: round(float(times.mean()), 6) for name, times in steady.phases_s.items()}
    assert {"data_wait": 0.001, "forward": 0.003, "backward": 0.005, "other": 0.001} == each
    assert (8, 80) == (steady.samples.mean(), steady.tokens.mean())


def test_failed_and_profiled_steps_are_left_out(tmp_path):
    """And the step after a profiled one, before which the profiler stops."""
    steady = steady_steps(build(tmp_path, flags={20: FAILED, 30: PROFILED}).log)
    assert {"failed": 1, "profiled": 2, "warm-up": 5} == steady.left_out
    assert set() == {20, 30, 31} & set(steady.steps.tolist())


@pytest.mark.parametrize("kind", [names.EVALUATION_KIND, names.CHECKPOINT, names.COMPILATION])
def test_steps_beside_something_rare_are_left_out(tmp_path, kind):
    """The step in which it happens, and two that begin after it."""
    builder = build(tmp_path)
    builder.event(kind, 202 * MS, 3 * MS)
    steady = steady_steps(builder.log)
    assert {kind: 3, "warm-up": 5} == steady.left_out
    assert set() == {20, 21, 22} & set(steady.steps.tolist())


def test_what_happens_between_steps_leaves_out_the_two_after_it(tmp_path):
    """The steps before an evaluation are as usual; its own steps are none of the training."""
    builder = build(tmp_path, steps=30)
    start = builder.end_ns
    for number in range(3):
        builder.step(number, MS, flags=EVALUATION)
    builder.event(names.EVALUATION_KIND, start, builder.end_ns - start)
    for number in range(30, 60):
        builder.step(number, 10 * MS)
    steady = steady_steps(builder.log)
    assert {"evaluation": 2, "warm-up": 5} == steady.left_out
    assert [*range(5, 30), *range(32, 60)] == steady.steps.tolist()


def test_an_evaluation_that_was_killed_counts_by_its_steps(tmp_path):
    """Its event was never written."""
    builder = build(tmp_path, steps=30)
    builder.step(0, MS, flags=EVALUATION)
    for number in range(30, 60):
        builder.step(number, 10 * MS)
    assert 2 == steady_steps(builder.log).left_out["evaluation"]


def test_a_long_warm_up_is_found():
    """Thirty steps that become faster are left out, of a run that is steady from then on; of a steady one only five."""
    noise = np.random.default_rng(3).normal(1, 0.01, 300)
    warming = noise + np.where(np.arange(300) < 30, np.linspace(1, 0.2, 300 // 10).repeat(10)[:300], 0)
    assert 30 <= warm_up_of(warming) <= 40
    assert 5 <= warm_up_of(noise) <= 60


def test_ranks_are_read_as_one_run(tmp_path):
    """A step's time is the mean of its ranks, its samples their sum; a step that one rank lacks is left out."""
    build(tmp_path, steps=60)
    other = LogBuilder(tmp_path, rank=1)
    for number in range(58):
        other.step(number, 20 * MS, [("forward", 0, 16 * MS)], samples=8)
    steady = steady_run(Run(tmp_path / "run-a"))
    assert {"warm-up": 5, "not on all ranks": 2} == steady.left_out
    assert pytest.approx([0.015] * 53) == steady.durations_s
    assert pytest.approx(0.0095) == steady.phases_s["forward"].mean()
    assert 16 == steady.samples.mean()


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_short_runs_have_what_they_have(tmp_path, steps):
    """No step, and few, are no error."""
    assert steps - steps // 4 == steady_steps(build(tmp_path, steps=steps).log).count


@given(st.lists(st.lists(st.integers(0, 10**9), min_size=1, max_size=7), min_size=1, max_size=30))
def test_the_phases_of_a_step_add_up_to_it(tmp_path_factory, steps):
    """Whatever the phases are: ``other`` is what is left."""
    builder = LogBuilder(tmp_path_factory.mktemp("log"))
    for number, phases in enumerate(steps):
        builder.step(number, sum(phases) + 7, [(f"p{at}", 0, time) for at, time in enumerate(phases)])
    steady = steady_steps(builder.log)
    total = np.sum(list(steady.phases_s.values()), axis=0)
    assert pytest.approx(steady.durations_s, abs=1e-12) == total
    assert steady is merged_steady([steady])
