"""Every measure of a run by its name: one pure function each, for requirements, comparisons, trackers and documents.

A measure takes a ``RunSummary`` and gives a number in its unit, or None where the record does not have it. Its
docstring says what it is and how it is calculated; ``docs/measures.md`` is made from that. A name with ``<...>`` in it
stands for one measure of each phase, logged value, column of resources or rule.
"""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import getdoc

from otel_train.derive.energy import energy_j, gpu_count, mean_watts, own_devices
from otel_train.derive.event_totals import CheckpointTotal
from otel_train.derive.resource_totals import ResourceTotal
from otel_train.derive.scalar_totals import ScalarTotal
from otel_train.derive.summary import RunSummary
from otel_train.errors import UnknownMeasure
from otel_train.resource_names import GPU_UTILIZATION, OWN_GPU, series_of

SECOND, SHARE, BYTE, JOULE = "s", "1", "By", "J"
STEP, SAMPLE, TOKEN = "{step}", "{sample}", "{token}"
OWN_UNIT = ""
"""The unit of what a script logs, or of a resource: ours is not to say."""

Value = float | None


@dataclass(frozen=True)
class Measure:
    """One measure. ``unit`` is in UCUM's notation, as OpenTelemetry has it; ``1`` is a part of one."""

    name: str
    unit: str
    of: Callable[[RunSummary], Value]
    meaning: str


@dataclass(frozen=True)
class _Family:
    unit: str
    of: Callable[..., Value]
    meaning: str


_ONE: dict[str, Measure] = {}
_FAMILIES: dict[str, _Family] = {}


def measure(name: str, unit: str) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    """Enter a function in the catalogue. For a name with ``<...>`` it gets what stands there as a second argument."""

    def enter(function: Callable[..., Value]) -> Callable[..., Value]:
        meaning = getdoc(function) or ""
        if "<" in name:
            _FAMILIES[name] = _Family(unit, function, meaning)
        else:
            _ONE[name] = Measure(name, unit, function, meaning)
        return function

    return enter


def find(name: str) -> Measure:
    """The measure of that name. Raises ``UnknownMeasure``, which says the names that come nearest."""
    if name in _ONE:
        return _ONE[name]
    for pattern, family in _FAMILIES.items():
        found = re.fullmatch(re.sub(r"<[^>]*>", "(.+)", re.escape(pattern)), name)
        if found:
            return Measure(name, family.unit, partial(_of_family, family.of, found.group(1)), family.meaning)
    near = difflib.get_close_matches(name, names(), 5, 0.4)
    raise UnknownMeasure(f"got the measure {name!r}; allowed are {', '.join(near or names())}. All: docs/measures.md")


def _of_family(of: Callable[..., Value], which: str, run: RunSummary) -> Value:
    return of(run, which)


def names() -> list[str]:
    """All names, those of families with their ``<...>``."""
    return [*_ONE, *_FAMILIES]


def table() -> str:
    """The catalogue as a table for ``docs/measures.md``."""
    rows = [(name, each.unit, each.meaning) for name, each in _ONE.items()]
    rows += [(name, each.unit, each.meaning) for name, each in _FAMILIES.items()]
    lines = [f"| `{name}` | {unit or 'its own'} | {' '.join(meaning.split())} |" for name, unit, meaning in rows]
    return "\n".join(["| measure | unit | what it is |", "|---|---|---|", *lines])


@measure("wall_time", SECOND)
def wall_time(run: RunSummary) -> Value:
    """From the first step's start to the last one's end on the calendar, of the rank that began first to the one that
    ended last."""
    return run.merged.span.wall_s if run.merged.span else None


@measure("steps", STEP)
def steps(run: RunSummary) -> Value:
    """Training steps, summed over ranks."""
    return run.merged.counts.training


@measure("steps.failed", STEP)
def failed_steps(run: RunSummary) -> Value:
    """Training steps that an exception left, summed over ranks."""
    return run.merged.counts.failed


@measure("samples", SAMPLE)
def samples(run: RunSummary) -> Value:
    """Samples of the steps where they are known, summed over ranks."""
    return run.merged.counts.samples


@measure("tokens", TOKEN)
def tokens(run: RunSummary) -> Value:
    """Tokens of the steps where they are known, summed over ranks."""
    return run.merged.counts.tokens


@measure("steps_per_second", "{step}/s")
def steps_per_second(run: RunSummary) -> Value:
    """Steps over the time from the first to the last: the mean of the ranks, which all take the same steps."""
    return run.merged.steps_per_s.wall


@measure("samples_per_second", "{sample}/s")
def samples_per_second(run: RunSummary) -> Value:
    """Samples over the time from the first step to the last, whatever passed in between; summed over ranks."""
    return run.merged.samples_per_s.wall


