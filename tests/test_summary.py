"""The measures of a run, from real logs with numbers known in advance."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_builder import EPOCH_2025_NS, MS, SECOND, LogBuilder

from otel_train import names
from otel_train.derive.measures import Rate
from otel_train.derive.scan import scan_rank
from otel_train.derive.summary import RunSummary, Summary, overall_state, summarize, summarize_run
from otel_train.errors import RunLogError, UnknownFormat
from otel_train.runlog.layout import EVALUATION, FAILED, MERGED
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.runs import Run
from otel_train.runlog.storage import Memory


def summary_of(*builders: LogBuilder) -> Summary:
    return summarize([scan_rank(builder.log) for builder in builders])


def test_throughput_is_told_over_the_run_and_inside_steps(tmp_path: Path) -> None:
    """Ten steps of 10 ms with 10 ms between them: 100 ms inside steps, 190 ms from first start to last end."""
    builder = LogBuilder(tmp_path)
    for number in range(10):
        builder.step(number, 10 * MS, samples=19, tokens=190, start_ns=number * 20 * MS)
    summary = summary_of(builder)
    assert pytest.approx(10 / 0.19) == summary.steps_per_s.wall
    assert pytest.approx(100) == summary.steps_per_s.stepping
    assert pytest.approx(1000) == summary.samples_per_s.wall
    assert pytest.approx(1900) == summary.samples_per_s.stepping
    assert pytest.approx(19000) == summary.tokens_per_s.stepping
    assert summary.span is not None
    assert pytest.approx(0.19) == summary.span.wall_s
    assert pytest.approx(0.09) == summary.span.outside_s
    assert pytest.approx(9 / 19) == summary.span.outside_share
    assert summary.span.first_unix_s == EPOCH_2025_NS / 1e9


def test_samples_that_nobody_counted_are_missing_and_not_zero(tmp_path: Path) -> None:
    """Without a count there is no rate and no total; with some, the others are taken to be alike."""
    builder = LogBuilder(tmp_path)
    builder.step(0, 10 * MS)
    builder.step(1, 10 * MS, samples=5)
    summary = summary_of(builder)
    assert Rate(None, None) == summary.tokens_per_s
    assert summary.counts.tokens is None
    assert summary.counts.samples == 5
    assert pytest.approx(500) == summary.samples_per_s.stepping
    assert summary.packing_efficiency is None


def test_packing_efficiency_is_of_the_steps_where_padding_is_known(tmp_path: Path) -> None:
    """1 - 30/100: the step with tokens but unknown padding does not count."""
    builder = LogBuilder(tmp_path)
    builder.step(0, MS, tokens=100, padded_tokens=30)
    builder.step(1, MS, tokens=900)
    assert pytest.approx(0.7) == summary_of(builder).packing_efficiency


def test_step_times_are_exact_percentiles(tmp_path: Path) -> None:
    """Steps of 1 to 100 ms: numpy's linear percentiles of those very numbers."""
    builder = LogBuilder(tmp_path)
    for number in range(100):
        builder.step(number, (number + 1) * MS)
    times = summary_of(builder).step_time
    assert times is not None
    assert pytest.approx((0.0505, 0.05050, 0.09505, 0.09901, 0.1, 0.001)) == (
        times.mean_s, times.p50_s, times.p95_s, times.p99_s, times.max_s, times.min_s
    )  # fmt: skip


def test_phases_are_shares_of_the_step_time_and_the_rest_is_other(tmp_path: Path) -> None:
    """40 % waiting, 50 % forward, in no phase the last 10 %; nested phases stand below theirs and add nothing."""
    builder = LogBuilder(tmp_path)
    for number in range(4):
        phases = [("data_wait", 0, 4 * MS), ("attention", 5 * MS, 3 * MS, 1), ("forward", 4 * MS, 5 * MS)]
        builder.step(number, 10 * MS, phases)
    shares = summary_of(builder).phases
    found = {(each.depth, each.parent, each.name): (round(each.share, 9), each.count) for each in shares}
    assert {
        (0, None, "forward"): (0.5, 4),
        (0, None, "data_wait"): (0.4, 4),
        (0, None, "other"): (0.1, None),
        (1, "forward", "attention"): (0.3, 4),
    } == found


