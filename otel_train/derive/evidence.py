"""How a run's time divides among the classes that can bound it: the evidence for ``bottleneck``.

The first steps, which compile and warm up, are left out where there are enough others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from otel_train import names
from otel_train.derive.data_loading import DataLoading, merged_loading
from otel_train.derive.gpu import GpuTotals, merged_gpu
from otel_train.derive.measures import PhaseTable, phase_table
from otel_train.derive.outside import outside_times
from otel_train.derive.phases import OTHER, PhaseTotal
from otel_train.derive.scan import RankScan
from otel_train.resource_names import GPU_UTILIZATION, OWN_GPU, series_of
from otel_train.runlog.layout import DATA_WAIT, STEP_PHASE

INPUT = "input"
COMPUTE = "compute"
OPTIMIZER = "optimizer"
COMMUNICATION = "communication"
CHECKPOINT = "checkpoint"
EVALUATION = "evaluation"
OUTSIDE = "outside"
"""Between steps, in no checkpoint, evaluation or wait for data."""
STEP = "step"
"""Inside the step, in no phase."""
PHASE = "phase"
"""A phase of the script's own."""
LAUNCH = "launch"
"""The GPU idles in the model's own phases: the host does not give it its kernels as fast as it runs them."""
UNKNOWN = "unknown"

CLASSES = {
    DATA_WAIT: INPUT,
    names.FORWARD: COMPUTE,
    names.LOSS_PHASE: COMPUTE,
    names.BACKWARD: COMPUTE,
    names.OPTIMIZER: OPTIMIZER,
    names.COLLECTIVE: COMMUNICATION,
    names.CHECKPOINT: CHECKPOINT,
    names.EVALUATION_KIND: EVALUATION,
    STEP_PHASE: STEP,
    OTHER: STEP,
}
"""The class of each phase that is known by name. A nested phase that is not has the class of the phase around it."""

AVOIDABLE = (INPUT, LAUNCH, CHECKPOINT, EVALUATION, OUTSIDE)
"""What training can do without."""

ENOUGH_SAMPLES = 3
"""Fewer of a GPU's utilization say nothing."""


@dataclass(frozen=True)
class Evidence:
    """How the judged time divides, in s over all ranks: by class, and by phase for those of the script's own."""

    steps: int
    step_s: float
    """Inside steps."""
    times_s: dict[str, float]
    """By class; a phase of the script's own as ``phase:<name>``. Their sum is the time from first step to last."""
    has_waits: bool
    """Whether any wait for data is recorded: without a traced loader there is none."""
    has_gpu: bool
    loading: DataLoading | None = None
    """What the loaders' workers took; None where it was not timed."""
    batches_a_step: float = 1.0
    """More than one with gradient accumulation."""
    gpu_steps: int = 0
    """Steps whose GPU time is known: then waiting, computing and the optimizer are judged by the GPU's time."""
    profiles: int = 0
    profiled: dict[str, float] = field(default_factory=dict)
    """The mean shares of so many profiled steps, by the profiles' own classes."""
    gpu_busy: float | None = None
    """The part of the time from first step to last in which a kernel ran; the mean of the ranks that sampled it."""

    @property
    def run_s(self) -> float:
        """From the first judged step to the last, over all ranks."""
        return sum(self.times_s.values())

    def share(self, what: str) -> float:
        """The share of the judged time that a class takes."""
        return self.times_s.get(what, 0.0) / self.run_s if self.run_s else 0.0

    @property
    def work_s(self) -> float:
        """What a batch is worked on: a mean step without its waits for data, by its batches."""
        batches = self.steps * self.batches_a_step
        return max(self.step_s - self.times_s.get(INPUT, 0.0), 0.0) / batches if batches else 0.0

    def step_share(self, what: str) -> float:
        """A class's time as a share of the time inside steps."""
        return self.times_s.get(what, 0.0) / self.step_s if self.step_s else 0.0


def gather(scans: Sequence[RankScan]) -> Evidence:
    """Divide the run's time among the classes."""
    judged = [scan for scan in scans if scan.steps.count]
    skips = [scan.steps.warmed_up for scan in judged]
    table = phase_table([scan.steps for scan in judged], lambda steps: steps.phases)
    skipping = [scan.steps for scan, skip in zip(judged, skips, strict=True) if skip]
    for place, total in phase_table(skipping, lambda steps: steps.warm_up).items():
        table[place].merge(total, sign=-1)
    step_s = sum(int(scan.steps.durations_ns[skip:].sum()) for scan, skip in zip(judged, skips, strict=True)) / 1e9
    times = class_times(table)
    steps = sum(scan.steps.count - skip for scan, skip in zip(judged, skips, strict=True))
    gpu = merged_gpu(scan.gpu for scan in judged)
    if gpu is not None:
        times = gpu_class_times(gpu, times, steps, step_s)
    times[STEP] = times.get(STEP, 0.0) + max(step_s - sum(times.values()), 0.0)
    for scan, skip in zip(judged, skips, strict=True):
        for what, seconds in outside_times(scan.steps, scan.events.blocking, skip).items():
            times[what] = times.get(what, 0.0) + seconds
    busy = gpu_busy(judged)
    if busy is not None:
        times = with_launches(times, busy)
    return Evidence(
        steps,
        step_s,
        {what: seconds for what, seconds in times.items() if seconds > 0},
        any(scan.steps.waits_ns.any() for scan in judged),
        any(scan.identity.get("hardware", {}).get("gpus") for scan in judged),
        merged_loading(scan.events.training_loading for scan in judged),
        max(sum(total.count for (_, _, name), total in table.items() if name == DATA_WAIT) / max(steps, 1), 1.0),
        0 if gpu is None else gpu.steps,
        *profiled_shares(judged),
        busy,
    )


