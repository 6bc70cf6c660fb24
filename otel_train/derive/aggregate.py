"""Records of a stretch of time, added up: counts, sums and histograms that can be merged, and last values.

What a backend gets as metrics is exactly this; names, units and meanings of the measures are here, and the sinks know
none of them.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from otel_train import names
from otel_train import resource_names as resources
from otel_train.derive.histogram import Histogram
from otel_train.derive.phases import phase_name, used_slots
from otel_train.runlog.events import Event
from otel_train.runlog.layout import EVALUATION, FAILED, MISSING
from otel_train.runlog.records import Records

Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""A metric's name and the attributes of one series of it."""

AMOUNTS = {"samples": names.SAMPLE_COUNT, "tokens": names.TOKEN_COUNT, "padded_tokens": names.PADDED_TOKEN_COUNT}
RATES = {
    names.STEP_COUNT: names.STEP_RATE,
    names.SAMPLE_COUNT: names.SAMPLE_RATE,
    names.TOKEN_COUNT: names.TOKEN_RATE,
}

UNITS = {
    names.STEP_DURATION: "s",
    names.PHASE_DURATION: "s",
    names.PHASE_TIME: "s",
    names.GPU_PHASE_DURATION: "s",
    names.STEP_COUNT: "{step}",
    names.SAMPLE_COUNT: "{sample}",
    names.TOKEN_COUNT: "{token}",
    names.PADDED_TOKEN_COUNT: "{token}",
    names.STEP_RATE: "{step}/s",
    names.SAMPLE_RATE: "{sample}/s",
    names.TOKEN_RATE: "{token}/s",
    names.CHECKPOINT_SIZE: "By",
    names.OVERHEAD: "s",
    names.RECORDS_DROPPED: "{record}",
    names.EXPORT_FAILURES: "{failure}",
    names.ERRORS: "{error}",
    names.LEVEL_SHARE: "1",
    names.LOADER_BATCHES: "{batch}",
    names.LOADER_DATASET_TIME: "s",
    names.LOADER_COLLATE_TIME: "s",
    names.COLLECTIVE_COUNT: "{call}",
    names.COLLECTIVE_IO: "By",
    names.COLLECTIVE_TIME: "s",
    names.GPU_MISSED: "{step}",
    names.ALERTS_ACTIVE: "{alert}",
    names.CHECKPOINTS_LEFT_OUT: "{call}",
}
"""Unit of each metric; none for what ``log()`` was given, and seconds for what ends in ``.duration``."""

LOADER_SUMS = (names.LOADER_BATCHES, names.LOADER_DATASET_TIME, names.LOADER_COLLATE_TIME)
"""What a loader's workers did since its last event."""

COLLECTIVE_AMOUNTS = (names.COLLECTIVE_COUNT, names.COLLECTIVE_IO, names.COLLECTIVE_TIME)

TELLING_ATTRIBUTES = frozenset(
    {
        names.CHECKPOINT_KIND,
        names.CHECKPOINT_MODE,
        names.CHECKPOINT_STAGE,
        names.EVALUATION_NAME,
        names.FUNCTION_NAME,
        names.PHASE,
    }
)
"""Attributes of an event that take few values: the ones that its metrics have."""

TRAINING, EVALUATING = (names.MODE, "training"), (names.MODE, "evaluation")
FAILED_STEP = (names.ERROR_TYPE, "failed")


