"""The report's figures, each against numbers worked out by hand or by other hands' code."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightning.fabric.utilities.throughput import Throughput
from log_builder import MS, SECOND, LogBuilder

from otel_train import names
from otel_train.derive import catalogue
from otel_train.derive.distribution import LINEAR, LOGARITHMIC, MOST_BINS
from otel_train.derive.summary import RunSummary, Summary, summarize_run
from otel_train.derive.writer_queue import most_at_once
from otel_train.resource_names import series
from otel_train.runlog.layout import EVALUATION, QUEUE_SHIFT
from otel_train.runlog.runs import Run


def summary(builder: LogBuilder) -> RunSummary:
    """Of the run that a builder's rank belongs to."""
    return summarize_run(Run(builder.path.parent))


def steps_of(directory: Path, durations_ns: list[int], waits_ns: list[int] | None = None) -> LogBuilder:
    """Steps one after the other, each with its wait."""
    builder = LogBuilder(directory)
    for number, duration_ns in enumerate(durations_ns):
        builder.step(number, duration_ns, [("data_wait", 0, waits_ns[number])] if waits_ns else ())
    return builder


# -- oracles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_percentiles_are_numpys(tmp_path: Path, seed: int) -> None:
    """Of step times exactly; of waits to the precision of the 32-bit numbers that they are recorded as."""
    rng = np.random.default_rng(seed)
    durations = np.exp(rng.normal(17, 0.7, 3001)).astype(np.int64)
    waits = (durations * rng.uniform(0, 1, 3001)).astype(np.int64)
    merged = summary(steps_of(tmp_path, durations.tolist(), waits.tolist())).merged
    assert merged.step_time is not None
    assert merged.starvation is not None
    expected = np.percentile(durations / 1e9, (50, 95, 99))
    assert pytest.approx(expected, rel=1e-12) == (
        merged.step_time.p50_s,
        merged.step_time.p95_s,
        merged.step_time.p99_s,
    )
    assert pytest.approx(np.percentile(waits / 1e9, 95), rel=1e-6) == merged.starvation.p95_s
    assert pytest.approx(waits.mean() / 1e9, rel=1e-6) == merged.starvation.mean_s


def test_throughput_is_lightnings(tmp_path: Path) -> None:
    """``lightning.fabric``'s ``Throughput`` over a window of all steps, fed with each step's end and the totals so far.

    It measures from the end of the window's first step, which it therefore does not count; so it is given the moment
    at which the first step began as an update of nothing.
    """
    rng = np.random.default_rng(0)
    builder, oracle = LogBuilder(tmp_path), Throughput(window_size=501)
    oracle.update(time=0.0, batches=0, samples=0, lengths=0)
    samples = tokens = 0
    for number in range(500):
        batch, length = int(rng.integers(1, 64)), int(rng.integers(10, 4000))
        builder.step(number, int(rng.uniform(1, 90) * MS), samples=batch, tokens=length)
        samples, tokens = samples + batch, tokens + length
        oracle.update(time=builder.end_ns / 1e9, batches=number + 1, samples=samples, lengths=tokens)
        builder.end_ns += int(rng.uniform(0, 5) * MS) * (number < 499)
    told, run = oracle.compute(), summary(builder)
    expected = [told["device/batches_per_sec"], told["device/samples_per_sec"], told["device/items_per_sec"]]
    measures = ("steps_per_second", "samples_per_second", "tokens_per_second")
    assert pytest.approx(expected, rel=1e-12) == [catalogue.find(name).of(run) for name in measures]


