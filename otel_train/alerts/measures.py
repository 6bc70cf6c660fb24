"""What rules can be about: named figures worked out from the window, beside every resource metric and logged value.

A measure gives a value for each thing that it is about (a GPU, a file system; "" where there is but one). What cannot
be told has no value, and a rule on it neither fires nor is over.
"""

import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import TypeAlias

from otel_train import names
from otel_train import resource_names as rn
from otel_train.alerts.baseline import slope, staircase
from otel_train.alerts.window import Window
from otel_train.resource_names import Series
from otel_train.runlog.events import Event

Values: TypeAlias = dict[str, float]
"""By label."""

LOG = "log."
"""``log.loss`` is the last value of ``loss`` given to ``log()``."""

TREND_S = 600.0
"""A trend is judged by so much time at least."""
NEVER_S = 1e9
"""The time that is left of what does not rise for sure: thirty years."""
MINUTE_S = 60.0
FEW_INTERVALS = 2
"""Checkpoints that must have come before one can be slow."""
REGULAR_INTERVALS = 4
IRREGULAR = 1.5
"""Intervals that must have passed before a checkpoint can be overdue; three in four may be so much longer at most."""
LOSS_POINTS = 24
"""Ticks with a loss before it is said to explode: two minutes."""


@dataclass(frozen=True)
class Measure:
    """A figure, its unit, and what it means."""

    unit: str
    meaning: str
    of: Callable[[Window], Values]
    metrics: tuple[str, ...] = ()
    """Of the resource metrics, those that it is worked out from."""


def measure_names() -> list[str]:
    """The names of the figures worked out here."""
    return sorted(MEASURES)


def is_measure(name: str) -> bool:
    """Can a rule be about it?"""
    if name in MEASURES or (name.startswith(LOG) and len(name) > len(LOG)):
        return True
    try:
        return rn.series_of(name)[0] in rn.RESOURCES
    except ValueError:
        return False


def unknown_attributes(name: str) -> list[str]:
    """Attributes that no series of the measure's metric has."""
    if name in MEASURES or name.startswith(LOG):
        return []
    metric, attributes = rn.series_of(name)
    return [key for key, _ in attributes if key not in rn.attributes_of(metric)]


def values_of(name: str, window: Window) -> Values:
    """The values of a measure now."""
    if name in MEASURES:
        return MEASURES[name].of(window)
    if name.startswith(LOG):
        return _single(_logged(window, lambda known: known == name.removeprefix(LOG), 1))
    metric, attributes = rn.series_of(name)
    return _latest(window, metric, dict(attributes))


def metrics_behind(name: str) -> tuple[str, ...]:
    """The resource metrics that a measure is worked out from."""
    if name in MEASURES:
        return MEASURES[name].metrics
    return () if name.startswith(LOG) else (rn.series_of(name)[0],)


def is_share(name: str) -> bool:
    """Is it a part of something, and never more than 1?"""
    metric = name if name in MEASURES or name.startswith(LOG) else rn.series_of(name)[0]
    return unit_of(name) == "1" and metric.endswith(SHARES)


SHARES = (".utilization", ".share", ".iowait", ".throttled", ".power_capped")


def unit_of(name: str) -> str:
    """A measure's unit; empty where it has none."""
    if name in MEASURES:
        return MEASURES[name].unit
    if name.startswith(LOG):
        return ""
    return rn.RESOURCES[rn.series_of(name)[0]].unit


# -- resources -----------------------------------------------------------------------------------------------------


def _latest(window: Window, metric: str, wanted: dict[str, str] | None = None) -> Values:
    """The last value of each series of a metric, as far as it is not older than a minute."""
    found: Values = {}
    for key, points in window.series(metric).items():
        if _fits(key, wanted or {}) and points[-1][0] > window.now_ns / 1e9 - MINUTE_S:
            found[_label(key, wanted or {})] = points[-1][1]
    return found


