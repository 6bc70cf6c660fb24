"""The samples of memory and the like in ``resources.csv``: highest, mean and last value of each column."""

import math
from dataclasses import dataclass

from otel_train.resource_names import Series, column
from otel_train.runlog.ranklog import RankLog


@dataclass
class ResourceTotal:
    """One column, in its own unit (bytes for memory): its highest and last value, and its mean while it trained."""

    max: float
    last: float
    total: float = 0.0
    count: int = 0
    """The sum and the number of the samples while it trained."""

    @property
    def mean(self) -> float | None:
        """The mean of the samples while it trained; None without any."""
        return self.total / self.count if self.count else None

    def add(self, value: float, training: bool) -> None:
        """Add a later sample."""
        self.max, self.last = max(self.max, value), value
        if training:
            self.total += value
            self.count += 1

    def merge(self, other: "ResourceTotal") -> None:
        """Take in another rank's: the highest of both, the higher of the last ones."""
        self.max, self.last = max(self.max, other.max), max(self.last, other.last)
        self.total += other.total
        self.count += other.count


def scan_resources(log: RankLog, trained_s: tuple[float, float] | None) -> dict[str, ResourceTotal]:
    """The columns of a rank that have a value, by name. Empty when nothing was sampled; an empty cell is no sample.

    ``trained_s`` is when it trained, first and last moment in Unix time; None if it never did: then means are of all.
    """
    totals: dict[Series, ResourceTotal] = {}
    first_s, last_s = trained_s or (0.0, math.inf)
    for time_s, row, _ in log.resources():
        training = first_s <= time_s <= last_s
        for key, value in row.items():
            total = totals.get(key)
            if total is None:
                total = totals[key] = ResourceTotal(value, value)
            total.add(value, training)
    return {column(key): total for key, total in totals.items()}
