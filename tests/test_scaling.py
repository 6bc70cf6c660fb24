"""Scaling: efficiency, where the lost time went, strong and weak told apart, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_builder import MS, LogBuilder
from scaling_runs import ALONE, always, build_ranks, one_rank, write_step

from otel_train.derive.imbalance import Meetings, compare, host_meetings
from otel_train.derive.lost_time import ALL_PARTS, PARTS, lost_time
from otel_train.derive.mean_step import MeanStep
from otel_train.derive.scaling import scaling, scaling_efficiency
from otel_train.derive.scaling_law import STRONG, WEAK
from otel_train.derive.summary import summarize_run
from otel_train.derive.work import NEITHER, SAMPLES, kind_of
from otel_train.errors import ComparisonError
from otel_train.runlog.runs import find_run


def lost_ms(found):
    """Where a step of the largest run loses time, in ms."""
    return {part: pytest.approx(seconds * 1e3, abs=1e-3) for part, seconds in found.points[-1].lost_s.items()}


def test_efficiency_is_the_rate_of_a_rank_over_that_of_the_baseline(tmp_path):
    """Two ranks with the same batch each whose step takes 17.5 ms instead of 14 are 80 % efficient."""
    one = one_rank(tmp_path)
    two = build_ranks(tmp_path, "two", [always(**ALONE | {"backward": 11.5})] * 2)
    assert 0.8 == pytest.approx(scaling_efficiency(one, two))
    assert 1.0 == pytest.approx(scaling_efficiency(one, one))


def test_efficiency_of_the_same_work_divided(tmp_path):
    """Half the samples a rank in half the time would be all of it; 10 ms instead of 7 is 70 %."""
    two = build_ranks(tmp_path, "two", [always(forward=4, backward=6)] * 2, samples=16)
    assert 0.7 == pytest.approx(scaling_efficiency(one_rank(tmp_path), two))


def test_efficiency_is_none_where_the_work_is_not_known(tmp_path):
    """No samples or tokens, or no step: not zero."""
    one, unknown = one_rank(tmp_path), build_ranks(tmp_path, "unknown", [always(**ALONE)] * 2, samples=None)
    assert scaling_efficiency(one, unknown) is None
    assert scaling_efficiency(one, build_ranks(tmp_path, "none", [always()], steps=0)) is None


def test_the_first_steps_do_not_count(tmp_path):
    """A run that spends a second on each of its first five steps is as efficient as one that does not."""
    slow_start = build_ranks(tmp_path, "two", [lambda number: ALONE | {"forward": 1000 if number < 5 else 4}] * 2)
    assert 1.0 == pytest.approx(scaling_efficiency(one_rank(tmp_path), slow_start))


def test_what_backward_takes_longer_is_communication(tmp_path):
    """DDP reduces gradients inside backward: forward tells what the model itself takes, so 3.5 ms are communication."""
    two = build_ranks(tmp_path, "two", [always(**ALONE | {"backward": 11.5})] * 2)
    found = scaling([one_rank(tmp_path), two])
    assert {"data": 0, "communication": 3.5, "imbalance": 0, "compute": 0, "optimizer": 0, "other": 0} == lost_ms(found)
    assert (WEAK, "communication") == (found.kind, found.points[1].lost_most)


def test_a_slow_rank_is_imbalance(tmp_path):
    """The last rank takes 6 ms longer in its forward; the other waits for it at the end of its backward."""
    waiting, slow = always(**ALONE | {"backward": 14}), always(**ALONE | {"forward": 10})
    run = build_ranks(tmp_path, "two", [waiting, slow])
    found = scaling([one_rank(tmp_path), run])
    assert {"data": 0, "communication": 0, "imbalance": 6, "compute": 0, "optimizer": 0, "other": 0} == lost_ms(found)
    assert {0: pytest.approx(0.006), 1: 0} == run.imbalance.waits_s
    assert (1, 1.0, 35) == (run.imbalance.last_rank, run.imbalance.last[1], run.imbalance.steps)


def test_ranks_that_are_slow_in_turn_are_imbalance(tmp_path):
    """Each has a slow forward in every other step: their means are the same, and still half of the time one waits."""

    def turn(parity):
        return lambda number: ALONE | ({"forward": 10} if number % 2 == parity else {"backward": 14})

    run = build_ranks(tmp_path, "two", [turn(0), turn(1)], steps=45)
    assert {0: pytest.approx(0.003), 1: pytest.approx(0.003)} == run.imbalance.waits_s


def test_slow_data_is_data(tmp_path):
    """Every rank waits 5 ms more for its batch."""
    two = build_ranks(tmp_path, "two", [always(**ALONE | {"data_wait": 6})] * 2)
    found = scaling([one_rank(tmp_path), two])
    assert {"data": 5, "communication": 0, "imbalance": 0, "compute": 0, "optimizer": 0, "other": 0} == lost_ms(found)


def test_what_ranks_do_not_divide_is_told(tmp_path):
    """Strong scaling: each of two ranks has half the batch, but a whole optimizer step and 1 ms in no phase."""
    half = always(data_wait=0.5, forward=2, backward=4, optimizer=1, gap=1)
    found = scaling([one_rank(tmp_path), build_ranks(tmp_path, "two", [half] * 2, samples=16)])
    expected = {"data": 0, "communication": 0, "imbalance": 0, "compute": 0, "optimizer": 0.5, "other": 1}
    assert (STRONG, expected) == (found.kind, lost_ms(found))
    assert (0.0085, 0.007) == pytest.approx((found.points[1].step_s, found.points[1].ideal_step_s))


def test_waiting_for_a_checkpoint_is_no_imbalance(tmp_path):
    """The first rank saves for 400 ms after step 20; the second waits for it in the next backward. It is left out."""

    def saving(number):
        return ALONE

    def waiting(number):
        return ALONE | {"backward": 408} if number == 21 else ALONE

    run = build_ranks(tmp_path, "two", [saving, waiting], pauses={(0, 20): 400})
    assert 0.014 == pytest.approx(run.mean_step.step_s)
    assert 0 == pytest.approx(run.mean_step.times_s["imbalance"], abs=1e-9)
    assert 0.4 == pytest.approx(run.mean_step.left_out_s)


def test_ranks_of_which_there_is_no_record_are_like_the_others(tmp_path):
    """Two of four are recorded: the run is at four ranks, and does twice their samples. It is said."""
    found = scaling([one_rank(tmp_path), build_ranks(tmp_path, "four", [always(**ALONE)] * 2, world_size=4)])
    assert (4, 128, 1.0) == (found.points[1].workers, found.points[1].work, pytest.approx(found.points[1].efficiency))
    assert "Run four lacks the record of 2 of its ranks: taken to be like the rest." in found.notes


def test_a_run_that_failed_is_compared_as_far_as_it_came(tmp_path):
    """It is said, as is that it has few steps."""
    ended = {"end": {"unix_ns": 1, "error": {"type": "ValueError"}}}
    found = scaling([one_rank(tmp_path), build_ranks(tmp_path, "two", [always(**ALONE)] * 2, steps=15, **ended)])
    assert (
        "Run two failed: its steps until then are compared.",
        "Run two has few steps (15): its first ones, which often are slower, are included.",
    ) == found.notes


def test_repeated_runs_are_one_point(tmp_path):
    """Their mean by steps, and their spread."""
    again = build_ranks(tmp_path, "again", [always(forward=8, backward=8)])
    found = scaling([one_rank(tmp_path), again, build_ranks(tmp_path, "two", [always(**ALONE)] * 2)])
    first = found.points[0]
    assert (("one", "again"), 70) == (first.runs, first.steps)
    assert (32 / 0.015, (32 / 0.016, 32 / 0.014)) == (pytest.approx(first.rate), pytest.approx(first.spread))


def test_neither_strong_nor_weak(tmp_path):
    """What differs is said, samples a second are compared, and no law is fitted."""
    found = scaling([one_rank(tmp_path), build_ranks(tmp_path, "two", [always(**ALONE)] * 2, samples=24)])
    assert (NEITHER, None, None) == (found.kind, found.law, found.doubling)
    assert (
        "Neither strong nor weak scaling: the samples of a step differ in all (32 to 48) and for each rank (24 to 32). "
        "Compared by samples a second; no law is fitted."
    ) == found.why
    assert 0.75 == pytest.approx(found.points[1].efficiency)


def test_work_that_nobody_recorded_needs_a_word(tmp_path):
    """Refused with what to type; with it, steps are what is counted."""
    runs = [build_ranks(tmp_path, f"of-{size}", [always(**ALONE)] * size, samples=None) for size in (1, 2)]
    with pytest.raises(ComparisonError, match="--law strong"):
        scaling(runs)
    assert [1.0, 0.5] == pytest.approx([point.efficiency for point in scaling(runs, STRONG).points])
    assert [1.0, 1.0] == pytest.approx([point.efficiency for point in scaling(runs, WEAK).points])


def test_ranks_that_share_their_samples(tmp_path):
    """Two tensor-parallel ranks each count the whole batch: told that it is strong scaling, 8 ms are 87.5 % of 14."""
    two = build_ranks(tmp_path, "two", [always(forward=3, backward=5)] * 2)
    found = scaling([one_rank(tmp_path), two], STRONG)
    assert ("Taken as strong scaling, as asked: by steps.", 0.875) == (
        found.why, pytest.approx(found.points[1].efficiency)
    )  # fmt: skip


def test_other_hardware_is_refused(tmp_path):
    """Unless asked for; then it is said. Other versions are said alone."""
    one, other = one_rank(tmp_path), {"hardware": {"cpu": {"model": "Epyc"}}, "software": {"torch": "2.0"}}
    two = build_ranks(tmp_path, "two", [always(**ALONE)] * 2, **other)
    with pytest.raises(ComparisonError, match=r"differ in CPU: Xeon \(run one\); Epyc \(run two\).*--force"):
        scaling([one, two])
    assert "The runs differ in CPU: Xeon (run one); Epyc (run two)." in scaling([one, two], None, True).notes


def test_runs_that_cannot_be_compared(tmp_path):
    """One size, or no step: what is missing is said."""
    one = one_rank(tmp_path)
    with pytest.raises(ComparisonError, match=r"got 1 run at one world size \(1\)"):
        scaling([one, one])
    with pytest.raises(ComparisonError, match="run none has no training step"):
        scaling([one, build_ranks(tmp_path, "none", [always()] * 2, steps=0)])


seconds = st.floats(0, 10)
OWN = ("input", "compute", "communication", "imbalance", "launch", "optimizer", "step", "outside", "phase:own")
classes = st.fixed_dictionaries({}, optional=dict.fromkeys(OWN, seconds))


@st.composite
def states(draw, workers):
    """A steady state with any classes; forward is a part of compute, or not known."""
    times = draw(classes) | {"step": draw(st.floats(1e-3, 10))}
    forward = draw(st.none() | st.floats(0, 1))
    forward_s = None if forward is None else forward * times.get("compute", 0.0)
    return MeanStep(
        workers, workers, 50, math.fsum(times.values()), draw(st.floats(1, 1e4)), None, times, forward_s, 0.0
    )


@given(states(1), states(4))
def test_the_parts_add_up_to_all_that_is_lost(baseline, run):
    """Whatever the classes: the step less what it would take at the baseline's rate."""
    lost = lost_time(baseline, run, SAMPLES)
    ideal = run.samples / (4 * baseline.samples / baseline.step_s)
    assert run.step_s - ideal == pytest.approx(math.fsum(lost.values()), abs=1e-9 * (run.step_s + ideal))
    assert set(lost) <= set(ALL_PARTS)


