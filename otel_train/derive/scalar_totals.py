"""The values given to ``log()``: the ends, the smallest and the course of each, and what was not finite."""

from dataclasses import dataclass, field

import numpy as np

from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.records import Records

CURVE_POINTS = 40
"""A scalar's course is kept as so many means over parts of the run of equal length."""


@dataclass
class ScalarTotal:
    """One scalar of one rank. First, last and smallest are of finite values, each with its step; None without one."""

    count: int = 0
    nonfinite: int = 0
    first: float | None = None
    first_step: int | None = None
    last: float | None = None
    last_step: int | None = None
    min: float | None = None
    min_step: int | None = None
    max: float | None = None
    last_is_finite: bool = True
    """Whether the very last value was: a loss that ends as not-a-number has diverged."""
    sums: list[float] = field(default_factory=lambda: [0.0] * CURVE_POINTS)
    counts: list[int] = field(default_factory=lambda: [0] * CURVE_POINTS)

    @property
    def curve(self) -> list[float | None]:
        """The mean of each part of the run; None where a part has no finite value."""
        return [total / count if count else None for total, count in zip(self.sums, self.counts, strict=True)]

    def add(self, records: Records, parts: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> None:
        """Add a segment's values; ``parts`` says to which part of the run each belongs."""
        values = records["value"]
        finite = np.isfinite(values)
        self.count += len(values)
        self.nonfinite += len(values) - int(np.count_nonzero(finite))
        self.last_is_finite = bool(finite[-1])
        if not finite.any():
            return
        values, steps, parts = values[finite], records["step"][finite], parts[finite]
        if self.first is None:
            self.first, self.first_step = float(values[0]), int(steps[0])
        self.last, self.last_step = float(values[-1]), int(steps[-1])
        lowest, highest = int(np.argmin(values)), float(np.max(values))
        if self.min is None or values[lowest] < self.min:
            self.min, self.min_step = float(values[lowest]), int(steps[lowest])
        self.max = highest if self.max is None else max(self.max, highest)
        for part in np.unique(parts).tolist():
            here = values[parts == part]
            self.sums[part] += float(here.sum())
            self.counts[part] += len(here)


def scan_scalars(log: RankLog) -> dict[str, ScalarTotal]:
    """The scalars of a rank by name, in the order of their first use. Raises ``UnknownFormat``."""
    names = log.names("scalar")
    oldest, end = log.scalars.bounds()
    totals: dict[int, ScalarTotal] = {}
    for first, records in log.scalars.read():
        records = records[: max(end - first, 0)]
        parts = (np.arange(first, first + len(records)) - oldest) * CURVE_POINTS // max(end - oldest, 1)
        for identity in np.unique(records["name"]).tolist():
            mine = records["name"] == identity
            totals.setdefault(identity, ScalarTotal()).add(records[mine], parts[mine])
    return {names.get(identity, f"scalar {identity}"): totals[identity] for identity in sorted(totals)}