def test_a_nested_phase_is_told_apart_by_the_phase_it_lies_in(tmp_path: Path) -> None:
    """The same name inside forward and inside backward is two lines; order in the record does not matter."""
    builder = LogBuilder(tmp_path)
    slots = [
        ("forward", 0, 4 * MS), ("backward", 4 * MS, 4 * MS),
        ("layer", 0, 1 * MS, 1), ("layer", 4 * MS, 2 * MS, 1), ("matmul", 5 * MS, 1 * MS, 2),
    ]  # fmt: skip
    builder.step(0, 8 * MS, slots, flags=MERGED)
    nested = {(share.parent, share.name): share.time_s for share in summary_of(builder).phases if share.depth}
    assert {("forward", "layer"): 0.001, ("backward", "layer"): 0.002, ("layer", "matmul"): 0.001} == nested


def test_starvation_counts_steps_that_waited_more_than_half_their_time(tmp_path: Path) -> None:
    """6 of 10 ms starves, 5 of 10 does not; waits at any depth count, and never for more than the step."""
    builder = LogBuilder(tmp_path)
    builder.step(0, 10 * MS, [("data_wait", 0, 6 * MS)])
    builder.step(1, 10 * MS, [("data_wait", 0, 5 * MS)])
    builder.step(2, 10 * MS, [("data_wait", 0, 2 * MS, 1), ("data_wait", 0, 2 * MS), ("data_wait", 0, 16 * MS)])
    starvation = summary_of(builder).starvation
    assert starvation is not None
    assert (2, pytest.approx(0.021), pytest.approx(0.7)) == (
        starvation.starved_steps, starvation.data_wait_s, starvation.share
    )  # fmt: skip


def test_no_recorded_wait_is_not_the_same_as_no_wait(tmp_path: Path) -> None:
    """A run without a traced loader has no starvation figure."""
    builder = LogBuilder(tmp_path)
    builder.step(0, 10 * MS)
    assert summary_of(builder).starvation is None


def test_evaluation_steps_are_no_training_steps(tmp_path: Path) -> None:
    """They are counted apart and touch no training figure."""
    builder = LogBuilder(tmp_path)
    builder.step(0, 10 * MS, samples=1)
    builder.step(0, 500 * MS, samples=999, flags=EVALUATION)
    builder.step(1, 10 * MS, samples=1)
    summary = summary_of(builder)
    assert (2, 1) == (summary.counts.training, summary.counts.evaluation)
    assert summary.step_time is not None
    assert summary.step_time.max_s == 0.01
    assert summary.evaluation_s == 0.5
    assert summary.counts.samples == 2


def test_the_slowest_steps_say_when_and_in_which_phase(tmp_path: Path) -> None:
    """Five of many, over segments, the slowest first, each with the phase that took most of it."""
    builder = LogBuilder(tmp_path)
    for number in range(9000):
        slow = number in (3, 8500)
        duration = 50 * MS + number if slow else MS + number
        builder.step(number, duration, [("optimizer", 0, 40 * MS if number == 3 else 100)])
    first, second, third, *_ = summary = summary_of(builder).slowest
    assert 5 == len(summary)
    assert (8500, "other", 3, "optimizer", 8999) == (first.step, first.phase, second.step, second.phase, third.step)
    assert pytest.approx(0.04) == second.phase_s
    assert pytest.approx(EPOCH_2025_NS / 1e9 + 0.003) == second.start_unix_s


def test_failed_steps_carry_the_type_of_their_error_once(tmp_path: Path) -> None:
    """An error that left a phase and then its step is one; an error caught inside the step is its own."""
    builder = LogBuilder(tmp_path)
    builder.step(0, MS, flags=FAILED)
    error = {"type": "ValueError", "message": "bad"}
    builder.event(names.ERROR, 0, step=0, error=error, attributes={names.PHASE: "forward"})
    builder.event(names.ERROR, 1, step=0, error=error)
    builder.event(names.ERROR, 2, step=1, error={"type": "KeyError", "message": "k"}, attributes={names.PHASE: "loss"})
    summary = summary_of(builder)
    assert (1, [0]) == (summary.counts.failed, summary.failed_steps)
    assert [("KeyError", "loss", 1, 1), ("ValueError", None, 1, 0)] == [
        (each.type, each.phase, each.count, each.last_step) for each in summary.errors
    ]


def test_scalars_have_ends_extremes_and_a_count_of_what_is_not_finite(tmp_path: Path) -> None:
    """Not-a-number is counted and never taken for a value; a loss that ends so is said to."""
    builder = LogBuilder(tmp_path)
    for step, value in enumerate((4.0, 1.0, float("nan"), 2.0, float("inf"))):
        builder.scalar(step, value)
    builder.scalar(7, 3e-4, "learning_rate")
    scalars = summary_of(builder).scalars
    loss = scalars["loss"]
    assert ["loss", "learning_rate"] == list(scalars)
    assert (5, 2, 4.0, 2.0, 3, 1.0, 1, 4.0) == (
        loss.count, loss.nonfinite, loss.first, loss.last, loss.last_step, loss.min, loss.min_step, loss.max
    )  # fmt: skip
    assert not loss.last_is_finite
    assert scalars["learning_rate"].last_is_finite
    assert [4.0, 1.0, 2.0] == [value for value in loss.curve if value is not None]