@measure("samples_per_second.stepping", "{sample}/s")
def samples_per_second_stepping(run: RunSummary) -> Value:
    """Samples over the time inside steps alone; summed over ranks."""
    return run.merged.samples_per_s.stepping


@measure("tokens_per_second", "{token}/s")
def tokens_per_second(run: RunSummary) -> Value:
    """Tokens over the time from the first step to the last, whatever passed in between; summed over ranks."""
    return run.merged.tokens_per_s.wall


@measure("tokens_per_second.stepping", "{token}/s")
def tokens_per_second_stepping(run: RunSummary) -> Value:
    """Tokens over the time inside steps alone; summed over ranks."""
    return run.merged.tokens_per_s.stepping


@measure("step_time.mean", SECOND)
def step_time_mean(run: RunSummary) -> Value:
    """The mean time of a training step, over the steps of all ranks."""
    return run.merged.step_time.mean_s if run.merged.step_time else None


@measure("step_time.min", SECOND)
def step_time_min(run: RunSummary) -> Value:
    """The shortest step of all ranks."""
    return run.merged.step_time.min_s if run.merged.step_time else None


@measure("step_time.p50", SECOND)
def step_time_p50(run: RunSummary) -> Value:
    """The median step, over the steps of all ranks; exact, linear between the two nearest steps."""
    return run.merged.step_time.p50_s if run.merged.step_time else None


@measure("step_time.p95", SECOND)
def step_time_p95(run: RunSummary) -> Value:
    """95 of 100 steps are shorter; exact, linear between the two nearest steps."""
    return run.merged.step_time.p95_s if run.merged.step_time else None


@measure("step_time.p99", SECOND)
def step_time_p99(run: RunSummary) -> Value:
    """99 of 100 steps are shorter; exact, linear between the two nearest steps."""
    return run.merged.step_time.p99_s if run.merged.step_time else None


@measure("step_time.max", SECOND)
def step_time_max(run: RunSummary) -> Value:
    """The longest step of all ranks."""
    return run.merged.step_time.max_s if run.merged.step_time else None


@measure("stepping.share", SHARE)
def stepping_share(run: RunSummary) -> Value:
    """The time inside training steps over the ranks' time from first step to last: what is left of it for training
    after checkpoints, evaluations and all else."""
    return 1 - run.merged.span.outside_share if run.merged.span else None


@measure("phase.<name>.share", SHARE)
def phase_share(run: RunSummary, name: str) -> Value:
    """The time in a phase over the time inside steps, at whatever depth, summed over ranks. ``other`` is what lies in
    no phase."""
    found = [phase.share for phase in run.merged.phases if phase.name == name]
    return sum(found) if found else None


@measure("phase.<name>.time", SECOND)
def phase_time(run: RunSummary, name: str) -> Value:
    """The time in a phase a step: its mean over all steps, those without it included."""
    found = [phase.per_step_s for phase in run.merged.phases if phase.name == name]
    return sum(found) if found else None


@measure("data_wait.share", SHARE)
def data_wait_share(run: RunSummary) -> Value:
    """Waiting for batches over the time inside steps; summed over ranks."""
    return run.merged.starvation.share if run.merged.starvation else None


@measure("data_wait.starved_share", SHARE)
def starved_share(run: RunSummary) -> Value:
    """The part of the steps that waited for their batch more than half of their time."""
    return run.merged.starvation.starved_share if run.merged.starvation else None


@measure("data_wait.time", SECOND)
def data_wait_time(run: RunSummary) -> Value:
    """The mean wait of a step for its batch, over all steps, those included that waited for none."""
    return run.merged.starvation.mean_s if run.merged.starvation else None


@measure("data_wait.p95", SECOND)
def data_wait_p95(run: RunSummary) -> Value:
    """95 of 100 steps wait less for their batch; exact, linear between the two nearest steps."""
    return run.merged.starvation.p95_s if run.merged.starvation else None


@measure("queue.ready", "{batch}")
def queue_ready(run: RunSummary) -> Value:
    """How many batches the loader's workers had ready when a step asked for its own: the mean of the steps."""
    return run.merged.queue.mean if run.merged.queue else None


@measure("queue.empty_share", SHARE)
def queue_empty_share(run: RunSummary) -> Value:
    """The part of the steps that found no batch ready, of those where it is known."""
    return run.merged.queue.empty_share if run.merged.queue else None


@measure("queue.full_share", SHARE)
def queue_full_share(run: RunSummary) -> Value:
    """The part of the steps that found as many batches ready as the workers may fetch ahead (workers times prefetch
    factor)."""
    return run.merged.queue.full_share if run.merged.queue else None


