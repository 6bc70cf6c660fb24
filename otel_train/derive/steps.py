"""The steps of one rank, read once, a segment at a time: what the measures of ``summary`` are computed from.

Of a step in memory stay 20 bytes: its start, its time and its wait for data. Percentiles are exact for that.
"""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from otel_train.clock import Anchor
from otel_train.derive.course import Course, CourseSums
from otel_train.derive.epochs import EpochSteps
from otel_train.derive.packing import Packing
from otel_train.derive.phases import OTHER, PhaseTotals, phase_id, phase_name, used_slots
from otel_train.derive.queue_states import QueueCounts
from otel_train.runlog.layout import DATA_WAIT, EVALUATION, FAILED, MISSING
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.records import STEP, Records

Column: TypeAlias = np.ndarray[Any, np.dtype[Any]]

WARM_UP_STEPS = 5
"""The first steps of a run compile, fill caches and start workers: what bounds a run is judged without them."""

FEW_STEPS = 20
"""With fewer steps none is left out, and the verdict says how few there are."""

SLOWEST = 5
"""How many of the slowest steps are kept."""

MOST_FAILED = 1000
"""How many numbers of failed steps are kept; all of them are counted."""


@dataclass
class AmountTotal:
    """Samples, or tokens: their sum over the steps where they are known, and the time and number of those steps."""

    total: int = 0
    steps: int = 0
    time_ns: int = 0

    def add(self, amounts: Column, durations_ns: Column) -> None:
        """Add a segment's. ``layout.MISSING`` is not known, which is not zero."""
        known = amounts != MISSING
        self.total += int(amounts[known].sum(dtype=np.int64))
        self.steps += int(np.count_nonzero(known))
        self.time_ns += int(durations_ns[known].sum())


@dataclass(frozen=True)
class SlowStep:
    """One of the slowest steps: number, time, when it began, and the phase that took most of it."""

    step: int
    rank: int
    duration_s: float
    start_unix_s: float
    phase: str
    phase_s: float
    """Time in that phase; ``other`` stands for what was in no phase."""
    failed: bool


@dataclass
class StepScan:
    """What one rank's step records come to. Times are ns on the rank's monotonic clock."""

    rank: int
    anchor: Anchor
    phase_names: dict[int, str]
    durations_ns: Column = field(default_factory=lambda: np.empty(0, np.int64))
    starts_ns: Column = field(default_factory=lambda: np.empty(0, np.int64))
    waits_ns: Column = field(default_factory=lambda: np.empty(0, np.float32))
    """Of each training step the time, the start, and the wait for data (never more than the step's time)."""
    phases: PhaseTotals = field(default_factory=PhaseTotals)
    warm_up: PhaseTotals = field(default_factory=PhaseTotals)
    """The phases of all training steps, and of the first ``WARM_UP_STEPS`` alone."""
    samples: AmountTotal = field(default_factory=AmountTotal)
    tokens: AmountTotal = field(default_factory=AmountTotal)
    packing: Packing = field(default_factory=Packing)
    queue: QueueCounts = field(default_factory=QueueCounts)
    epochs: EpochSteps = field(default_factory=EpochSteps)
    course: Course | None = None
    """The training steps in parts; None without one."""
    slowest: list[SlowStep] = field(default_factory=list)
    failed_steps: list[int] = field(default_factory=list)
    """Numbers of the first failed training steps, at most ``MOST_FAILED``."""
    failed: int = 0
    evaluation_steps: int = 0
    evaluation_ns: int = 0
    lost: int = 0
    """Older steps that are no longer on disk: the log keeps a bounded number."""
    first_step: int | None = None
    last_step: int | None = None
    last_epoch: int | None = None

    @property
    def count(self) -> int:
        """Training steps recorded."""
        return len(self.durations_ns)

    @property
    def stepping_ns(self) -> int:
        """Time inside training steps."""
        return int(self.durations_ns.sum())

    @property
    def warmed_up(self) -> int:
        """How many training steps come before the first that is judged."""
        return WARM_UP_STEPS if self.count > FEW_STEPS else 0

    @property
    def trained_s(self) -> tuple[float, float] | None:
        """Unix time of the first judged step's start and of the last one's end; None without a step."""
        if not self.count:
            return None
        first, last = self.starts_ns[self.warmed_up], self.starts_ns[-1] + self.durations_ns[-1]
        return self.anchor.to_unix_ns(first) / 1e9, self.anchor.to_unix_ns(last) / 1e9

    @property
    def bounds_ns(self) -> tuple[int, int] | None:
        """Start of the first training step and end of the last; None without one."""
        if not self.count:
            return None
        return int(self.starts_ns[0]), int((self.starts_ns + self.durations_ns).max())