# -- step time ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=300), st.integers(0, 4))
def test_a_distribution_holds_every_step(durations: list[int], spread: int) -> None:
    """Bins rise, hold what lies in them, and what they leave out at either end is at most 1 in 100, and counted."""
    from otel_train.clock import Anchor
    from otel_train.derive.distribution import distribution
    from otel_train.derive.steps import StepScan

    values = np.array(durations, np.int64) // 10 ** (3 * spread) + 1
    found = distribution([StepScan(0, Anchor(0, 0), {}, durations_ns=values)])
    assert found is not None
    assert len(values) == sum(found.counts) + found.shorter + found.longer
    assert len(found.counts) <= MOST_BINS
    assert len(found.edges_s) == len(found.counts) + 1
    assert sorted(found.edges_s) == found.edges_s
    assert max(found.shorter, found.longer) <= max(len(values) * 0.01, 1)
    inside = values[(values / 1e9 >= found.edges_s[0]) & (values / 1e9 <= found.edges_s[-1])]
    assert len(inside) == sum(found.counts)


def test_bins_are_as_the_times_are(tmp_path: Path) -> None:
    """Equal ones where times are alike, growing ones where they differ tenfold; one long first step moves nothing."""
    rng = np.random.default_rng(0)
    alike = [9 * SECOND, *(rng.normal(100, 3, 999) * MS).astype(int).tolist()]
    apart = np.exp(rng.normal(18, 1.2, 1000)).astype(int).tolist()
    near, far = (
        summary(steps_of(tmp_path / name, each)).merged.distribution
        for name, each in zip("ab", (alike, apart), strict=True)
    )
    assert near is not None
    assert far is not None
    assert (LINEAR, 1, LOGARITHMIC) == (near.scale, near.longer, far.scale)
    assert near.edges_s[-1] < 0.2


def test_steps_that_are_all_alike_have_one_bin(tmp_path: Path) -> None:
    """Its edges are their time."""
    found = summary(steps_of(tmp_path, [100 * MS] * 10)).merged.distribution
    assert found is not None
    assert ([0.1, 0.1], [10]) == (found.edges_s, found.counts)


# -- tokens and input --------------------------------------------------------------------------------------------------


def test_packing_of_steps(tmp_path: Path) -> None:
    """Over all, the lowest, and those under 80 %; a step without tokens, or whose padding is not known, is none."""
    builder = LogBuilder(tmp_path)
    for number, padded in enumerate((0, 10, 20, 21, 50)):
        builder.step(number, MS, tokens=100, padded_tokens=padded)
    builder.step(5, MS, tokens=0, padded_tokens=0)
    builder.step(6, MS, tokens=100)
    packing = summary(builder).merged.packing
    assert packing is not None
    assert (5, pytest.approx(0.798), 0.5, 0.4) == (
        packing.steps,
        packing.efficiency,
        packing.minimum,
        packing.low_share,
    )


def loader_event(builder: LogBuilder, workers: int, prefetch: int = 2, at_ns: int = 0) -> None:
    """What a training loader's workers told."""
    attributes = {names.LOADER_WORKERS: workers, names.LOADER_PREFETCH: prefetch, names.LOADER_TRAINS: True}
    builder.event(names.DATA_LOADER, at_ns, attributes=attributes | {names.LOADER_BATCHES: 8})


def test_queue_states(tmp_path: Path) -> None:
    """Two workers may have four batches ready; a step that does not know, and one of an evaluation, do not count."""
    builder = LogBuilder(tmp_path)
    loader_event(builder, workers=2)
    for number, ready in enumerate((0, 0, 1, 4)):
        builder.step(number, MS, flags=(ready + 1) << QUEUE_SHIFT)
    builder.step(4, MS)
    builder.step(5, MS, flags=1 << QUEUE_SHIFT | EVALUATION)
    queue = summary(builder).merged.queue
    assert queue is not None
    assert (4, 1.25, 0.5, 0.25, 4, [2, 1, 0, 0, 1]) == (
        queue.steps, queue.mean, queue.empty_share, queue.full_share, queue.capacity, queue.counts
    )  # fmt: skip


def test_a_full_queue_needs_to_know_its_size(tmp_path: Path) -> None:
    """Nobody told of workers: how many steps found it full is not known."""
    builder = LogBuilder(tmp_path)
    builder.step(0, MS, flags=3 << QUEUE_SHIFT)
    queue = summary(builder).merged.queue
    assert queue is not None
    assert (2.0, None, None) == (queue.mean, queue.full_steps, queue.full_share)


