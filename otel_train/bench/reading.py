"""What the runs of a benchmark recorded: one number each, without their warm-up, and why the failed ones failed."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from otel_train.bench.matrix import Cell
from otel_train.bench.out_of_memory import OutOfMemory, find_out_of_memory
from otel_train.bench.running import exit_text, last_lines
from otel_train.bench.state import DONE, TIMED_OUT, BenchState, RunRecord
from otel_train.derive.catalogue import Measure, find
from otel_train.derive.steady import warm_up_of
from otel_train.derive.steps import scan_steps
from otel_train.derive.summary import RunSummary, summarize_run
from otel_train.errors import BenchError, RunLogError
from otel_train.runlog.runs import Run

DEFAULT_METRICS = ("samples_per_second", "steps_per_second", "step_time.p50")
"""The first of them that every run that succeeded has."""

HIGHER, LOWER = "higher", "lower"
LOWER_UNITS = ("s", "By", "J", "{alert}")
HIGHER_MEASURES = ("samples", "tokens", "steps", "gpu_utilization", "packing_efficiency", "stepping.share")
LOWER_MEASURES = ("data_wait.share", "data_wait.starved_share", "overhead.share", "steps.failed")

PRINTED_LINES = 200
"""How many of the last lines are searched for an out-of-memory."""


@dataclass(frozen=True)
class RunRead:
    """One run with what its record says; ``summary`` is None where it recorded nothing that can be read."""

    record: RunRecord
    summary: RunSummary | None
    skipped: int
    """Training steps left out as warm-up."""
    out_of_memory: OutOfMemory | None
    problem: str | None
    """Why there is no number of it: how it failed, or what it did not record. None where all is well."""
    tail: list[str]
    """The last lines that it printed."""

    def value(self, metric: Measure) -> float | None:
        """The measure; None of a run that failed, and where it has none."""
        return metric.of(self.summary) if self.summary and self.record.status == DONE else None


@dataclass
class RunReader:
    """Reads each run once. ``warm_up`` is how many training steps are left out; None leaves it to each run's own
    course, by ``steady.warm_up_of``: five, or more."""

    state: BenchState
    warm_up: int | None
    tail_lines: int = 10
    _read: dict[str, RunRead] = field(default_factory=dict)

    def read(self, record: RunRecord) -> RunRead:
        """Read a run that is over."""
        if record.run_id not in self._read:
            self._read[record.run_id] = self._read_now(record)
        return self._read[record.run_id]

    def of(self, cells: Iterable[Cell]) -> list[RunRead]:
        """The runs of these cells, by round."""
        return [self.read(record) for cell in cells for _, record in sorted(self.state.over(cell).items())]

    def _read_now(self, record: RunRecord) -> RunRead:
        run = Run(self.state.directory / record.run_id)
        output = self.state.output(record.run_id)
        printed = last_lines(output, PRINTED_LINES)
        try:
            skipped = self._skipped(run)
            summary, unread = summarize_run(run, skipped), None
            events = [event for log in run.ranks() for event, _ in log.events()]
        except (RunLogError, OSError) as error:
            skipped, summary, unread, events = 0, None, str(error), []
        out_of_memory = find_out_of_memory(record, events, "\n".join(printed))
        problem = _problem(record, out_of_memory, summary, unread)
        return RunRead(record, summary, skipped, out_of_memory, problem, printed[-self.tail_lines :])

    def _skipped(self, run: Run) -> int:
        if self.warm_up is not None:
            return self.warm_up
        return max(warm_up_of(scan_steps(log).durations_ns / 1e9) for log in run.ranks())


def _problem(
    record: RunRecord, out_of_memory: OutOfMemory | None, summary: RunSummary | None, unread: str | None
) -> str | None:
    if out_of_memory:
        return f"out of memory: {out_of_memory.sentence}"
    if record.status == TIMED_OUT:
        return f"stopped after {record.wall_s:.1f} s (--timeout)"
    if record.status != DONE:
        return exit_text(record.exit_code)
    if summary is None:
        return f"recorded nothing: {unread}"
    return None if summary.merged.counts.training else "recorded no training step after its warm-up"


def choose_metric(wanted: str | None, read: Iterable[RunRead]) -> Measure:
    """The measure asked for; or the first of the default ones that all runs which succeeded have.

    Raises ``UnknownMeasure``.
    """
    if wanted is not None:
        return find(wanted)
    good = [each for each in read if each.problem is None]
    for name in DEFAULT_METRICS:
        if good and all(each.value(find(name)) is not None for each in good):
            return find(name)
    return find(DEFAULT_METRICS[0])


def is_higher_better(metric: Measure, better: str | None) -> bool:
    """What is given; else rates and their like are better when higher, times and sizes when lower.

    Raises ``BenchError`` where only the user can know.
    """
    if better is not None:
        return better == HIGHER
    if metric.unit.endswith("/s") or metric.name in HIGHER_MEASURES:
        return True
    if metric.unit in LOWER_UNITS or metric.name in LOWER_MEASURES:
        return False
    raise BenchError(f"is more of {metric.name} better, or less? Give --better higher or --better lower")
