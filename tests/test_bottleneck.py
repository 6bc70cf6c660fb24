"""What bounds a run: the word, the sentence, and the shares it rests on."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_builder import MS, SECOND, LogBuilder

from otel_train import names
from otel_train.derive.bottleneck import Verdict, judge, verdict_of
from otel_train.derive.evidence import Evidence, class_times
from otel_train.derive.outside import outermost, outside_times
from otel_train.derive.phases import PhaseTotal
from otel_train.derive.scan import scan_rank
from otel_train.derive.steps import FEW_STEPS
from otel_train.runlog.storage import Memory


def judged(parts: list[tuple[Any, ...]], steps: int = 30, gap_ns: int = 0, **identity: Any) -> Verdict:
    """The verdict on equal steps of 100 ms with such phases, and a gap after each."""
    builder = LogBuilder(Path(), storage=Memory(), **identity)
    for number in range(steps):
        builder.step(number, 100 * MS, parts)
        builder.end_ns += gap_ns
    return judge([scan_rank(builder.log)])


WAIT, WORK = ("data_wait", 0, 63 * MS), ("forward", 63 * MS, 30 * MS)


def test_waiting_for_data_is_input() -> None:
    """The sentence has the word, the share and what to do."""
    verdict = judged([WAIT, WORK])
    assert "input" == verdict.verdict
    assert verdict.sentence.startswith("input: 63 % of the step time is spent waiting for data.")
    assert "num_workers" in verdict.sentence
    assert pytest.approx(0.63) == verdict.share


def test_input_is_named_before_larger_parts_that_training_needs() -> None:
    """A quarter of the time spent waiting is what can be won, although forward and backward take more."""
    parts = [("data_wait", 0, 30 * MS), ("forward", 30 * MS, 30 * MS), ("backward", 60 * MS, 40 * MS)]
    assert "input" == judged(parts).verdict


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([("data_wait", 0, 5 * MS), ("forward", 5 * MS, 35 * MS), ("backward", 40 * MS, 50 * MS)], "compute"),
        ([("forward", 0, 20 * MS), ("optimizer", 20 * MS, 70 * MS)], "optimizer"),
        ([("collective", 0, 70 * MS)], "communication"),
        ([("checkpoint", 0, 70 * MS)], "checkpoint"),
        ([("data_wait", 0, 5 * MS)], "step"),
        ([("tokenize", 0, 70 * MS), ("forward", 70 * MS, 30 * MS)], "phase"),
    ],
)
def test_the_largest_class_is_the_verdict(parts: list[tuple[Any, ...]], expected: str) -> None:
    """The sentence begins with the verdict's word."""
    verdict = judged(parts)
    assert expected == verdict.verdict
    assert verdict.sentence.startswith(f"{expected}: ")


def test_a_phase_of_the_scripts_own_is_named() -> None:
    """Its name is in the sentence and beside it."""
    verdict = judged([("tokenize", 0, 70 * MS)])
    assert ("tokenize", True) == (verdict.phase, "'tokenize'" in verdict.sentence)


def test_nested_phases_count_as_what_they_are() -> None:
    """A wait inside a micro-batch is input; a layer inside forward is compute; nothing counts twice."""
    inner = [("data_wait", 0, 30 * MS, 1), ("layer", 30 * MS, 20 * MS, 2), ("forward", 30 * MS, 40 * MS, 1)]
    verdict = judged([*inner, ("micro", 0, 80 * MS)])
    assert {"input": 0.3, "compute": 0.4, "phase:micro": 0.1, "step": 0.2} == pytest.approx(verdict.shares)


def test_time_between_steps_is_outside_and_suspects_an_untraced_loader() -> None:
    """Without any recorded wait the loader may be what is waited for; with one it is not."""
    untraced = judged([("forward", 0, 100 * MS)], gap_ns=100 * MS)
    traced = judged([("data_wait", 0, MS), ("forward", MS, 99 * MS)], gap_ns=100 * MS)
    assert ("outside", "outside") == (untraced.verdict, traced.verdict)
    assert "trace_dataloader" in untraced.sentence
    assert "trace_dataloader" not in traced.sentence


@pytest.mark.parametrize(
    ("kind", "thread", "expected"),
    [
        (names.CHECKPOINT, None, "checkpoint"),
        (names.CHECKPOINT, "writer", "compute"),
        (names.EVALUATION_KIND, None, "evaluation"),
    ],
)
def test_what_keeps_the_training_thread_between_steps_is_told(kind: str, thread: str | None, expected: str) -> None:
    """A checkpoint beside the training bounds nothing."""
    builder = LogBuilder(Path(), storage=Memory())
    for number in range(30):
        builder.step(number, 100 * MS, [("data_wait", 0, MS), ("forward", MS, 99 * MS)])
        if number == 20:
            builder.event(kind, builder.end_ns, 9 * SECOND, thread=thread)
            builder.end_ns += 9 * SECOND if thread is None else 0
    assert expected == judge([scan_rank(builder.log)]).verdict