# -- the machine -------------------------------------------------------------------------------------------------------


def machine(directory: Path, rank: int) -> LogBuilder:
    """20 s of steps, sampled each 5 s; both ranks see both GPUs, and each trains on its own."""
    builder = LogBuilder(directory, rank=rank)
    for number in range(200):
        builder.step(number, 100 * MS)
    for index in range(5):
        row = {series("process.memory.usage"): 1e9 + rank, series("system.memory.linux.available"): 9e9 - index * 1e9}
        row[series("system.memory.usage", system__memory__state="cached")] = index * 1e9
        row[series("otel_train.process.children.memory.usage")] = 2e9
        for gpu in (0, 1):
            own = {"otel_train__gpu__own": "true"} if gpu == rank else {}
            device = {"hw__id": f"GPU-{gpu}", "hw__name": f"GPU {gpu}", "hw__type": "gpu"} | own
            row[series("hw.gpu.utilization", **device)] = 0.5 + gpu / 4
            row[series("hw.energy", **device)] = 100.0 * (gpu + 1) * 5 * index
            row[series("hw.temperature", hw__sensor_location="gpu", **device)] = 60.0 + index
            row[series("hw.temperature", hw__sensor_location="memory", **device)] = 90.0
        builder.resources(index * 5 * SECOND, row)
    return builder


def test_each_gpu_by_itself(tmp_path: Path) -> None:
    """Two ranks that both see two GPUs have two, not four: each with its own figures."""
    machine(tmp_path, 0)
    found = summary(machine(tmp_path, 1)).merged.devices
    assert [("GPU-0", True, 0.5, 64.0, 200.0), ("GPU-1", True, 0.75, 64.0, 400.0)] == [
        (each.id, each.own, each.utilization, each.temperature_max_c, each.watts and each.watts * 2) for each in found
    ]


def test_energy_is_what_the_counter_rose_by_while_it_trained(tmp_path: Path) -> None:
    """From the first sample after the warm-up to the last one: what went before is not the training's."""
    device = summary(machine(tmp_path, 0)).merged.devices[0]
    assert (1500.0, 15.0) == (device.energy_j, device.energy_s)


def test_where_memory_went(tmp_path: Path) -> None:
    """The highest rank's, the lowest that was available; what nobody sampled is not known."""
    machine(tmp_path, 0)
    memory = summary(machine(tmp_path, 1)).merged.memory
    assert (1e9 + 1, 2e9, 4e9, 5e9) == (
        memory.process_max, memory.workers_max, memory.page_cache_max, memory.available_min
    )  # fmt: skip
    assert (None, None) == (memory.gpu_peak, memory.swap_max)


def test_a_run_without_samples_has_no_machine(tmp_path: Path) -> None:
    """No GPU, no memory, no energy."""
    run = summary(steps_of(tmp_path, [MS] * 3))
    assert [] == run.merged.devices
    measures = ("energy", "gpu_power", "memory.process", "gpu_memory.share", "gpu_hours")
    assert [None] * len(measures) == [catalogue.find(name).of(run) for name in measures]


def test_a_table_is_the_rows(tmp_path: Path) -> None:
    """Empty cells, not-a-number, damaged lines: as arrays as by rows. A column that is new begins a new file."""
    builder = LogBuilder(tmp_path)
    one, two = series("process.cpu.time"), series("process.thread.count")
    builder.resources(0, {one: 1.5})
    builder.resources(SECOND, {one: 2.5, two: 7.0})
    builder.resources(2 * SECOND, {two: 8.0})
    text = builder.storage.read("resources-00000001.csv") + b"1735689603.000,bad,1\n1735689604,9,nan\n1735689605,1"
    builder.storage.replace("resources-00000001.csv", text)
    rows = {time_s: row for time_s, row, _ in builder.log.resources()}
    by_table = {
        time_s: {key: value for key, value in zip(table.series, values, strict=True) if not np.isnan(value)}
        for table in builder.log.resource_tables()
        for time_s, values in zip(table.times_s.tolist(), table.values.tolist(), strict=True)
    }
    assert rows == by_table
    assert [1.5, 2.5, 9.0] == [row[one] for row in by_table.values() if one in row]