def scan_steps(log: RankLog, skipped: int = 0) -> StepScan:
    """Read the steps of a rank, without the first ``skipped`` training steps. Raises ``UnknownFormat``."""
    scan = StepScan(log.rank, log.anchor, log.names("phase"))
    reader = log.steps
    oldest, end = reader.bounds()
    scan.lost = oldest
    columns, course = _Columns(end - oldest), CourseSums(end - oldest)
    for first, records in reader.read():
        records = records[: max(end - first, 0)]  # the log may have grown since
        evaluation = (records["flags"] & EVALUATION) != 0
        if evaluation.any():
            scan.evaluation_steps += int(np.count_nonzero(evaluation))
            scan.evaluation_ns += int(records["duration_ns"][evaluation].sum())
            records = records[~evaluation]
        records, skipped = records[skipped:], max(skipped - len(records), 0)
        if len(records):
            _add_training_steps(scan, columns, records)
            course.add(records)
    scan.starts_ns, scan.durations_ns, scan.waits_ns = columns.filled()
    if scan.count:
        scan.course = course.finish(scan.starts_ns, scan.durations_ns, scan.phase_names, scan.warmed_up)
    return scan


def _add_training_steps(scan: StepScan, columns: "_Columns", records: Records) -> None:
    columns.add(records, phase_id(scan.phase_names, DATA_WAIT))
    if columns.count == len(records):  # the first segment
        scan.warm_up.add(records[:WARM_UP_STEPS])
        scan.first_step = int(records["step"][0])
    scan.phases.add(records)
    durations = records["duration_ns"]
    scan.samples.add(records["samples"], durations)
    scan.tokens.add(records["tokens"], durations)
    scan.packing.add(records)
    scan.queue.add(records)
    scan.epochs.add(records)
    failed = records["step"][(records["flags"] & FAILED) != 0]
    scan.failed += len(failed)
    scan.failed_steps += failed[: MOST_FAILED - len(scan.failed_steps)].tolist()
    scan.last_step = int(records["step"][-1])
    epochs = records["epoch"][records["epoch"] != MISSING]
    scan.last_epoch = int(epochs[-1]) if len(epochs) else scan.last_epoch
    _keep_slowest(scan, records)


def _keep_slowest(scan: StepScan, records: Records) -> None:
    durations = records["duration_ns"]
    if len(scan.slowest) == SLOWEST and durations.max() <= scan.slowest[-1].duration_s * 1e9:
        return
    longest = np.argsort(durations, kind="stable")[-SLOWEST:]
    candidates = scan.slowest + [_slow_step(scan, record) for record in records[longest]]
    scan.slowest = sorted(candidates, key=lambda slow: (-slow.duration_s, slow.start_unix_s))[:SLOWEST]


def _slow_step(scan: StepScan, record: Any) -> SlowStep:
    times: dict[str, float] = {}
    for identity, depth, _, _, duration_ns in record["phases"][: record["phase_count"]].tolist():
        if depth == 0:
            name = phase_name(scan.phase_names, identity)
            times[name] = times.get(name, 0.0) + duration_ns
    duration_ns = int(record["duration_ns"])
    times[OTHER] = times.get(OTHER, 0.0) + max(duration_ns - sum(times.values()), 0.0)
    longest = max(times, key=lambda name: times[name])
    return SlowStep(
        int(record["step"]),
        scan.rank,
        duration_ns / 1e9,
        scan.anchor.to_unix_ns(int(record["start_ns"])) / 1e9,
        longest,
        times[longest] / 1e9,
        bool(record["flags"] & FAILED),
    )


class _Columns:
    """Three columns of the training steps, allocated once."""

    def __init__(self, most: int) -> None:
        self.count = 0
        self._starts = np.empty(most, STEP["start_ns"])
        self._durations = np.empty(most, STEP["duration_ns"])
        self._waits = np.empty(most, np.float32)

    def add(self, records: Records, wait_id: int | None) -> None:
        end = self.count + len(records)
        self._starts[self.count : end] = records["start_ns"]
        self._durations[self.count : end] = records["duration_ns"]
        self._waits[self.count : end] = np.minimum(_waits_of(records, wait_id), records["duration_ns"])
        self.count = end

    def filled(self) -> tuple[Column, Column, Column]:
        return self._starts[: self.count], self._durations[: self.count], self._waits[: self.count]


def _waits_of(records: Records, wait_id: int | None) -> Column:
    """The wait for data of each step in ns, at whatever depth; zero where the step waited for none."""
    if wait_id is None:
        return np.zeros(len(records), np.float32)
    phases = records["phases"]
    waiting = used_slots(records) & (phases["phase"] == wait_id)
    waits: Column = np.where(waiting, phases["duration_ns"], np.float32(0)).sum(axis=1)
    return waits
