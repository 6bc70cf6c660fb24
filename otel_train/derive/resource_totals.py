"""The samples of memory and the like in ``resources.csv``: the highest and the last value of each column."""

import csv
import io
import math
from dataclasses import dataclass

from otel_train.runlog.layout import RESOURCES
from otel_train.runlog.ranklog import RankLog

TIME_COLUMN = "unix_s"


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
    totals: dict[str, ResourceTotal] = {}
    try:
        content = log.storage.read(RESOURCES)
    except FileNotFoundError:
        return totals
    whole = content[: content.rfind(b"\n") + 1].decode()
    for row in csv.DictReader(io.StringIO(whole)):
        for name, text in row.items():
            value = _number(text)
            if name == TIME_COLUMN or value is None:
                continue
            if name in totals:
                totals[name].add(value)
            else:
                totals[name] = ResourceTotal(value, value, value, 1)
    return totals


def _number(text: object) -> float | None:
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