# -- checkpoints -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("staged", "written", "most"),
    [
        ([], [], 0),
        ([(0, 1), (10, 11)], [(1, 5), (11, 15)], 1),
        ([(0, 1), (4, 5), (8, 9)], [(1, 6), (6, 12), (12, 20)], 2),
        ([(0, 1), (2, 3), (4, 5)], [(1, 10), (10, 20), (20, 30)], 3),
        ([(0, 1)], [], 1),
        ([], [(0, 4), (2, 6), (6, 8)], 2),
    ],
    ids=["none", "one-by-one", "one-waits", "two-wait", "killed-before-it-was-written", "not-staged"],
)
def test_depth_of_the_writers_queue(staged: list[tuple[int, int]], written: list[tuple[int, int]], most: int) -> None:
    """A save counts from the start of its staging to the end of its writing, also while it waits for the writer."""
    assert most == most_at_once(staged, written)


def checkpointed(directory: Path) -> Summary:
    """100 s: 80 s of steps, and two checkpoints of 5 s and 15 s between them, the last step after them."""
    builder = LogBuilder(directory)
    attributes = {names.CHECKPOINT_KIND: "save"}
    for number in range(80):
        builder.step(number, SECOND)
        if number in (20, 40):
            long_ns = (5 if number == 20 else 15) * SECOND
            builder.event(names.CHECKPOINT, builder.end_ns, long_ns, step=number, attributes=attributes)
            builder.end_ns += long_ns
    builder.event(names.CHECKPOINT, builder.end_ns, SECOND, step=79, attributes=attributes)
    return summary(builder).merged


def test_checkpoints_share_of_the_run(tmp_path: Path) -> None:
    """A fifth: the one after the last step keeps no step waiting. None of them is asynchronous."""
    found = checkpointed(tmp_path)
    assert (0.2, 15.0, 3, 0) == (
        found.checkpoint_share, found.checkpoints["save"].longest_s, found.checkpoints["save"].count,
        found.checkpoints["save"].most_at_once,
    )  # fmt: skip


# -- the course --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 7, 240, 241, 9000])
def test_a_course_adds_up(tmp_path: Path, steps: int) -> None:
    """Its parts hold every step, sample and second once, whatever their number; evaluation steps are in none."""
    rng = np.random.default_rng(steps)
    builder = LogBuilder(tmp_path)
    durations = rng.integers(1, 50, steps) * MS
    for number, duration_ns in enumerate(durations.tolist()):
        builder.step(number + 1, duration_ns, [("forward", 0, duration_ns // 4)], samples=number % 5)
        if number % 10 == 0:
            builder.step(number + 1, MS, flags=EVALUATION)
    course = summary(builder).merged.course
    assert course is not None
    assert (steps, 1) == (int(course.steps.sum()), int(course.first_steps[0]))
    assert np.array_equal(course.first_steps, 1 + np.concatenate(([0], np.cumsum(course.steps)[:-1])))
    assert sum(number % 5 for number in range(steps)) == pytest.approx(course.samples.sum())
    assert durations.sum() / 1e9 == pytest.approx(course.stepping_s.sum())
    assert course.stepping_s.sum() / 4 == pytest.approx(course.phases_s["forward"].sum(), rel=1e-6)
    assert course.stepping_s == pytest.approx(sum(course.phases_s.values()))
    parts = np.split(durations / 1e9, np.cumsum(course.steps)[:-1])
    assert [float(np.median(part)) for part in parts] == pytest.approx(course.p50_s.tolist())
    assert [float(part.max()) for part in parts] == pytest.approx(course.max_s.tolist())