@dataclass
class Aggregate:
    """Measures by series. Sums only grow; a gauge, or a part of a total, has the last value of the stretch, and is
    missing without one."""

    sums: dict[Key, float] = field(default_factory=dict)
    histograms: dict[Key, Histogram] = field(default_factory=dict)
    gauges: dict[Key, float] = field(default_factory=dict)
    parts: dict[Key, float] = field(default_factory=dict)
    """Last values that make a total with those of other series: bytes in use, processes."""

    def count(self, key: Key, amount: float) -> None:
        """Add to a sum."""
        self.sums[key] = self.sums.get(key, 0) + amount

    def histogram(self, key: Key) -> Histogram:
        """The histogram of a series, empty at first."""
        return self.histograms.setdefault(key, Histogram())

    def merge(self, later: "Aggregate") -> None:
        """Add the sums and histograms of the stretch that follows; its gauges are its own."""
        for key, amount in later.sums.items():
            self.count(key, amount)
        for key, histogram in later.histograms.items():
            self.histogram(key).merge(histogram)

    def copy(self) -> "Aggregate":
        """The sums and histograms as they are now."""
        return Aggregate(dict(self.sums), {key: histogram.copy() for key, histogram in self.histograms.items()})

    def to_json(self) -> dict[str, Any]:
        """Sums and histograms, as JSON can hold them."""
        return {
            "sums": [[key, amount] for key, amount in self.sums.items()],
            "histograms": [[key, histogram.to_json()] for key, histogram in self.histograms.items()],
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Aggregate":
        """What ``to_json`` gave."""
        sums = {_key(key): amount for key, amount in content["sums"]}
        return cls(sums, {_key(key): Histogram.from_json(histogram) for key, histogram in content["histograms"]})


def add_steps(aggregate: Aggregate, records: Records, phase_names: dict[int, str]) -> None:
    """Add steps, those of evaluations apart. About 1 µs a step."""
    evaluating = (records["flags"] & EVALUATION) != 0
    if not evaluating.any():
        _add_steps(aggregate, records, phase_names, TRAINING)
        return
    for chosen, mode in ((records[~evaluating], TRAINING), (records[evaluating], EVALUATING)):
        if len(chosen):
            _add_steps(aggregate, chosen, phase_names, mode)


def add_scalars(aggregate: Aggregate, records: Records, scalar_names: dict[int, str]) -> None:
    """Add values given to ``log()``: the last finite one of each name, and the number of those that are not finite."""
    values, ids = records["value"], records["name"]
    finite = np.isfinite(values)
    for identity in np.unique(ids).tolist():
        name = names.PREFIX + scalar_names.get(identity, f"scalar {identity}")
        mine = ids == identity
        last = np.flatnonzero(mine & finite)
        if len(last):
            aggregate.gauges[name, ()] = float(values[last[-1]])
        nonfinite = int(np.count_nonzero(mine)) - len(last)
        if nonfinite:
            aggregate.count((f"{name}.{names.NONFINITE}", ()), nonfinite)


def add_gpu(aggregate: Aggregate, records: Records, phase_names: dict[int, str]) -> None:
    """Add what timed steps were on the GPU: a histogram for each phase. Steps that were not timed are not in it."""
    used = records["phase_count"][:, None] > np.arange(records["phases"].shape[1])
    phases = records["phases"][used]
    for identity in np.unique(phases["phase"]).tolist():
        mine = phases[phases["phase"] == identity]
        counts = np.maximum(mine["count"].astype(np.int64), 1)
        key = names.GPU_PHASE_DURATION, ((names.PHASE, phase_name(phase_names, identity)),)
        aggregate.histogram(key).add(mine["duration_ns"].astype(np.float64) / 1e9 / counts, counts)


def add_event(aggregate: Aggregate, event: Event, total: Aggregate) -> None:
    """Add an event: durations by kind, sizes, and otel_train's running totals as what they rose above ``total``."""
    if event.kind == names.HEALTH:
        _add_health(aggregate, event.attributes, total)
        return
    if event.kind == names.ALERT:
        rule = ((names.ALERT_RULE, str(event.attributes.get(names.ALERT_RULE))),)
        aggregate.parts[names.ALERTS_ACTIVE, rule] = float(event.attributes.get(names.ALERTS_ACTIVE, 0))
        return
    if event.kind == names.COLLECTIVES:
        _add_collectives(aggregate, event.attributes.get(names.COLLECTIVE_TOTALS, ()), total)
        return
    for name in LOADER_SUMS:
        if name in event.attributes:
            workers = ((names.LOADER_WORKERS, str(event.attributes.get(names.LOADER_WORKERS))),)
            aggregate.count((name, workers), float(event.attributes[name]))
    telling = tuple((key, str(value)) for key, value in event.attributes.items() if key in TELLING_ATTRIBUTES)
    if event.duration_ns is not None:
        count = int(event.attributes.get(names.PHASE_COUNT, 1))
        histogram = aggregate.histogram((f"{names.PREFIX}{event.kind}.duration", telling))
        histogram.add(np.array([event.duration_ns / 1e9 / count]), np.array([count]))
    if event.kind == names.CHECKPOINT and names.CHECKPOINT_SIZE in event.attributes:
        aggregate.gauges[names.CHECKPOINT_SIZE, telling] = event.attributes[names.CHECKPOINT_SIZE]


def add_resources(aggregate: Aggregate, row: Mapping[Key, float], total: Aggregate) -> None:
    """Add a sample of resources. Counters of a row are running totals of the run."""
    rising: dict[Key, float] = {}
    for key, value in row.items():
        known = resources.RESOURCES.get(key[0])
        if known is None or known.instrument == resources.GAUGE:
            aggregate.gauges[key] = value
        elif known.instrument == resources.COUNTER:
            rising[key] = value
        else:
            aggregate.parts[key] = value
    _add_rises(aggregate, rising, total)


def add_rates(aggregate: Aggregate, seconds: float) -> None:
    """Add the throughput of training over a stretch of so many seconds."""
    totals: dict[str, float] = {}
    for (name, attributes), amount in aggregate.sums.items():
        if name in RATES and TRAINING in attributes:
            totals[name] = totals.get(name, 0) + amount
    for name, amount in totals.items():
        aggregate.gauges[RATES[name], ()] = amount / seconds


def unit_of(name: str) -> str:
    """A metric's unit in UCUM; empty for a value that ``log()`` was given."""
    if name in resources.RESOURCES:
        return resources.RESOURCES[name].unit
    return UNITS.get(name, "s" if name.endswith(".duration") else "")


def _add_steps(aggregate: Aggregate, records: Records, phase_names: dict[int, str], mode: tuple[str, str]) -> None:
    failed = int(np.count_nonzero(records["flags"] & FAILED))
    if failed:
        aggregate.count((names.STEP_COUNT, (FAILED_STEP, mode)), failed)
    if len(records) > failed:
        aggregate.count((names.STEP_COUNT, (mode,)), len(records) - failed)
    aggregate.histogram((names.STEP_DURATION, (mode,))).add(records["duration_ns"] / 1e9)
    for column, name in AMOUNTS.items():
        amounts = records[column]
        known = amounts[amounts != MISSING]
        if len(known):
            aggregate.count((name, (mode,)), int(known.sum(dtype=np.int64)))
    _add_phases(aggregate, records, phase_names, mode)


def _add_phases(aggregate: Aggregate, records: Records, phase_names: dict[int, str], mode: tuple[str, str]) -> None:
    used = used_slots(records)
    if not used.any():
        return
    phases = records["phases"][used]
    ids, counts = phases["phase"], phases["count"].astype(np.int64)
    seconds = phases["duration_ns"].astype(np.float64) / 1e9
    outermost = phases["depth"] == 0
    times = np.bincount(ids[outermost], seconds[outermost], 256)
    for identity in np.flatnonzero(np.bincount(ids, minlength=256)).tolist():
        attributes = ((names.PHASE, phase_name(phase_names, identity)), mode)
        mine = ids == identity
        own, each = seconds[mine], counts[mine]
        histogram = aggregate.histogram((names.PHASE_DURATION, attributes))
        if (each == 1).all():
            histogram.add(own)
        else:  # a slot that stands for several: each is taken to have lasted as long as the others
            histogram.add(own / np.maximum(each, 1), each)
        if outermost[mine].any():
            aggregate.count((names.PHASE_TIME, attributes), float(times[identity]))


def _add_health(aggregate: Aggregate, attributes: dict[str, Any], total: Aggregate) -> None:
    running: dict[Key, float] = {}
    for thread, name in (("training", names.OVERHEAD_TRAINING), ("background", names.OVERHEAD_BACKGROUND)):
        if name in attributes:
            running[names.OVERHEAD, ((names.OVERHEAD_THREAD, thread),)] = float(attributes[name])
    if names.LEVEL_SHARE in attributes:
        aggregate.gauges[names.LEVEL_SHARE, ()] = float(attributes[names.LEVEL_SHARE])
    for rule, active in attributes.get(names.ALERTS_ACTIVE, {}).items():
        aggregate.parts[names.ALERTS_ACTIVE, ((names.ALERT_RULE, str(rule)),)] = float(active)
    for name in (names.RECORDS_DROPPED, names.CHECKPOINTS_LEFT_OUT, names.GPU_MISSED):
        if name in attributes:
            running[name, ()] = attributes[name]
    for name, attribute in ((names.EXPORT_FAILURES, names.FAILED_SIGNAL), (names.ERRORS, names.FAILED_SITE)):
        for label, number in attributes.get(name, {}).items():
            running[name, ((attribute, label),)] = number
    _add_rises(aggregate, running, total)


def _add_collectives(aggregate: Aggregate, rows: Iterable[list[Any]], total: Aggregate) -> None:
    running: dict[Key, float] = {}
    for operation, size, *amounts in rows:
        attributes = ((names.COLLECTIVE_OPERATION, str(operation)), (names.GROUP_SIZE, str(size)))
        for name, amount in zip(COLLECTIVE_AMOUNTS, amounts, strict=False):
            running[name, attributes] = float(amount)
    _add_rises(aggregate, running, total)


def _add_rises(aggregate: Aggregate, running: dict[Key, float], total: Aggregate) -> None:
    """Of running totals, what they rose above what is counted already."""
    for key, amount in running.items():
        rise = amount - total.sums.get(key, 0) - aggregate.sums.get(key, 0)
        if rise >= 0 and math.isfinite(rise):
            aggregate.count(key, rise)


def _key(content: list[Any]) -> Key:
    name, attributes = content
    return name, tuple((key, value) for key, value in attributes)