def test_input_inside_the_steps_is_told_beside_another_verdict() -> None:
    """An evaluation may take most of the run while the steps starve."""
    builder = LogBuilder(Path(), storage=Memory())
    for number in range(30):
        builder.step(number, 100 * MS, [WAIT, WORK])
    builder.event(names.EVALUATION_KIND, builder.end_ns, 60 * SECOND)
    builder.step(30, 100 * MS, [WAIT, WORK], start_ns=builder.end_ns + 60 * SECOND)
    verdict = judge([scan_rank(builder.log)])
    assert "evaluation" == verdict.verdict
    assert "input comes first: 63 %" in verdict.sentence


def test_the_first_steps_are_left_out_where_there_are_enough() -> None:
    """Five steps of compilation do not bound a run of thirty; of a run of ten they are told with a caveat."""
    for steps, expected, few in ((30, "input", False), (10, "compute", True)):
        builder = LogBuilder(Path(), storage=Memory())
        for number in range(steps):
            slow = number < 5
            parts = [("forward", 0, 10 * SECOND)] if slow else [WAIT, WORK]
            builder.step(number, 10 * SECOND if slow else 100 * MS, parts)
        verdict = judge([scan_rank(builder.log)])
        assert (expected, few) == (verdict.verdict, any("steps only" in caveat for caveat in verdict.caveats))


def test_on_a_gpu_the_sentence_says_that_phases_are_host_time() -> None:
    """Where a GPU is known, host time is no GPU time."""
    verdict = judged([WORK], hardware={"gpus": [{"model": "H200"}]})
    assert any("host time" in caveat for caveat in verdict.caveats)
    assert not any("host time" in caveat for caveat in judged([WORK]).caveats)


def test_without_steps_nothing_is_judged() -> None:
    """No share is made up."""
    verdict = judged([], steps=0)
    assert ("unknown", None, {}) == (verdict.verdict, verdict.share, verdict.shares)


def test_ranks_are_judged_together() -> None:
    """Two ranks that starve and one that does not: input, by the sum of their times."""
    scans = []
    for rank, parts in enumerate(([WAIT, WORK], [WAIT, WORK], [("forward", 0, 100 * MS)])):
        builder = LogBuilder(Path(), rank=rank, storage=Memory(), monotonic_ns=rank * 10**14)
        for number in range(30):
            builder.step(number, 100 * MS, parts)
        scans.append(scan_rank(builder.log))
    verdict = judge(scans)
    assert ("input", pytest.approx(0.42)) == (verdict.verdict, verdict.share)


def test_of_nested_intervals_the_outermost_counts() -> None:
    """A checkpoint that an evaluation saves is evaluation."""
    found = outermost({"checkpoint": [(2, 3), (11, 12)], "evaluation": [(0, 10)]})
    assert {"checkpoint": [(11, 12)], "evaluation": [(0, 10)]} == found


def test_only_what_lies_between_steps_is_outside_them() -> None:
    """Steps 0-10 and 30-40; an interval from 5 to 25 covers 15 of the 20 between them."""
    builder = LogBuilder(Path(), storage=Memory())
    for start in (0, 30):
        builder.step(start, 10 * SECOND, start_ns=start * SECOND)
    steps = scan_rank(builder.log).steps
    assert {"evaluation": 15.0, "outside": 5.0} == outside_times(steps, {"evaluation": [(5 * SECOND, 25 * SECOND)]})
    assert {"evaluation": 20.0, "outside": 0.0} == outside_times(steps, {"evaluation": [(-9 * SECOND, 99 * SECOND)]})


@given(
    st.dictionaries(
        st.sampled_from(["input", "compute", "optimizer", "checkpoint", "outside", "step", "phase:x"]),
        st.floats(0.001, 1e6),
        min_size=1,
    ),
    st.integers(1, 10**6),
)
def test_every_evidence_gives_a_sentence(times: dict[str, float], steps: int) -> None:
    """Whatever the shares, they sum to 1, the verdict is one of them, and something avoidable wins from 25 % on."""
    verdict = verdict_of(Evidence(steps, sum(times.values()), times, True, False))
    assert pytest.approx(1) == sum(verdict.shares.values())
    assert verdict.sentence.endswith(".")
    assert verdict.share == verdict.shares[f"phase:{verdict.phase}" if verdict.phase else verdict.verdict]
    avoidable = [verdict.shares.get(what, 0) for what in ("input", "checkpoint", "outside")]
    assert (max(avoidable) >= 0.25) == (verdict.verdict in ("input", "checkpoint", "outside")) or max(avoidable) == max(
        verdict.shares.values()
    )
    assert (steps <= FEW_STEPS) == bool(verdict.caveats)


def test_classes_take_what_is_left_of_a_phase_without_those_inside() -> None:
    """Deeper phases inherit the class of the nearest one that is known; one whose place is lost counts for none."""
    table = {
        (0, None, "forward"): PhaseTotal(10),
        (1, "forward", "block"): PhaseTotal(8),
        (2, "block", "optimizer"): PhaseTotal(3),
        (1, None, "lost"): PhaseTotal(1),
    }
    assert {"compute": 7.0, "optimizer": 3.0} == class_times(table)
