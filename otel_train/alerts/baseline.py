"""What is usual for this run, learnt from itself: medians, which one bad stretch in two does not move."""

import statistics
from collections import deque
from collections.abc import Sequence
from itertools import pairwise

ENOUGH = 12
"""Ticks before anything is usual: a minute."""
LONGEST = 720
"""Ticks that it is learnt from: an hour."""
OUTLIER = 1.3
"""A value so many times off is not learnt, so that what is slow does not become usual …"""
NEW_NORMAL = 720
"""… unless it has lasted for so many ticks: then that is how the run is now."""
NEW_BETTER = 60
"""So many ticks are enough where it became better: the first minutes read from cold caches."""
LEARN_ALL = 60
"""Ticks that are all learnt, whatever they are: five minutes."""


class Baseline:
    """The usual value of something positive, a value a tick. 20 µs a value."""

    def __init__(self, higher_is_better: bool = False) -> None:
        self._higher_is_better = higher_is_better
        self._values: deque[float] = deque(maxlen=LONGEST)
        self._off: deque[float] = deque(maxlen=NEW_NORMAL)

    @property
    def usual(self) -> float | None:
        """The median of what was learnt; None before ``ENOUGH`` values."""
        return statistics.median(self._values) if len(self._values) >= ENOUGH else None

    def learn(self, value: float) -> None:
        """Take in the value of a tick."""
        usual = self.usual
        few = len(self._values) < LEARN_ALL
        if usual is None or few or usual / OUTLIER <= value <= usual * OUTLIER:
            self._values.append(value)
            self._off.clear()
            return
        better = (value > usual) == self._higher_is_better
        if self._off and better != ((self._off[-1] > usual) == self._higher_is_better):
            self._off.clear()
        self._off.append(value)
        if len(self._off) >= (NEW_BETTER if better else NEW_NORMAL):
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


def staircase(points: Sequence[tuple[float, float]]) -> float | None:
    """How fast something rises by steps, from the first point to the last; None unless it rose ``RISES`` times at least
    and never fell by more than the smallest of them."""
    changes = [later[1] - before[1] for before, later in pairwise(points)]
    largest = max(changes, default=0.0)
    rises = [change for change in changes if change > largest * SMALL]
    if len(rises) < RISES or min(changes) < -min(rises):
        return None
    return (points[-1][1] - points[0][1]) / (points[-1][0] - points[0][0])


RISES = 3
SMALL = 0.1
"""Of the largest rise: smaller ones are noise beside it."""
MOST_POINTS = 40
"""Points that a slope is worked out from: some 800 pairs, a ms."""
