"""The summary of a run: every measure that a report shows, for each rank and for all of them read as one run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from otel_train import names
from otel_train.derive import measures
from otel_train.derive.bottleneck import Verdict, judge
from otel_train.derive.data_loading import DataLoading, merged_loading
from otel_train.derive.event_totals import AlertTotal, CheckpointTotal, ErrorTotal, Profiled, SpanTotal
from otel_train.derive.gpu import GpuTotals, merged_gpu
from otel_train.derive.loading_facts import LoadingFacts, loading_facts
from otel_train.derive.measures import PhaseShare, Rate, Span, Starvation, StepTime
from otel_train.derive.merge import added, health_total, merged_errors
from otel_train.derive.phases import PhaseTotal
from otel_train.derive.resource_totals import ResourceTotal
from otel_train.derive.scalar_totals import ScalarTotal
from otel_train.derive.scan import RankScan, scan_rank
from otel_train.derive.steps import SLOWEST, SlowStep
from otel_train.runlog.runs import Run, state_of


@dataclass(frozen=True)
class Counts:
    """Steps over all ranks. ``lost`` are older ones that are no longer on disk; the log keeps a bounded number."""

    training: int
    failed: int
    evaluation: int
    lost: int
    first_step: int | None
    last_step: int | None
    samples: int | None
    tokens: int | None


@dataclass(frozen=True)
class Summary:
    """The measures of one rank, or of several read as one run. None and empty mean not recorded."""

    ranks: tuple[int, ...]
    counts: Counts
    span: Span | None
    steps_per_s: Rate
    samples_per_s: Rate
    tokens_per_s: Rate
    step_time: StepTime | None
    step_time_curve: list[float]
    """Mean step time, s, of parts of the run: of the first rank."""
    phases: list[PhaseShare]
    starvation: Starvation | None
    gpu: GpuTotals | None
    """What steps were on the GPU; None where none was timed."""
    loading: DataLoading | None
    """What the loaders' workers took; None where that was not timed."""
    packing_efficiency: float | None
    slowest: list[SlowStep]
    failed_steps: list[int]
    last_epoch: int | None
    epochs: SpanTotal
    """Epochs that ended."""
    evaluations: dict[str, SpanTotal]
    evaluation_s: float
    """Inside evaluation steps."""
    checkpoints: dict[str, CheckpointTotal]
    timed: dict[str, SpanTotal]
    outside_phases: dict[str, PhaseTotal]
    """Phases outside steps, or on other threads."""
    alerts: dict[str, AlertTotal]
    profiles: list[Profiled]
    other_events: dict[str, SpanTotal]
    errors: list[ErrorTotal]
    scalars: dict[str, ScalarTotal]
    """Of the first rank that has any: ranks log the same names."""
    resources: dict[str, ResourceTotal]
    """The highest and last over the ranks."""
    overhead_s: float | None
    """What otel_train spent on the training threads; None before it told."""
    records_dropped: float | None
    checkpoints_left_out: float | None
    """Calls that save or load and were taken for no checkpoint: small ones, and those that read the data."""
    verdict: Verdict


@dataclass(frozen=True)
class RunSummary:
    """A run: who it is, the measures of all its ranks as one, and of each."""

    run_id: str
    path: str
    states: dict[int, str]
    """By rank: ``running``, ``finished``, ``failed``, ``died`` or ``unknown``."""
    identities: dict[int, dict[str, Any]]
    """By rank: ``run.json``."""
    merged: Summary
    ranks: tuple[Summary, ...]
    loading_facts: LoadingFacts | None = None
    """What advice on the input starts from; None where fetches were not timed."""

    @property
    def started_unix_s(self) -> float:
        """When its first rank started."""
        return float(min(identity["anchor"]["unix_ns"] for identity in self.identities.values())) / 1e9

    @property
    def state(self) -> str:
        """The state of the run: that of its ranks, the most telling one where they differ."""
        return overall_state(self.states.values())

    @property
    def slowest_rank(self) -> int | None:
        """The rank whose median step takes longest; None unless there are two with steps."""
        medians = {summary.ranks[0]: summary.step_time.p50_s for summary in self.ranks if summary.step_time}
        return max(medians, key=lambda rank: medians[rank]) if len(medians) > 1 else None