def test_checkpoints_add_up_and_the_rate_is_of_those_with_a_size(tmp_path: Path) -> None:
    """Two saves with sizes and one without, one of them beside the training; the last one is named."""
    builder = LogBuilder(tmp_path)
    for start, thread, size in ((1, None, 100), (5, "writer", 300), (9, None, None)):
        attributes = {names.CHECKPOINT_KIND: "save", names.CHECKPOINT_PATH: f"/c/{start}.pt"}
        attributes |= {} if size is None else {names.CHECKPOINT_SIZE: size}
        builder.event(names.CHECKPOINT, start * SECOND, 2 * SECOND, step=start, thread=thread, attributes=attributes)
    total = summary_of(builder).checkpoints["save"]
    assert (3, 6.0, 4.0, 400, 100.0) == (total.count, total.time_s, total.blocking_s, total.size_bytes, total.rate)
    assert ("/c/9.pt", 9, None, EPOCH_2025_NS / 1e9 + 9) == (
        total.last_path, total.last_step, total.last_size_bytes, total.last_unix_s
    )  # fmt: skip


def test_rare_events_are_counted_by_kind_and_name(tmp_path: Path) -> None:
    """Epochs, evaluations, timed functions, phases outside steps, and kinds that this version does not know."""
    builder = LogBuilder(tmp_path)
    builder.event(names.EPOCH, 0, 4 * SECOND, attributes={names.EPOCH_NUMBER: 2})
    builder.event(names.EVALUATION_KIND, 0, SECOND, attributes={names.EVALUATION_NAME: "validation"})
    builder.event(names.TIMED, 0, SECOND, attributes={names.TIMED_NAME: "prepare"}, error={"type": "E", "message": ""})
    builder.event(names.PHASE_EVENT, 0, SECOND, attributes={names.PHASE: "warm", names.PHASE_COUNT: 3})
    builder.event("future", 0)
    builder.event(names.HEALTH, 0, attributes={names.OVERHEAD_TRAINING: 0.5, names.RECORDS_DROPPED: 2})
    summary = summary_of(builder)
    assert (1, 4.0, 2) == (summary.epochs.count, summary.epochs.time_s, summary.last_epoch)
    assert {"validation": 1} == {name: total.count for name, total in summary.evaluations.items()}
    assert (1, 1) == (summary.timed["prepare"].count, summary.timed["prepare"].failed)
    assert (3, 1.0) == (summary.outside_phases["warm"].count, summary.outside_phases["warm"].time_s)
    assert ["future"] == list(summary.other_events)
    assert (0.5, 2) == (summary.overhead_s, summary.records_dropped)


def test_resources_are_the_highest_of_each_column_and_an_empty_cell_is_no_sample(tmp_path: Path) -> None:
    """A column that was never filled is missing; a line still being written does not count."""
    builder = LogBuilder(tmp_path)
    content = b"unix_s,process.memory.usage,torch.cuda.memory.peak\n1,100,\n2,300,\n3,200,\n4,9"
    builder.storage.replace("resources.csv", content)
    resources = summary_of(builder).resources
    assert ["process.memory.usage"] == list(resources)
    usage = resources["process.memory.usage"]
    assert (300, 200, 200) == (usage.max, usage.last, usage.mean)


def test_steps_that_left_the_disk_are_counted(tmp_path: Path) -> None:
    """The log keeps a bounded number; the summary says how many are gone."""
    builder = LogBuilder(tmp_path, budget=2 << 20)
    for number in range(8191 * 3 + 1):
        builder.step(number, 1000)
    counts = summary_of(builder).counts
    assert counts.lost + counts.training == 8191 * 3 + 1
    assert counts.lost == 8191 * 2
    assert (counts.lost, 8191 * 3) == (counts.first_step, counts.last_step)


def test_an_empty_log_has_nothing_but_nulls() -> None:
    """A run that died before its first step can be reported, and no figure is made up."""
    summary = summary_of(LogBuilder(Path(), storage=Memory()))
    assert (None, None, None, [], [], None) == (
        summary.span, summary.step_time, summary.starvation, summary.phases, summary.slowest, summary.counts.samples
    )  # fmt: skip
    assert Rate(None, None) == summary.steps_per_s
    assert "unknown" == summary.verdict.verdict


