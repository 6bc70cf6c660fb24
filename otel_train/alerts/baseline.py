"""What is usual for this run, learnt from itself: medians, which one bad stretch in two does not move."""

import statistics
from collections import deque
from collections.abc import Sequence

ENOUGH = 12
"""Ticks before anything is usual: a minute."""
LONGEST = 720
"""Ticks that it is learnt from: an hour."""
OUTLIER = 1.3
"""A value so many times off is not learnt, so that what is slow does not become usual …"""
NEW_NORMAL = 720
"""… unless it has lasted for so many ticks: then that is how the run is now."""


class Baseline:
    """The usual value of something positive, a value a tick. 20 µs a value."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=LONGEST)
        self._off: deque[float] = deque(maxlen=NEW_NORMAL)

    @property
    def usual(self) -> float | None:
        """The median of what was learnt; None before ``ENOUGH`` values."""
        return statistics.median(self._values) if len(self._values) >= ENOUGH else None

    def learn(self, value: float) -> None:
        """Take in the value of a tick."""
        usual = self.usual
        if usual is None or usual / OUTLIER <= value <= usual * OUTLIER:
            self._values.append(value)
            self._off.clear()
            return
        self._off.append(value)
        if len(self._off) == NEW_NORMAL:
            self._values.clear()
            self._values.extend(self._off)
            self._off.clear()


def weighted_median(pairs: Sequence[tuple[float, float]]) -> float | None:
    """The value below which half of the weight lies, of pairs (value, weight); None of none."""
    total = sum(weight for _, weight in pairs)
    passed = 0.0
    for value, weight in sorted(pairs):
        passed += weight
        if passed * 2 >= total:
            return value
    return None


def slope(points: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """How fast something rises, by Theil and Sen: the median slope over pairs of points (time, value), and the slope
    that three pairs in four exceed. None with fewer than ten points.

    H. Theil, "A rank-invariant method of linear and polynomial regression analysis", 1950; P. K. Sen, 1968.
    """
    if len(points) < 10:
        return None
    step = max(len(points) // MOST_POINTS, 1)
    chosen = list(points)[::-1][::step]
    slopes = [
        (first[1] - second[1]) / (first[0] - second[0])
        for index, first in enumerate(chosen)
        for second in chosen[index + 1 :]
        if first[0] != second[0]
    ]
    if len(slopes) < 2:
        return None
    quartiles = statistics.quantiles(slopes, n=4)
    return statistics.median(slopes), quartiles[0]


MOST_POINTS = 40
"""Points that a slope is worked out from: some 800 pairs, a ms."""