def _mean(window: Window, metric: str, wanted: dict[str, str] | None = None, seconds: float = MINUTE_S) -> Values:
    """The mean of each series over the last minute, where it was sampled then."""
    found: Values = {}
    for key, points in window.series(metric).items():
        if _fits(key, wanted or {}) and (last := _since(points, window.now_ns / 1e9 - seconds)):
            found[_label(key, wanted or {})] = statistics.fmean(last)
    return found


def _since(points: Sequence[tuple[float, float]], time_s: float) -> list[float]:
    """The values after a time, the last one first: of hundreds of points no more are looked at than are wanted."""
    return [value for _, value in takewhile(lambda point: point[0] > time_s, reversed(points))]


def _rise(window: Window, metric: str, wanted: dict[str, str] | None = None, seconds: float = 300.0) -> Values:
    """How much each counter has risen in the last minutes."""
    found: Values = {}
    for key, points in window.series(metric).items():
        if not _fits(key, wanted or {}):
            continue
        before = [value for time_s, value in points if time_s <= window.now_ns / 1e9 - seconds]
        start = before[-1] if before else points[0][1] if len(points) > 1 and not _is_new(window, points) else 0.0
        found[_label(key, wanted or {})] = max(points[-1][1] - start, 0.0)
    return found


def _is_new(window: Window, points: Sequence[tuple[float, float]]) -> bool:
    """Did the series appear while others were there: an error of a kind that had not happened?"""
    return window.first_row_s is not None and points[0][0] > window.first_row_s


def _fits(key: Series, wanted: dict[str, str]) -> bool:
    attributes = dict(key[1])
    return all(attributes.get(name) == value for name, value in wanted.items())


def _label(key: Series, wanted: dict[str, str]) -> str:
    """Which of several: the values of the attributes that were not asked for, and do not only describe."""
    return " ".join(value for name, value in key[1] if name not in wanted and name not in rn.DESCRIBING)


def _own(values_of_gpus: Callable[[dict[str, str] | None], Values]) -> Values:
    """Of the GPU that the rank trains on, where it is known; else of all."""
    return values_of_gpus({rn.OWN_GPU: "true"}) or values_of_gpus(None)


def _gpu_utilization(window: Window) -> Values:
    if window.quiet or not any(tick.steps for tick in window.recent()):
        return {}  # nothing is asked of it
    return _own(lambda wanted: _mean(window, rn.GPU_UTILIZATION, wanted))


def _gpu_throttled(window: Window) -> Values:
    held = _mean(window, rn.GPU_THROTTLED)
    return {label: value for label, value in held.items() if "power_cap" not in label}


def _power_capped(window: Window) -> Values:
    held = _mean(window, rn.GPU_THROTTLED)
    return {label: value for label, value in held.items() if "power_cap" in label}


def _host_memory(window: Window) -> Values:
    """Of the container where it has a limit, else of the host."""
    return _latest(window, rn.CGROUP_MEMORY_UTILIZATION) or _latest(window, rn.MEMORY_UTILIZATION)


def _host_memory_left_s(window: Window) -> Values:
    """Until the container's (or the host's) memory is full, at the pace of the window."""
    limits = _latest(window, rn.CGROUP_MEMORY_LIMIT)
    if limits:
        return _time_left(window.series(rn.CGROUP_MEMORY_USAGE), limits)
    available = window.series(rn.MEMORY_AVAILABLE)
    missing = {key: [(time_s, -value) for time_s, value in points] for key, points in available.items()}
    return _time_left(missing, {"": 0.0})


def _filesystem_left_s(window: Window) -> Values:
    """By a steady rise, or by steps: checkpoints fill a disk a piece at a time."""
    limits = _latest(window, rn.FILESYSTEM_LIMIT)
    left = _time_left(window.series(rn.FILESYSTEM_USAGE), limits)
    for key, points in window.coarse(rn.FILESYSTEM_USAGE).items():
        label = _label(key, {})
        limit = limits.get(label)
        pace = staircase(points)
        if limit is not None and pace is not None:
            left[label] = min(left.get(label, NEVER_S), max(limit - points[-1][1], 0.0) / pace)
    return left


