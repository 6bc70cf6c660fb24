"""The summary of a run: every measure that a report shows, for each rank and for all of them read as one run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from otel_train import names
from otel_train.derive import measures
from otel_train.derive.agreement import rank_disagreements
from otel_train.derive.bottleneck import Verdict, judge
from otel_train.derive.changes import Change, changes, merged_changes
from otel_train.derive.course import Course
from otel_train.derive.data_loading import DataLoading, merged_loading
from otel_train.derive.devices import Device, devices
from otel_train.derive.distribution import Distribution, distribution
from otel_train.derive.event_totals import AlertTotal, CheckpointTotal, ErrorTotal, Profiled, SpanTotal
from otel_train.derive.gpu import GpuTotals, merged_gpu
from otel_train.derive.imbalance import Imbalance, imbalance
from otel_train.derive.loading_facts import LoadingFacts, loading_facts
from otel_train.derive.mean_step import MeanStep, mean_step
from otel_train.derive.measures import PhaseShare, Rate, Span, Starvation, StepTime
from otel_train.derive.memory import Memory, memory
from otel_train.derive.merge import added, common_rules, health_total, merged_errors
from otel_train.derive.outside import overlap_ns
from otel_train.derive.packing import Packing, merged_packing
from otel_train.derive.phases import PhaseTotal
from otel_train.derive.queue_states import QueueStates, queue_states
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
    distribution: Distribution | None
    """Of the step time."""
    course: Course | None
    """Of the first rank that has steps."""
    changes: list[Change]
    """What changed during the run, in the order of time."""
    phases: list[PhaseShare]
    starvation: Starvation | None
    gpu: GpuTotals | None
    """What steps were on the GPU; None where none was timed."""
    loading: DataLoading | None
    """What the loaders' workers took; None where that was not timed."""
    queue: QueueStates | None
    """What the loaders had ready; None where no loader with workers fed the training."""
    packing: Packing | None
    """None where tokens or padding are not known."""
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
    watched_rules: frozenset[str] | None
    """The alert rules in force on every rank; None where the record of one does not say that it was watched."""
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
    devices: list[Device]
    """The GPUs that were sampled."""
    memory: Memory
    checkpoint_share: float | None
    """The part of the ranks' time from first step to last in which checkpoints kept them; None without a step."""
    epoch_steps: float | None
    """Steps of a complete epoch: their mean, of the first rank that has one."""
    verdict: Verdict

    @property
    def packing_efficiency(self) -> float | None:
        """1 - padded tokens / tokens, over the steps where both are known; None without one."""
        return self.packing.efficiency if self.packing else None


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
    mean_step: MeanStep | None = None
    """The mean step after the warm-up; None without a step."""
    imbalance: Imbalance | None = None
    """How long ranks wait for the slowest; None for one rank, or where that is not recorded."""
    disagreements: tuple[str, ...] = ()
    """What the ranks do not agree on, and which are missing: sentences."""
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


def summarize_run(run: Run, skipped: int = 0) -> RunSummary:
    """Read a run, without the first ``skipped`` training steps of each rank.

    Raises ``RunLogError`` when it holds no rank, ``UnknownFormat``.
    """
    logs = run.ranks()
    scans = [scan_rank(log, skipped) for log in logs]
    changed = [changes(scan) for scan in scans]
    ranks = tuple(summarize([scan], [found]) for scan, found in zip(scans, changed, strict=True))
    identities = {scan.rank: scan.identity for scan in scans}
    waiting = imbalance(logs, [skipped + scan.steps.warmed_up for scan in scans])
    return RunSummary(
        run.id,
        str(run.path),
        {log.rank: state_of(log) for log in logs},
        identities,
        ranks[0] if len(ranks) == 1 else summarize(scans, changed),
        ranks,
        mean_step(scans, waiting),
        waiting,
        rank_disagreements(identities),
        loading_facts(scans),
    )


def summarize(scans: Sequence[RankScan], changed: Sequence[Sequence[Change]] | None = None) -> Summary:
    """The measures of some ranks, at least one, read as one run; ``changed`` is what changed on each, where it is known
    already."""
    if changed is None:
        changed = [changes(scan) for scan in scans]
    steps = [scan.steps for scan in scans]
    events = [scan.events for scan in scans]
    epochs = [scan.last_epoch for scan in steps if scan.last_epoch is not None]
    epochs += [scan.last_epoch for scan in events if scan.last_epoch is not None]
    with_steps = [scan for scan in steps if scan.count]
    resources = added(scan.resources for scan in scans)
    gpu = merged_gpu(scan.gpu for scan in scans)
    span = measures.span(steps)
    return Summary(
        ranks=tuple(scan.rank for scan in scans),
        counts=_counts(scans),
        span=span,
        steps_per_s=measures.step_rate(steps),
        samples_per_s=measures.amount_rate(steps, lambda scan: scan.samples),
        tokens_per_s=measures.amount_rate(steps, lambda scan: scan.tokens),
        step_time=measures.step_time(steps),
        step_time_curve=measures.step_time_curve(with_steps[0]) if with_steps else [],
        distribution=distribution(steps),
        course=with_steps[0].course if with_steps else None,
        changes=merged_changes(
            changed, max((int(scan.course.steps.max()) for scan in steps if scan.course), default=0)
        ),
        phases=measures.phase_shares(steps),
        starvation=measures.starvation(steps),
        gpu=gpu,
        loading=merged_loading(scan.training_loading for scan in events),
        queue=queue_states([(scan.steps.queue, scan.events.training_loading) for scan in scans]),
        packing=merged_packing(scan.packing for scan in steps),
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
        watched_rules=common_rules(scan.watched_rules for scan in events),
        profiles=[profile for scan in events for profile in scan.profiles],
        other_events=added(scan.others for scan in events),
        errors=merged_errors(scans),
        scalars=next((scan.scalars for scan in scans if scan.scalars), {}),
        resources=resources,
        overhead_s=health_total(scans, names.OVERHEAD_TRAINING),
        records_dropped=health_total(scans, names.RECORDS_DROPPED),
        checkpoints_left_out=health_total(scans, names.CHECKPOINTS_LEFT_OUT),
        devices=devices(resources),
        memory=memory(resources, gpu),
        checkpoint_share=_checkpoint_share(scans, span),
        epoch_steps=next((scan.epochs.mean for scan in steps if scan.epochs.mean is not None), None),
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


def _checkpoint_share(scans: Sequence[RankScan], span: Span | None) -> float | None:
    """What checkpoints kept training threads for between the first step and the last one, inside steps and between."""
    if span is None or not span.stepping_s + span.outside_s:
        return None
    kept_ns = 0
    for scan in scans:
        bounds = scan.steps.bounds_ns
        if bounds is not None:
            kept_ns += overlap_ns(scan.events.blocking.get(names.CHECKPOINT, []), *bounds)
    return kept_ns / 1e9 / (span.stepping_s + span.outside_s)