@measure("fetch.time", SECOND)
def fetch_time(run: RunSummary) -> Value:
    """What a batch takes to fetch on the worker that does it: data set and collate, the mean of all batches."""
    return run.merged.loading.fetch_s if run.merged.loading else None


@measure("fetch.slowest_worker", SECOND)
def fetch_slowest_worker(run: RunSummary) -> Value:
    """The mean fetch of the slowest worker in the slowest stretch of 30 s."""
    return run.merged.loading.slowest_s if run.merged.loading else None


@measure("fetch.worker_imbalance", SHARE)
def fetch_worker_imbalance(run: RunSummary) -> Value:
    """The mean fetch of the slowest worker over that of the median one, over the whole run; of several ranks, workers
    of one number together."""
    return run.merged.loading.imbalance if run.merged.loading else None


@measure("fetch.longest", SECOND)
def fetch_longest(run: RunSummary) -> Value:
    """The longest fetch of a batch."""
    return run.merged.loading.longest_s if run.merged.loading else None


@measure("packing_efficiency", SHARE)
def packing_efficiency(run: RunSummary) -> Value:
    """1 - padded tokens / tokens, over all steps where both are known."""
    return run.merged.packing_efficiency


@measure("packing_efficiency.min", SHARE)
def packing_efficiency_min(run: RunSummary) -> Value:
    """The lowest packing efficiency of a step."""
    return run.merged.packing.minimum if run.merged.packing else None


@measure("packing_efficiency.low_share", SHARE)
def packing_efficiency_low_share(run: RunSummary) -> Value:
    """The part of the steps whose packing efficiency is under 80 %."""
    return run.merged.packing.low_share if run.merged.packing else None


@measure("gpu_utilization", SHARE)
def gpu_utilization(run: RunSummary) -> Value:
    """The part of the time in which a kernel ran on the ranks' own GPUs (NVML's utilization), the mean of the samples
    while they trained."""
    own = [
        total
        for name, total in run.merged.resources.items()
        if series_of(name)[0] == GPU_UTILIZATION and (OWN_GPU, "true") in series_of(name)[1] and total.count
    ]
    count = sum(total.count for total in own)
    return sum(total.total for total in own) / count if count else None


@measure("gpu_memory.peak", BYTE)
def gpu_memory_peak(run: RunSummary) -> Value:
    """The most that torch's allocator had allocated of one GPU, the highest of all ranks."""
    return run.merged.gpu.peak_bytes if run.merged.gpu else None


@measure("gpu_memory.reserved", BYTE)
def gpu_memory_reserved(run: RunSummary) -> Value:
    """The most that torch's allocator held of one GPU, the highest of all ranks."""
    return run.merged.memory.gpu_reserved


@measure("gpu_memory.share", SHARE)
def gpu_memory_share(run: RunSummary) -> Value:
    """The most memory in use of a GPU that a rank trains on, of all processes, over what it has: the fullest one."""
    known = [
        device.memory_max_bytes / device.memory_limit_bytes
        for device in own_devices(run.merged)
        if device.memory_max_bytes is not None and device.memory_limit_bytes
    ]
    return max(known, default=None)


@measure("gpu_power", "W")
def gpu_power(run: RunSummary) -> Value:
    """The mean power of a GPU that a rank trains on, while it trained: by its energy counter, or else by samples."""
    return mean_watts(run.merged)


@measure("gpu_temperature.max", "Cel")
def gpu_temperature_max(run: RunSummary) -> Value:
    """The highest temperature of the GPUs that ranks train on, of the GPU itself, not of its memory."""
    known = [device.temperature_max_c for device in own_devices(run.merged)]
    return max((value for value in known if value is not None), default=None)


@measure("energy", JOULE)
def energy(run: RunSummary) -> Value:
    """What the GPUs of all ranks used from the first step to the last: mean power of those that were sampled, times
    one GPU a rank, times the time."""
    return energy_j(run, run.merged.span.wall_s) if run.merged.span else None


@measure("gpu_hours", "h")
def gpu_hours(run: RunSummary) -> Value:
    """One GPU a rank (of the world size), times the time from the first step to the last."""
    span, gpus = run.merged.span, gpu_count(run)
    return gpus * span.wall_s / 3600 if span and gpus else None


@measure("memory.process", BYTE)
def memory_process(run: RunSummary) -> Value:
    """The most resident memory of a rank's own process, the highest of all ranks."""
    return run.merged.memory.process_max


@measure("memory.workers", BYTE)
def memory_workers(run: RunSummary) -> Value:
    """The most memory of a rank's child processes together, without files; the highest of all ranks."""
    return run.merged.memory.workers_max


@measure("memory.page_cache", BYTE)
def memory_page_cache(run: RunSummary) -> Value:
    """The most that a host kept of files in memory."""
    return run.merged.memory.page_cache_max