def profiled_shares(scans: Sequence[RankScan]) -> tuple[int, dict[str, float]]:
    """How many steps were profiled, and the mean of their shares."""
    found = [profile.shares for scan in scans for profile in scan.events.profiles if profile.name is None]
    return len(found), {
        what: sum(shares.get(what, 0.0) for shares in found) / len(found)
        for what in sorted({what for shares in found for what in shares})
    }


def gpu_busy(scans: Sequence[RankScan]) -> float | None:
    """The mean utilization of the ranks' own GPUs while they trained; None where too little of it was sampled."""
    known = []
    for scan in scans:
        for name, total in scan.resources.items():
            metric, attributes = series_of(name)
            own = metric == GPU_UTILIZATION and (OWN_GPU, "true") in attributes
            if own and total.mean is not None and total.count >= ENOUGH_SAMPLES:
                known.append(total.mean)
    return sum(known) / len(known) if known else None


def with_launches(times: dict[str, float], busy: float) -> dict[str, float]:
    """Take from the model's own phases the time in which the GPU had nothing to run, and call it ``LAUNCH``.

    A phase lasts from its first kernel to its last one, the gaps between them included. All of the GPU's work is taken
    to lie in these phases, though some is evaluation's: so the gaps are rather told too small.
    """
    working = {what: seconds for what, seconds in times.items() if what not in AVOIDABLE}
    in_phases, busy_s = sum(working.values()), busy * sum(times.values())
    if busy_s >= in_phases:
        return times
    return (
        times | {what: seconds * busy_s / in_phases for what, seconds in working.items()} | {LAUNCH: in_phases - busy_s}
    )


def gpu_class_times(gpu: GpuTotals, host: dict[str, float], steps: int, step_s: float) -> dict[str, float]:
    """Seconds by class, of what the GPU did: the host's time says little, since it runs ahead.

    The timed steps stand for all. What of the host's wait for data the GPU had other work for is no wait. Of the host's
    classes stay the phases of the script's own that were not timed, as far as there is time left for them.
    """
    times: dict[str, float] = {}
    for phase, seconds in gpu.times_s.items():
        what = CLASSES.get(phase, f"{PHASE}:{phase}")
        times[what] = times.get(what, 0.0) + seconds / gpu.steps * steps
    known = sum(times.values())
    if known > step_s:  # the GPU runs behind the host: its times of some steps lie in the host's next ones
        times = {what: seconds * step_s / known for what, seconds in times.items()}
    left = max(step_s - sum(times.values()), 0.0)
    own = {what: seconds for what, seconds in host.items() if what.startswith(f"{PHASE}:") and what not in times}
    scale = min(left / sum(own.values()), 1.0) if own and sum(own.values()) else 0.0
    return times | {what: seconds * scale for what, seconds in own.items()}


def class_times(table: PhaseTable) -> dict[str, float]:
    """Seconds by class. Each phase counts with what is left of it without the phases nested in it."""
    children: dict[tuple[int, str | None], float] = {}
    for (depth, parent, _), total in table.items():
        children[depth - 1, parent] = children.get((depth - 1, parent), 0.0) + total.time_s
    by_place: dict[tuple[int, str], PhaseTotal] = {}
    around: dict[tuple[int, str], str | None] = {}
    for (depth, parent, name), total in table.items():
        by_place.setdefault((depth, name), PhaseTotal()).merge(total)
        around[depth, name] = parent
    times: dict[str, float] = {}
    for (depth, name), total in by_place.items():
        if depth and around[depth, name] is None:
            continue  # its time counts with the phase around it, whichever that is
        what = _class_of(depth, name, around)
        times[what] = times.get(what, 0.0) + max(total.time_s - children.get((depth, name), 0.0), 0.0)
    return times


def _class_of(depth: int, name: str, around: dict[tuple[int, str], str | None]) -> str:
    if name in CLASSES:
        return CLASSES[name]
    parent = around.get((depth, name))
    return f"{PHASE}:{name}" if parent is None else _class_of(depth - 1, parent, around)