def two_ranks(directory: Path) -> RunSummary:
    """Rank 1 is half as fast, and its monotonic clock began at another time."""
    for rank, duration in ((0, 10 * MS), (1, 20 * MS)):
        builder = LogBuilder(directory, rank=rank, monotonic_ns=rank * 10**15, end={"unix_ns": 1})
        for number in range(10):
            builder.step(number, duration, [("forward", 0, duration)], samples=8, epoch=rank)
        builder.event(names.CHECKPOINT, rank * 10**15, SECOND, attributes={names.CHECKPOINT_SIZE: 10})
        builder.scalar(3, 1.0 + rank)
    return summarize_run(Run(directory / "run-a"))


def test_ranks_are_read_as_one_run(tmp_path: Path) -> None:
    """Samples add up over the time of the slowest rank; step times are pooled; each rank's clock has its own anchor."""
    run = two_ranks(tmp_path)
    merged = run.merged
    assert (0, 1) == merged.ranks
    assert pytest.approx((80 + 80) / 0.2) == merged.samples_per_s.wall
    assert pytest.approx(75) == merged.steps_per_s.wall
    assert merged.span is not None
    assert pytest.approx(0.2) == merged.span.wall_s
    assert merged.step_time is not None
    assert 0.015 == merged.step_time.p50_s
    assert 20 == merged.counts.training
    assert 1 == merged.last_epoch
    assert (2, 20) == (merged.checkpoints["save"].count, merged.checkpoints["save"].size_bytes)
    assert pytest.approx(0.3) == merged.phases[0].time_s
    assert 1.0 == merged.scalars["loss"].last


def test_the_slowest_rank_is_named_and_the_ranks_stay_as_they_are(tmp_path: Path) -> None:
    """Merging does not change what is told of each rank."""
    run = two_ranks(tmp_path)
    assert 1 == run.slowest_rank
    assert [1, 1] == [summary.checkpoints["save"].count for summary in run.ranks]
    assert [pytest.approx(800), pytest.approx(400)] == [summary.samples_per_s.wall for summary in run.ranks]
    assert "finished" == run.state


def test_a_rank_that_counts_no_samples_makes_the_sum_unknown(tmp_path: Path) -> None:
    """Half of the samples is not the run's throughput."""
    first, second = LogBuilder(tmp_path, rank=0), LogBuilder(tmp_path, rank=1)
    first.step(0, MS, samples=8)
    second.step(0, MS)
    assert Rate(None, None) == summary_of(first, second).samples_per_s


@pytest.mark.parametrize(
    ("states", "expected"),
    [(["finished", "died"], "died"), (["running", "failed"], "failed"), (["finished", "running"], "running")],
)
def test_the_state_of_a_run_is_the_most_telling_of_its_ranks(states: list[str], expected: str) -> None:
    """One rank that failed or died is the run's."""
    assert expected == overall_state(states)


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    """A newer log is not misread."""
    builder = LogBuilder(tmp_path)
    builder.save_identity(format_version=99)
    with pytest.raises(UnknownFormat, match="99"):
        summarize_run(Run(tmp_path / "run-a"))


def test_a_run_without_ranks_is_an_error(tmp_path: Path) -> None:
    """There is nothing to summarize."""
    with pytest.raises(RunLogError):
        summarize_run(Run(tmp_path))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 10**10), st.floats(0, 1)), min_size=1, max_size=60))
def test_measures_agree_with_plain_arithmetic(steps: list[tuple[int, float]]) -> None:
    """For any steps: shares of the phases and other sum to 1, percentiles and totals are those of the numbers."""
    builder = LogBuilder(Path(), storage=Memory())
    for number, (duration, part) in enumerate(steps):
        builder.step(number, duration, [("data_wait", 0, float(np.float32(duration * part)))], samples=number)
    summary = summary_of(builder)
    durations = [duration for duration, _ in steps]
    assert summary.step_time is not None
    assert summary.span is not None
    assert np.percentile(durations, 95) / 1e9 == summary.step_time.p95_s
    assert sum(durations) / 1e9 == summary.span.stepping_s
    assert sum(range(len(steps))) == summary.counts.samples
    assert pytest.approx(1, abs=1e-5) == sum(share.share for share in summary.phases if share.depth == 0)
    assert [] == [share for share in summary.phases if share.share < 0]


def test_reading_a_growing_log_takes_a_consistent_part(tmp_path: Path) -> None:
    """What is written while the report reads is left for the next one."""
    builder = LogBuilder(tmp_path)
    builder.step(0, MS)
    log = RankLog.open(builder.path)
    assert 1 == scan_rank(log).steps.count
    builder.step(1, MS)
    assert 2 == scan_rank(log).steps.count