@pytest.mark.parametrize(
    ("what", "part"), [*PARTS.items(), ("step", "other"), ("outside", "other"), ("phase:a", "other")]
)
def test_each_class_is_its_part(what, part):
    """A second more of a class is a second lost to its part, and to no other."""
    times = dict.fromkeys((*PARTS, "step"), 1.0)
    baseline = MeanStep(1, 1, 50, 7.0, 32.0, None, times, None, 0.0)
    run = MeanStep(2, 2, 50, 8.0, 64.0, None, times | {what: times.get(what, 0.0) + 1}, None, 0.0)
    assert dict.fromkeys(ALL_PARTS, 0.0) | {part: 1.0} == pytest.approx(lost_time(baseline, run, SAMPLES))


def test_a_part_that_nobody_recorded_is_not_there(tmp_path):
    """Steps without phases: what is lost is other, and that communication is not seen is said."""
    runs = [build_ranks(tmp_path, f"of-{size}", [always(gap=9 + size)] * size) for size in (1, 2)]
    found = scaling(runs)
    assert {"other": 1} == lost_ms(found)
    assert any("communication inside backward is not seen" in note for note in found.notes)


def test_the_gpus_times_are_compared_where_they_are_known(tmp_path):
    """Backward is a launch to the host; on the GPU the first rank waits 6 ms in each of the timed steps."""
    for rank, backward in ((0, 14), (1, 8)):
        builder = LogBuilder(tmp_path, "gpu", rank)
        for number in range(40):
            write_step(builder, number, ALONE, 32)
            if number % 4 == 0:
                builder.gpu(number, {"forward": 4 * MS, "backward": backward * MS})
    waiting = summarize_run(find_run(tmp_path, "gpu")).imbalance
    assert (True, 10, 1, {0: pytest.approx(0.006), 1: 0}) == (
        waiting.on_gpu, waiting.steps, waiting.last_rank, waiting.waits_s
    )  # fmt: skip