def _time_left(usage: Mapping[Series, Sequence[tuple[float, float]]], limits: Values) -> Values:
    left: Values = {}
    for key, points in usage.items():
        label = _label(key, {})
        limit = limits.get(label, limits.get(""))
        trend = slope(points) if points[-1][0] - points[0][0] >= TREND_S else None
        if limit is not None and trend is not None:
            rises = trend[1] > 0  # three pairs in four do
            left[label] = min(max(limit - points[-1][1], 0.0) / trend[0], NEVER_S) if rises else NEVER_S
    return left


# -- steps ---------------------------------------------------------------------------------------------------------


def _single(value: float | None) -> Values:
    return {} if value is None else {"": value}


def _step_time(window: Window) -> Values:
    return _single(window.recent_step_s())


def _step_time_ratio(window: Window) -> Values:
    recent, usual = window.recent_step_s(), window.step_time.usual
    return {} if recent is None or not usual or window.quiet else {"": recent / usual}


def _rate(window: Window) -> Values:
    return _single(window.recent_rate())


def _rate_ratio(window: Window) -> Values:
    recent, usual = window.recent_rate(), window.rate.usual
    return {} if recent is None or not usual or window.quiet else {"": recent / usual}


def _data_wait_share(window: Window) -> Values:
    """By the GPU's own time where steps are timed there."""
    ticks = window.recent()
    busy, wait, steps = (
        (sum(part) for part in zip(*((t.busy_s, t.wait_s, t.steps) for t in ticks), strict=True))
        if (ticks)
        else (0.0, 0.0, 0)
    )
    if window.quiet or steps < 1 or not busy:
        return {}
    timed = sum(tick.gpu_steps for tick in ticks)
    if timed:
        return {"": min(sum(tick.gpu_wait_s for tick in ticks) / timed / (busy / steps), 1.0)}
    return {"": min(wait / busy, 1.0)}


def _silence(window: Window) -> Values:
    """Time since the training was last seen to be alive, once it is longer than it may be; before, none."""
    if window.begun_ns is None:
        return {}  # it may load models and data for as long as it likes
    silent_s = (window.now_ns - max(window.progress_ns, window.begun_ns)) / 1e9
    return {"": silent_s if silent_s > _patience_s(window) else 0.0}


def _patience_s(window: Window) -> float:
    """How long the training may be silent."""
    if window.quiet_now:
        return max(LONG_S, DISTURBANCES * window.longest_disturbance_s)
    usual = window.step_time.usual or window.recent_step_s() or window.any_step_time.usual
    if usual is None or window.steps < FEW_TO_HANG:
        return LONG_S
    return max(STEPS_TO_HANG * usual, MINUTE_S, min(SILENCES * window.longest_silence_s, LONG_S))


FEW_TO_HANG = 3
STEPS_TO_HANG = 20
"""A pause for so many usual steps, and a minute at least, is a hang …"""
SILENCES = 2
"""… if it is so many times longer than any that the run came back from;"""
LONG_S = 1800.0
DISTURBANCES = 5
"""half an hour inside a checkpoint, an evaluation or a compilation, and so many times the longest of them."""


# -- values of the training ----------------------------------------------------------------------------------------


def _is_loss(name: str) -> bool:
    return name.rpartition("/")[2].rpartition(".")[2].endswith("loss")


def _logged(window: Window, wanted: Callable[[str], bool], ticks: int) -> float | None:
    series = _history(window, wanted)
    return series[-1] if len(series) >= ticks else None


def _history(window: Window, wanted: Callable[[str], bool]) -> list[float]:
    """The values of the first name that is wanted, a tick each."""
    found = next((name for tick in window.ticks for name in tick.values if wanted(name)), None)
    return [tick.values[found] for tick in window.ticks if found in tick.values] if found is not None else []


def _loss_nonfinite(window: Window) -> Values:
    last = [tick for tick in window.ticks if tick.end_ns > window.now_ns - MINUTE_S * 1e9]
    return {"": float(sum(tick.nonfinite for tick in last))} if window.ticks else {}


