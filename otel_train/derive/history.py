"""A run over time for a page: of each rank its steps, its logged values, its resources, and what happened when.

All times are Unix s: every rank is placed on the calendar by its own anchor.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from otel_train import names
from otel_train.derive.stretches import MOST_POINTS, Column, Stretches, stretches
from otel_train.resource_names import COUNTER, RESOURCES, Series
from otel_train.runlog.events import Event
from otel_train.runlog.ranklog import RankLog

MOST_MARKS = 400
"""Of each kind and rank; of more the longest are kept, and the picture says how many are left out."""

ALL_POINTS, FEWEST_POINTS = 4000, 20
"""Points of steps that all ranks have together, and what each of very many still has."""

SERIES_POINTS = 500
"""Of a logged value or a series of resources."""


@dataclass(frozen=True)
class Thinned:
    """A series as points: each the mean, lowest and highest of values that follow each other."""

    each: int
    """How many values a point stands for."""
    unix_s: Column
    mean: Column
    lowest: Column
    highest: Column


@dataclass(frozen=True)
class Mark:
    """Something that happened. ``what`` is the checkpoint's kind, the evaluation's name, the rule, the error's type."""

    kind: str
    start_unix_s: float
    end_unix_s: float
    what: str
    step: int | None = None


@dataclass(frozen=True)
class History:
    """One rank over time. Empty and None are not recorded."""

    rank: int
    steps: Stretches | None
    scalars: dict[str, Thinned]
    """By name; values that are not finite are left out."""
    resources: dict[Series, Thinned]
    marks: list[Mark] = field(default_factory=list)
    marks_left_out: int = 0


def history(log: RankLog, metrics: Collection[str], points: int = MOST_POINTS) -> History:
    """Read one rank: its steps as at most so many points, and of the resources the metrics that are named."""
    marks = sorted(_marks(log), key=lambda mark: mark.start_unix_s)
    kept = _longest(marks)
    return History(
        log.rank,
        stretches(log, points),
        _scalars(log),
        {key: thinned(*series, SERIES_POINTS) for key, series in _resources(log, metrics).items() if len(series[0])},
        kept,
        len(marks) - len(kept),
    )


def thinned(unix_s: Column, values: Column, most: int) -> Thinned:
    """At most ``most`` points of at least one value: equally many values each, but for the last."""
    each = -(-len(values) // most)
    firsts = np.arange(0, len(values), each)
    counts = np.diff(np.append(firsts, len(values)))
    return Thinned(
        each,
        np.add.reduceat(unix_s, firsts) / counts,
        np.add.reduceat(values, firsts) / counts,
        np.minimum.reduceat(values, firsts),
        np.maximum.reduceat(values, firsts),
    )


def thinner(series: Thinned, most: int) -> Thinned:
    """The same with fewer points: each takes in as many that follow each other."""
    together = -(-len(series.mean) // most)
    if together == 1:
        return series
    means, firsts = thinned(series.unix_s, series.mean, most), np.arange(0, len(series.mean), together)
    return Thinned(
        series.each * together,
        means.unix_s,
        means.mean,
        np.minimum.reduceat(series.lowest, firsts),
        np.maximum.reduceat(series.highest, firsts),
    )


def points_a_rank(ranks: int) -> int:
    """So many points that those of all ranks together are bounded."""
    return min(max(ALL_POINTS // ranks, FEWEST_POINTS), MOST_POINTS)


def _resources(log: RankLog, metrics: Collection[str]) -> dict[Series, tuple[Column, Column]]:
    """Times and values of each series; of counters what they rose by a second."""
    parts: dict[Series, list[tuple[Column, Column]]] = {}
    for table in log.resource_tables():
        for index, key in enumerate(table.series):
            if key[0] in metrics:
                values = table.values[:, index]
                known = np.isfinite(values)
                parts.setdefault(key, []).append((table.times_s[known], values[known]))
    joined = {key: _joined(each) for key, each in parts.items()}
    return {key: _risen(*each) if RESOURCES[key[0]].instrument == COUNTER else each for key, each in joined.items()}


def _joined(parts: list[tuple[Column, Column]]) -> tuple[Column, Column]:
    times, values = zip(*parts, strict=True)
    return np.concatenate(times), np.concatenate(values)


def _risen(unix_s: Column, values: Column) -> tuple[Column, Column]:
    """A counter that fell began anew: what it rose by then is not known, and left out."""
    passed, risen = np.diff(unix_s), np.diff(values)
    known = (passed > 0) & (risen >= 0)
    return unix_s[1:][known], risen[known] / passed[known]


def _scalars(log: RankLog) -> dict[str, Thinned]:
    known = log.names("scalar")
    parts: dict[int, list[tuple[Column, Column]]] = {}
    offset_ns = log.anchor.unix_ns - log.anchor.monotonic_ns
    for _, records in log.scalars.read():
        records = records[np.isfinite(records["value"])]
        for identity in np.unique(records["name"]).tolist():
            mine = records[records["name"] == identity]
            parts.setdefault(identity, []).append(((mine["time_ns"] + offset_ns) / 1e9, mine["value"]))
    found = {}
    for identity, each in sorted(parts.items()):
        found[known.get(identity, f"scalar {identity}")] = thinned(*_joined(each), SERIES_POINTS)
    return found


def _marks(log: RankLog) -> list[Mark]:
    found = []
    for event, _ in log.events():
        what = _WHAT.get(event.kind)
        named = what(event) if what else None
        if named is not None:
            start, end = (log.anchor.to_unix_ns(at) / 1e9 for at in (event.start_ns, event.end_ns))
            found.append(Mark(event.kind, start, end, named, event.step))
    return found


def _checkpoint(event: Event) -> str | None:
    return str(event.attributes.get(names.CHECKPOINT_KIND, "save"))


def _evaluation(event: Event) -> str | None:
    return str(event.attributes.get(names.EVALUATION_NAME, "validation"))


def _alert(event: Event) -> str | None:
    if event.attributes.get(names.ALERT_STATE) == names.RESOLVED:
        return None
    return str(event.attributes.get(names.ALERT_RULE, "?"))


def _error(event: Event) -> str | None:
    return str((event.error or {}).get("type", "?"))


_WHAT: Mapping[str, Callable[[Event], str | None]] = {
    names.CHECKPOINT: _checkpoint,
    names.EVALUATION_KIND: _evaluation,
    names.ALERT: _alert,
    names.ERROR: _error,
}


def _longest(marks: list[Mark]) -> list[Mark]:
    kept: list[Any] = []
    for kind in _WHAT:
        own = [mark for mark in marks if mark.kind == kind]
        kept += sorted(own, key=lambda mark: mark.start_unix_s - mark.end_unix_s)[:MOST_MARKS]
    return sorted(kept, key=lambda mark: mark.start_unix_s)