def test_collectives_count_once(tmp_path):
    """One in forward is waiting, one of its own too, one inside backward is backward's."""
    builder = LogBuilder(tmp_path)
    phases = [("forward", 0, 4 * MS), ("collective", MS, 2 * MS, 1), ("backward", 4 * MS, 8 * MS),
              ("collective", 5 * MS, 3 * MS, 1), ("collective", 12 * MS, 5 * MS)]  # fmt: skip
    builder.step(0, 20 * MS, phases)
    assert [2 * MS + 8 * MS + 5 * MS] == host_meetings(builder.log).times_ns.tolist()


def test_steps_that_not_all_ranks_have_are_not_compared(tmp_path):
    """One rank is further, one began later: of the shared ones only what each waits is known."""
    first = Meetings(0, np.arange(0, 10), np.full(10, 5e6))
    second = Meetings(1, np.arange(5, 20), np.full(15, 2e6))
    found = compare([first, second])
    assert (5, {0: pytest.approx(0.003), 1: 0}) == (found.steps, found.waits_s)
    assert compare([first, Meetings(1, np.arange(50, 60), np.full(10, 5e6))]) is None


def test_the_same_training_in_all_is_said(tmp_path):
    """Weak scaling by its batches, but half the steps: the speed-up is that of the training."""
    two = build_ranks(tmp_path, "two", [always(**ALONE)] * 2, steps=40)
    found = scaling([build_ranks(tmp_path, "one", [always(**ALONE)], steps=80), two])
    said = "All runs trained 2,560 samples, so the speed-up is that of the whole training, too."
    assert (WEAK, True) == (found.kind, said in found.notes)


@given(st.integers(1, 4096), st.integers(1, 64), st.sampled_from([STRONG, WEAK]))
def test_strong_and_weak_are_told_apart_by_the_batch(batch, size, law):
    """The same for all ranks together is strong, the same for each is weak."""
    one = MeanStep(1, 1, 50, 1.0, float(64 * batch), None, {}, None, 0.0)
    samples = 64 * batch * (1 if law == STRONG else 2 * size)
    many = MeanStep(2 * size, 2 * size, 50, 1.0, float(samples), None, {}, None, 0.0)
    assert law == kind_of([one, many], SAMPLES)[0]