@measure("memory.available_min", BYTE)
def memory_available_min(run: RunSummary) -> Value:
    """The least memory that could be had on a host without swapping."""
    return run.merged.memory.available_min


@measure("checkpoint.time", SECOND)
def checkpoint_time(run: RunSummary) -> Value:
    """The mean time that a checkpoint takes to be saved, the part beside the training included."""
    saved = _saved(run)
    return saved.time_s / saved.count if saved and saved.count else None


@measure("checkpoint.blocking_time", SECOND)
def checkpoint_blocking_time(run: RunSummary) -> Value:
    """The mean time that training waits for a checkpoint to be saved."""
    saved = _saved(run)
    return saved.blocking_s / saved.count if saved and saved.count else None


@measure("checkpoint.longest", SECOND)
def checkpoint_longest(run: RunSummary) -> Value:
    """The longest save of a checkpoint; of an asynchronous one, its writing."""
    saved = _saved(run)
    return saved.longest_s if saved else None


@measure("checkpoint.most_at_once", "{checkpoint}")
def checkpoint_most_at_once(run: RunSummary) -> Value:
    """The most asynchronous saves of a rank that were under way at one moment: the depth of its writer's queue."""
    saved = _saved(run)
    return saved.most_at_once if saved else None


@measure("checkpoint.share", SHARE)
def checkpoint_share(run: RunSummary) -> Value:
    """The part of the ranks' time from first step to last in which checkpoints kept the training waiting."""
    return run.merged.checkpoint_share


@measure("checkpoint.rate", "By/s")
def checkpoint_rate(run: RunSummary) -> Value:
    """Bytes a second of the checkpoints whose size is known."""
    saved = _saved(run)
    return saved.rate if saved else None


def _saved(run: RunSummary) -> CheckpointTotal | None:
    return run.merged.checkpoints.get("save")


@measure("log.<name>.last", OWN_UNIT)
def log_last(run: RunSummary, name: str) -> Value:
    """The last finite value given to ``log()``, of the first rank that has any."""
    return _scalar(run, name, "last")


@measure("log.<name>.min", OWN_UNIT)
def log_min(run: RunSummary, name: str) -> Value:
    """The smallest finite value given to ``log()``, of the first rank that has any."""
    return _scalar(run, name, "min")


@measure("log.<name>.max", OWN_UNIT)
def log_max(run: RunSummary, name: str) -> Value:
    """The largest finite value given to ``log()``, of the first rank that has any."""
    return _scalar(run, name, "max")


@measure("log.<name>.nonfinite", "{value}")
def log_nonfinite(run: RunSummary, name: str) -> Value:
    """How many values given to ``log()`` were not-a-number or infinite."""
    total = run.merged.scalars.get(name)
    return total.nonfinite if total else None


def _scalar(run: RunSummary, name: str, which: str) -> Value:
    total: ScalarTotal | None = run.merged.scalars.get(name)
    value: Value = getattr(total, which) if total else None
    return value


@measure("resource.<column>.max", OWN_UNIT)
def resource_max(run: RunSummary, name: str) -> Value:
    """The highest sample of a column of ``resources.csv``, the highest of all ranks. A metric's name alone stands for
    all its columns: the highest of them."""
    return max((total.max for total in _columns(run, name)), default=None)


@measure("resource.<column>.mean", OWN_UNIT)
def resource_mean(run: RunSummary, name: str) -> Value:
    """The mean of the samples of a column of ``resources.csv`` while it trained. A metric's name alone stands for all
    its columns: the mean of their samples."""
    found = _columns(run, name)
    count = sum(total.count for total in found)
    return sum(total.total for total in found) / count if count else None


def _columns(run: RunSummary, name: str) -> list[ResourceTotal]:
    known = run.merged.resources
    return [known[name]] if name in known else [total for key, total in known.items() if series_of(key)[0] == name]


@measure("alerts", "{alert}")
def alerts(run: RunSummary) -> Value:
    """How often a rule fired, all rules and ranks together."""
    return sum(total.count for total in run.merged.alerts.values())


@measure("alert.<rule>", "{alert}")
def alert(run: RunSummary, rule: str) -> Value:
    """How often one rule fired, over all ranks."""
    return run.merged.alerts[rule].count if rule in run.merged.alerts else 0


@measure("overhead.share", SHARE)
def overhead_share(run: RunSummary) -> Value:
    """What otel_train spent on the training threads, over the time inside steps."""
    span, spent = run.merged.span, run.merged.overhead_s
    return spent / span.stepping_s if span and span.stepping_s and spent is not None else None


__all__ = ["Measure", "find", "measure", "names", "table"]