TELLING = ("failed", "died", "running", "unknown", "finished")


def overall_state(states: Iterable[str]) -> str:
    """One state for several ranks: a rank that failed or died is the run's, whatever the others do."""
    return min(states, key=TELLING.index)


def summarize_run(run: Run) -> RunSummary:
    """Read a run. Raises ``RunLogError`` when it holds no rank, ``UnknownFormat``."""
    logs = run.ranks()
    scans = [scan_rank(log) for log in logs]
    ranks = tuple(summarize([scan]) for scan in scans)
    return RunSummary(
        run.id,
        str(run.path),
        {log.rank: state_of(log) for log in logs},
        {scan.rank: scan.identity for scan in scans},
        ranks[0] if len(ranks) == 1 else summarize(scans),
        ranks,
        loading_facts(scans),
    )


def summarize(scans: Sequence[RankScan]) -> Summary:
    """The measures of some ranks, at least one, read as one run."""
    steps = [scan.steps for scan in scans]
    events = [scan.events for scan in scans]
    epochs = [scan.last_epoch for scan in steps if scan.last_epoch is not None]
    epochs += [scan.last_epoch for scan in events if scan.last_epoch is not None]
    with_steps = [scan for scan in steps if scan.count]
    return Summary(
        ranks=tuple(scan.rank for scan in scans),
        counts=_counts(scans),
        span=measures.span(steps),
        steps_per_s=measures.step_rate(steps),
        samples_per_s=measures.amount_rate(steps, lambda scan: scan.samples),
        tokens_per_s=measures.amount_rate(steps, lambda scan: scan.tokens),
        step_time=measures.step_time(steps),
        step_time_curve=measures.step_time_curve(with_steps[0]) if with_steps else [],
        phases=measures.phase_shares(steps),
        starvation=measures.starvation(steps),
        gpu=merged_gpu(scan.gpu for scan in scans),
        loading=merged_loading(scan.training_loading for scan in events),
        packing_efficiency=measures.packing_efficiency(steps),
        slowest=sorted((slow for scan in steps for slow in scan.slowest), key=lambda slow: -slow.duration_s)[:SLOWEST],
        failed_steps=sorted({step for scan in steps for step in scan.failed_steps}),
        last_epoch=max(epochs, default=None),
        epochs=added({"": scan.epochs} for scan in events).get("", SpanTotal()),
        evaluations=added(scan.evaluations for scan in events),
        evaluation_s=sum(scan.evaluation_ns for scan in steps) / 1e9,
        checkpoints=added(scan.checkpoints for scan in events),
        timed=added(scan.timed for scan in events),
        outside_phases=added(scan.outside for scan in events),
        alerts=added(scan.alerts for scan in events),
        profiles=[profile for scan in events for profile in scan.profiles],
        other_events=added(scan.others for scan in events),
        errors=merged_errors(scans),
        scalars=next((scan.scalars for scan in scans if scan.scalars), {}),
        resources=added(scan.resources for scan in scans),
        overhead_s=health_total(scans, names.OVERHEAD_TRAINING),
        records_dropped=health_total(scans, names.RECORDS_DROPPED),
        checkpoints_left_out=health_total(scans, names.CHECKPOINTS_LEFT_OUT),
        verdict=judge(scans),
    )


def _counts(scans: Sequence[RankScan]) -> Counts:
    steps = [scan.steps for scan in scans]
    return Counts(
        training=sum(scan.count for scan in steps),
        failed=sum(scan.failed for scan in steps),
        evaluation=sum(scan.evaluation_steps for scan in steps),
        lost=sum(scan.lost for scan in steps),
        first_step=min((scan.first_step for scan in steps if scan.first_step is not None), default=None),
        last_step=max((scan.last_step for scan in steps if scan.last_step is not None), default=None),
        samples=measures.known_total(steps, lambda scan: scan.samples),
        tokens=measures.known_total(steps, lambda scan: scan.tokens),
    )
