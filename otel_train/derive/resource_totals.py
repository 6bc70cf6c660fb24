"""The samples of memory and the like in ``resources.csv``: the highest and the last value of each column."""

from dataclasses import dataclass

from otel_train.resource_names import Series, column
from otel_train.runlog.ranklog import RankLog


@dataclass
class ResourceTotal:
    """One column: its highest, its mean, and its last value, in the column's own unit (bytes for memory)."""

    max: float
    last: float
    total: float
    count: int

    @property
    def mean(self) -> float:
        """The mean of all samples."""
        return self.total / self.count

    def add(self, value: float) -> None:
        """Add a later sample."""
        self.max, self.last = max(self.max, value), value
        self.total += value
        self.count += 1

    def merge(self, other: "ResourceTotal") -> None:
        """Take in another rank's: the highest of both, the higher of the last ones."""
        self.max, self.last = max(self.max, other.max), max(self.last, other.last)
        self.total += other.total
        self.count += other.count


def scan_resources(log: RankLog) -> dict[str, ResourceTotal]:
    """The columns of a rank that have a value, by name. Empty when nothing was sampled; an empty cell is no sample."""
    totals: dict[Series, ResourceTotal] = {}
    for _, row, _ in log.resources():
        for key, value in row.items():
            if key in totals:
                totals[key].add(value)
            else:
                totals[key] = ResourceTotal(value, value, value, 1)
    return {column(key): total for key, total in totals.items()}