def _loss_ratio(window: Window) -> Values:
    """The last loss over the median of those before, where losses are positive."""
    values = _history(window, _is_loss)
    if len(values) < LOSS_POINTS:
        return {}
    earlier = values[: -len(values) // 4]
    before, last = statistics.median(earlier), statistics.median(values[-3:])
    if before <= 0:
        return {}
    spread = statistics.median(abs(value - before) for value in earlier)
    unusual = last - before > SPREADS * spread
    return {"": last / before if unusual else min(last / before, 1.0)}


SPREADS = 5
"""Median deviations from the median: a loss that is near zero is soon several times its median."""


def _loss_improvement(window: Window) -> Values:
    """By what part the loss fell between the first and the last third of the window, once that is full."""
    values = _history(window, _is_loss)
    if len(values) < LOSS_POINTS or window.ticks[-1].end_ns - window.ticks[0].end_ns < FLAT_S * 1e9:
        return {}
    third = len(values) // 3
    first, last = statistics.median(values[:third]), statistics.median(values[-third:])
    return {"": abs(first - last) / abs(first)} if first else {}


FLAT_S = 1500.0


# -- checkpoints and workers ---------------------------------------------------------------------------------------


def _saves(events: Iterable[Event]) -> list[Event]:
    return [
        event
        for event in events
        if event.kind == names.CHECKPOINT
        and event.error is None
        and event.attributes.get(names.CHECKPOINT_KIND, "save") == "save"
        and event.attributes.get(names.CHECKPOINT_MODE) != names.STAGING
    ]


def _checkpoint_age(window: Window) -> Values:
    """Time since the last checkpoint, in usual intervals, where they come regularly: not of the best models alone."""
    saves = _saves(window.events[names.CHECKPOINT])
    gaps = [(later.end_ns - before.end_ns) for before, later in pairwise(saves)]
    if len(gaps) < REGULAR_INTERVALS or not (usual := statistics.median(gaps)):
        return {}
    if statistics.quantiles(gaps, n=4, method="inclusive")[2] > IRREGULAR * usual:
        return {}
    return {"": (window.now_ns - saves[-1].end_ns) / max(usual, MINUTE_S * 1e9)}


def _checkpoint_ratio(window: Window) -> Values:
    """What the last checkpoint took, over the median of its like before."""
    saves = _saves(window.events[names.CHECKPOINT])
    if not saves:
        return {}
    last = saves[-1]
    times = [event.duration_ns or 0 for event in saves[:-1] if _alike(event, last)]
    if len(times) < FEW_INTERVALS or not (usual := statistics.median(times)):
        return {}
    return {"": (last.duration_ns or 0) / max(usual, 1e9)}


def _alike(one: Event, other: Event) -> bool:
    """Checkpoints of one name, but for its numbers, and of about the same size."""
    paths = [re.sub(r"\d+", "#", str(event.attributes.get(names.CHECKPOINT_PATH, ""))) for event in (one, other)]
    sizes = [float(event.attributes.get(names.CHECKPOINT_SIZE) or 0.0) for event in (one, other)]
    return paths[0] == paths[1] and max(sizes) <= ALIKE * min(sizes)


ALIKE = 2


def _checkpoint_failures(window: Window) -> Values:
    last_ns = window.now_ns - 600e9
    failed = [event for event in window.events[names.CHECKPOINT] if event.error is not None]
    return {"": float(sum(event.end_ns > last_ns for event in failed))} if window.ticks else {}


def _workers_missing(window: Window) -> Values:
    """Of the loader that feeds the training: how many of its workers are not there while it does."""
    children = _latest(window, rn.CHILDREN_COUNT)
    if not children or window.quiet or not window.ticks[-1].steps:
        return {}
    return {"": max((window.workers or 0) - children[""], 0.0)}


MEASURES: dict[str, Measure] = {
    "step.time": Measure("s", "the median step of the last minute", _step_time),
    "step.time.ratio": Measure("1", "the same over what is usual for the run", _step_time_ratio),
    "step.rate": Measure("1/s", "samples a second in the last minute; steps, where samples are unknown", _rate),
    "step.rate.ratio": Measure("1", "the same over what is usual for the run", _rate_ratio),
    "step.silence": Measure("s", "time without a sign of life, once it is longer than it may be; 0 before", _silence),
    "data_wait.share": Measure("1", "part of the step that waits for data, by the GPU if known", _data_wait_share),
    "gpu.utilization": Measure("1", "mean of the last minute, of the GPU that is trained on", _gpu_utilization,
                               (rn.GPU_UTILIZATION,)),
    "gpu.throttled": Measure("1", "part of the last minute in which heat or hardware held clocks down", _gpu_throttled,
                             (rn.GPU_THROTTLED,)),
    "gpu.power_capped": Measure("1", "part of the last minute at the power limit", _power_capped, (rn.GPU_THROTTLED,)),
    "gpu.temperature": Measure(
        "Cel",
        "the last value",
        lambda window: _latest(window, rn.HW_TEMPERATURE, {"hw.sensor_location": "gpu"}),
        (rn.HW_TEMPERATURE,),
    ),
    "gpu.memory.utilization": Measure("1", "the last value", lambda window: _latest(window, rn.GPU_MEMORY_UTILIZATION),
                                      (rn.GPU_MEMORY_UTILIZATION,)),
    "gpu.xid": Measure("{event}", "Xid errors in the last five minutes", lambda window: _rise(window, rn.GPU_XID),
                       (rn.GPU_XID,)),
    "gpu.ecc.uncorrected": Measure(
        "{error}",
        "uncorrected memory errors in the last five minutes",
        lambda window: _rise(window, rn.HW_ERRORS, {"error.type": "uncorrected"}),
        (rn.HW_ERRORS,),
    ),
    "allocator.retries": Measure(
        "{retry}", "torch freed its cache, in five minutes", lambda window: _rise(window, rn.ALLOCATOR_RETRIES),
        (rn.ALLOCATOR_RETRIES,),
    ),
    "host.memory.utilization": Measure("1", "of the container's limit, or else of the host", _host_memory,
                                       (rn.CGROUP_MEMORY_UTILIZATION, rn.MEMORY_UTILIZATION)),
    "host.memory.time_left": Measure("s", "until it is full, while it rises for sure", _host_memory_left_s,
                                     (rn.CGROUP_MEMORY_LIMIT, rn.CGROUP_MEMORY_USAGE, rn.MEMORY_AVAILABLE)),
    "cpu.iowait": Measure(
        "1",
        "part of the last minute that CPUs waited for disks",
        lambda window: _mean(window, rn.CPU_UTILIZATION, {"cpu.mode": "iowait"}),
        (rn.CPU_UTILIZATION,),
    ),
    "filesystem.utilization": Measure("1", "the last value", lambda window: _latest(window, rn.FILESYSTEM_UTILIZATION),
                                      (rn.FILESYSTEM_UTILIZATION,)),
    "filesystem.time_left": Measure("s", "until it is full, while it fills for sure", _filesystem_left_s,
                                    (rn.FILESYSTEM_LIMIT, rn.FILESYSTEM_USAGE)),
    "loss.nonfinite": Measure("{value}", "values in the last minute that are no number", _loss_nonfinite),
    "loss.ratio": Measure("1", "the loss over the median of the window", _loss_ratio),
    "loss.improvement": Measure("1", "part by which the loss changed over the window", _loss_improvement),
    "checkpoint.age": Measure("{interval}", "time since the last one, in usual intervals", _checkpoint_age),
    "checkpoint.time.ratio": Measure("1", "what the last one took over what is usual", _checkpoint_ratio),
    "checkpoint.failures": Measure("{checkpoint}", "in the last ten minutes", _checkpoint_failures),
    "workers.missing": Measure("{process}", "of the loader that feeds the training", _workers_missing,
                               (rn.CHILDREN_COUNT,)),
}  # fmt: skip
"""The figures by the name that rules use."""
