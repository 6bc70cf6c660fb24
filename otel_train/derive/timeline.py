"""A rank's log over time: steps, phases and resources in equal stretches, for a picture."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from otel_train import names
from otel_train.derive.phases import phase_name, used_slots
from otel_train.resource_names import COUNTER, RESOURCES, Series
from otel_train.runlog.events import Event
from otel_train.runlog.layout import EVALUATION, MISSING
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.records import Records

Column = np.ndarray[Any, np.dtype[np.float64]]

STRETCHES = 240
"""How many a run is divided into: what a picture can show."""
SHORTEST_S = 1.0
NOT_DRAWN = "rest of the step"


@dataclass
class Timeline:
    """Values by stretch; not-a-number where there is none. Times in s since the run began on its own clock."""

    edges_s: Column
    rate: Column
    """Samples a second; steps, where samples are unknown."""
    rate_unit: str
    step_s: Column
    """The median step."""
    slow_step_s: Column
    """The step that 95 in 100 are faster than."""
    phases_s: dict[str, Column] = field(default_factory=dict)
    """A mean step's time by phase of its own, and what is left."""
    resources: dict[Series, tuple[Column, Column]] = field(default_factory=dict)
    """Times and values of each series; of counters what they rose by a second."""
    checkpoints: list[tuple[float, float]] = field(default_factory=list)
    evaluations: list[tuple[float, float]] = field(default_factory=list)
    """Begin and end of each."""
    alerts: list[tuple[float, str, bool]] = field(default_factory=list)
    """When, which rule, and whether it is over."""

    @property
    def middles_s(self) -> Column:
        """The middle of each stretch."""
        return (self.edges_s[:-1] + self.edges_s[1:]) / 2


def timeline(log: RankLog, stretches: int = STRETCHES) -> Timeline:
    """Read a rank's whole log. About 1 µs a step."""
    origin_ns = log.anchor.monotonic_ns
    chunks = [records for _, records in log.steps.read()]
    training = [chunk[(chunk["flags"] & EVALUATION) == 0] for chunk in chunks]
    rows = [(unix_s - log.anchor.unix_ns / 1e9, row) for unix_s, row, _ in log.resources()]
    events = [event for event, _ in log.events()]
    ends = [(chunk["start_ns"] + chunk["duration_ns"] - origin_ns) / 1e9 for chunk in training]
    last_s = max([float(each[-1]) for each in ends if len(each)] + [time_s for time_s, _ in rows] + [SHORTEST_S])
    edges = np.linspace(0.0, last_s, max(min(stretches, int(last_s / SHORTEST_S)), 1) + 1)
    found = _steps(log, training, ends, edges)
    found.resources = _resources(rows)
    for event in events:
        _add_event(found, event, origin_ns)
    return found


def _steps(log: RankLog, chunks: list[Records], ends: list[Any], edges: Column) -> Timeline:
    count = len(edges) - 1
    nothing = np.full(count, np.nan)
    found = Timeline(edges, nothing.copy(), "steps", nothing.copy(), nothing.copy())
    known_phases = log.names("phase")
    durations: list[list[Column]] = [[] for _ in range(count)]
    steps, samples = np.zeros(count), np.zeros(count)
    times: dict[str, Column] = {}
    for records, end_s in zip(chunks, ends, strict=True):
        if not len(records):
            continue
        at = np.clip(np.searchsorted(edges, end_s, "left") - 1, 0, count - 1)
        own = records["duration_ns"] / 1e9
        for index in np.unique(at).tolist():
            durations[index].append(own[at == index])
        steps += np.bincount(at, minlength=count)
        amounts = np.where(records["samples"] == MISSING, 0, records["samples"])
        samples += np.bincount(at, amounts, minlength=count)
        used = used_slots(records) & (records["phases"]["depth"] == 0)
        for identity in np.unique(records["phases"]["phase"][used]).tolist():
            spent = np.where(used & (records["phases"]["phase"] == identity), records["phases"]["duration_ns"], 0)
            name = phase_name(known_phases, identity)
            times.setdefault(name, np.zeros(count))
            times[name] += np.bincount(at, spent.sum(axis=1, dtype=np.float64) / 1e9, minlength=count)
    has = steps > 0
    for index in np.flatnonzero(has).tolist():
        together = np.concatenate(durations[index])
        found.step_s[index], found.slow_step_s[index] = np.median(together), np.percentile(together, 95)
        times.setdefault(NOT_DRAWN, np.zeros(count))[index] += together.sum()
    for name, spent in times.items():
        if name != NOT_DRAWN:
            times[NOT_DRAWN] = times[NOT_DRAWN] - spent
            found.phases_s[name] = np.divide(spent, steps, out=nothing.copy(), where=has)
    if NOT_DRAWN in times:
        found.phases_s[NOT_DRAWN] = np.divide(np.maximum(times[NOT_DRAWN], 0), steps, out=nothing.copy(), where=has)
    if samples.any():
        found.rate_unit, steps = "samples", samples
    found.rate = np.where(has, steps / np.diff(edges), np.nan)
    return found


def _resources(rows: list[tuple[float, dict[Series, float]]]) -> dict[Series, tuple[Column, Column]]:
    points: dict[Series, tuple[list[float], list[float]]] = {}
    for time_s, row in rows:
        for key, value in row.items():
            times, values = points.setdefault(key, ([], []))
            times.append(time_s)
            values.append(value)
    found: dict[Series, tuple[Column, Column]] = {}
    for key, (times, values) in points.items():
        at, read = np.array(times), np.array(values)
        known = RESOURCES.get(key[0])
        if known is not None and known.instrument == COUNTER:
            passed = np.diff(at)
            found[key] = at[1:], np.divide(np.diff(read), passed, out=np.zeros(len(passed)), where=passed > 0)
        else:
            found[key] = at, read
    return found


def _add_event(found: Timeline, event: Event, origin_ns: int) -> None:
    start_s, end_s = (event.start_ns - origin_ns) / 1e9, (event.end_ns - origin_ns) / 1e9
    if event.kind == names.CHECKPOINT and event.attributes.get(names.CHECKPOINT_KIND, "save") == "save":
        found.checkpoints.append((start_s, end_s))
    elif event.kind == names.EVALUATION_KIND:
        found.evaluations.append((start_s, end_s))
    elif event.kind == names.ALERT:
        is_over = event.attributes.get(names.ALERT_STATE) == names.RESOLVED
        found.alerts.append((start_s, str(event.attributes.get(names.ALERT_RULE)), is_over))
