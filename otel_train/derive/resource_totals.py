"""The samples of memory and the like in ``resources.csv``: highest, lowest, mean and last value of each column."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from otel_train.resource_names import Series, column
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.resources import ResourceTable

Column: TypeAlias = np.ndarray[Any, np.dtype[Any]]


@dataclass
class ResourceTotal:
    """One column, in its own unit (bytes for memory): its highest, last and lowest value, its mean while it trained."""

    max: float
    last: float
    total: float = 0.0
    count: int = 0
    """The sum and the number of the samples while it trained."""
    min: float = math.inf
    trained: tuple[float, float, float, float] | None = None
    """While it trained: Unix time and value of the first sample, and of the last."""

    @property
    def mean(self) -> float | None:
        """The mean of the samples while it trained; None without any."""
        return self.total / self.count if self.count else None

    @property
    def rise(self) -> float | None:
        """What a counter rose by while it trained; None with less than two samples of that time."""
        return self.trained[3] - self.trained[1] if self.trained and self.rise_s else None

    @property
    def rise_s(self) -> float:
        """From the first sample while it trained to the last one."""
        return self.trained[2] - self.trained[0] if self.trained else 0.0

    def merge(self, other: "ResourceTotal") -> None:
        """Take in another rank's: the highest and lowest of both, the higher of the last ones, the longer rise."""
        self.max, self.last, self.min = max(self.max, other.max), max(self.last, other.last), min(self.min, other.min)
        self.total += other.total
        self.count += other.count
        if other.rise_s > self.rise_s or self.trained is None:
            self.trained = other.trained

    def follow(self, later: "ResourceTotal") -> None:
        """Add what the same rank sampled afterwards."""
        self.max, self.last, self.min = max(self.max, later.max), later.last, min(self.min, later.min)
        self.total += later.total
        self.count += later.count
        if self.trained and later.trained:
            self.trained = (*self.trained[:2], *later.trained[2:])
        else:
            self.trained = self.trained or later.trained


def scan_resources(log: RankLog, trained_s: tuple[float, float] | None) -> dict[str, ResourceTotal]:
    """The columns of a rank that have a value, by name. Empty when nothing was sampled; an empty cell is no sample.

    ``trained_s`` is when it trained, first and last moment in Unix time; None if it never did: then means are of all.
    """
    totals: dict[Series, ResourceTotal] = {}
    for table in log.resource_tables():
        for key, total in _totals_of(table, trained_s or (0.0, math.inf)):
            if key in totals:
                totals[key].follow(total)
            else:
                totals[key] = total
    return {column(key): total for key, total in totals.items()}


def together(totals: Iterable[ResourceTotal]) -> ResourceTotal | None:
    """Several columns that are about one thing, as one; None without any."""
    result: ResourceTotal | None = None
    for total in totals:
        if result is None:
            result = replace(total)
        else:
            result.merge(total)
    return result


def _totals_of(table: ResourceTable, trained_s: tuple[float, float]) -> Iterable[tuple[Series, ResourceTotal]]:
    values, known = table.values, ~np.isnan(table.values)
    training = (table.times_s >= trained_s[0]) & (table.times_s <= trained_s[1])
    times, trained, trained_known = table.times_s[training], values[training], known[training]
    sums, counts = np.where(trained_known, trained, 0.0).sum(axis=0), trained_known.sum(axis=0)
    highest, lowest, last = _highest(values), -_highest(-values), _last(known)
    first_trained, last_trained = trained_known.argmax(axis=0) if len(trained) else last, _last(trained_known)
    for at in np.flatnonzero(known.any(axis=0)).tolist():
        total = ResourceTotal(float(highest[at]), float(values[last[at], at]), float(sums[at]), int(counts[at]))
        total.min = float(lowest[at])
        if counts[at]:
            begin, end = first_trained[at], last_trained[at]
            total.trained = float(times[begin]), float(trained[begin, at]), float(times[end]), float(trained[end, at])
        yield table.series[at], total


def _highest(values: Column) -> Column:
    highest: Column = np.where(np.isnan(values), -np.inf, values).max(axis=0)
    return highest


def _last(known: Column) -> Column:
    """The row of each column's last value; some row where it has none."""
    last: Column = len(known) - 1 - known[::-1].argmax(axis=0) if len(known) else np.zeros(known.shape[1], np.int64)
    return last
