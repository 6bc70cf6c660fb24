"""Two profiles side by side: which operators and kernels take longer in the second."""

from collections.abc import Callable
from dataclasses import dataclass

from otel_train.profiles.analysis import Analysis
from otel_train.profiles.operators import Row


@dataclass(frozen=True)
class Change:
    """An operator or a kernel in both: its calls, and its time (s) in the window or on the device."""

    name: str
    calls: tuple[int, int]
    times_s: tuple[float, float]

    @property
    def slower_s(self) -> float:
        """By how much the second is slower; below zero when it is faster."""
        return self.times_s[1] - self.times_s[0]


def operator_changes(first: Analysis, second: Analysis) -> list[Change]:
    """Of the windows' own time, the largest change first. Time in no operator is ``(no operator)``."""
    changes = _changes(first.table.rows, second.table.rows, lambda row: row.window_s)
    none = Change("(no operator)", (1, 1), (first.table.none_s, second.table.none_s))
    return sorted([*changes, none], key=lambda change: -abs(change.slower_s))


def kernel_changes(first: Analysis, second: Analysis) -> list[Change]:
    """Of the device's time."""
    changes = _changes(first.table.kernels, second.table.kernels, lambda row: row.device_s)
    return sorted(changes, key=lambda change: -abs(change.slower_s))


def _changes(first: list[Row], second: list[Row], time_of: Callable[[Row], float]) -> list[Change]:
    before, after = ({row.name: row for row in rows} for rows in (first, second))
    none = Row("", 0, 0)
    return [
        Change(
            name,
            (before.get(name, none).calls, after.get(name, none).calls),
            (time_of(before.get(name, none)), time_of(after.get(name, none))),
        )
        for name in {**before, **after}
    ]
