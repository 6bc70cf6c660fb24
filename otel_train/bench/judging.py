"""Which cell is best, by how much, and whether that is clear: from one number a run, with the run as the unit.

**Comparison.** Runs of one round stand next to each other in time, so two cells are compared by the differences of
their logarithms round by round (a paired t interval, Student 1908): what drifts from round to round falls out, and a
difference is a ratio. The spread of these differences is that of whole runs; steps inside a run do not count as
repetitions. No equal spread of the cells is assumed; that the differences are about normal is.

**Stopping.** After each round from the third on there is a look. With L looks in all and k cells, each interval is
taken at 1 - 0.05 / (L (k - 1)), so that by Bonferroni's inequality the intervals of the truly best cell against each
other one hold at all looks together with a probability of at least 95 %, whenever one stops (Maron and Moore 1994 race
models so; Even-Dar, Mannor and Mansour 2006 eliminate actions so). A cell whose interval against the best lies beyond
it is *beaten* and not run again; one whose interval lies within the margin is *equal*. It is clear when no other cell
is left open. Then, with 95 %: the truly best cell has not been called beaten, and the one that is named is within the
margin of it. This holds for the number of rounds planned at first.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from otel_train.bench.matrix import Cell
from otel_train.derive.difference import t_quantile

ERROR = 0.05
"""What may go wrong: of the verdict as a whole, and of the interval that a cell's own mean has."""

FIRST_LOOK = 3
"""Two runs have one degree of freedom: their interval is 25 standard errors wide, which only costs the later looks."""

BEST, BEATEN, EQUAL, OPEN, UNKNOWN = "best", "beaten", "equal", "open", "unknown"
"""``unknown``: no run of it has the measure."""

MOST_LOGARITHM = 700.0
"""``exp`` of it is 1e304."""

_quantile = lru_cache(t_quantile)
"""A few pairs of degrees and level are asked for again and again; each takes 10 ms."""

Values = Mapping[Cell, Mapping[int, float]]
"""By cell and round, of the runs that succeeded."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval; the limits are None where one run, or none, does not give any."""

    middle: float
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True)
class Judged:
    """A cell: its own mean (of logarithms where all values are positive), and its ratio to the best one."""

    cell: Cell
    mean: Estimate | None
    ratio: Estimate | None
    """The cell over the best; ``count`` is the rounds that both have."""
    verdict: str


@dataclass(frozen=True)
class Judgement:
    """All cells as far as they are known. ``level`` is that of each ratio's interval; None before the first look."""

    cells: tuple[Judged, ...]
    best: Cell | None
    is_clear: bool
    level: float | None
    looks: int

    def of(self, cell: Cell) -> Judged:
        """What is known of a cell."""
        return next(each for each in self.cells if each.cell == cell)

    @property
    def beaten(self) -> set[Cell]:
        """The cells that need no further run."""
        return {each.cell for each in self.cells if each.verdict == BEATEN}


def judge(
    cells: Sequence[Cell], values: Values, higher_is_better: bool, rounds: int, planned: int, margin: float
) -> Judgement:
    """Judge after so many whole rounds of those planned: all looks up to now, one after the other.

    ``margin`` is a share: what differs by less is as good. Ratios need positive values: with others there is none.
    """
    looks = planned_looks(planned)
    level = 1 - ERROR / (len(looks) * max(len(cells) - 1, 1)) if looks else None
    means = {cell: mean_of(list(values.get(cell, {}).values())) for cell in cells}
    is_ratio = all(value > 0 for runs in values.values() for value in runs.values())
    if not is_ratio or not any(means.values()):
        return Judgement(_unjudged(cells, means), None, False, None, 0)
    sign = 1.0 if higher_is_better else -1.0
    gains = {cell: {number: sign * math.log(each) for number, each in values.get(cell, {}).items()} for cell in cells}
    beaten: set[Cell] = set()
    done = [look for look in looks if look <= rounds]
    for look in done:
        seen = {cell: {number: gain for number, gain in gains[cell].items() if number <= look} for cell in cells}
        best = _best(seen, beaten)
        if best is not None and level is not None:
            verdicts = {cell: _verdict(_lead(seen[best], seen[cell], level), margin) for cell in cells if cell != best}
            beaten |= {cell for cell, verdict in verdicts.items() if verdict == BEATEN}
    if done:  # runs of a round that is not whole are no look
        gains = {
            cell: {number: gain for number, gain in runs.items() if number <= done[-1]} for cell, runs in gains.items()
        }
    best = _best(gains, beaten)
    assert best is not None  # the best is never beaten by itself
    judged = tuple(_judged(cell, best, gains, means[cell], sign, level, margin, beaten, bool(done)) for cell in cells)
    others = [each.verdict for each in judged if each.cell != best]
    is_clear = bool(done) and bool(others) and OPEN not in others and others.count(UNKNOWN) < len(others)
    return Judgement(judged, best, is_clear, level, len(done))


def planned_looks(planned: int) -> list[int]:
    """After which rounds it is looked: from the third on, or after the last of fewer; one round decides nothing."""
    return list(range(min(FIRST_LOOK, planned), planned + 1)) if planned > 1 else []


def _unjudged(cells: Sequence[Cell], means: Mapping[Cell, Estimate | None]) -> tuple[Judged, ...]:
    return tuple(Judged(cell, means[cell], None, OPEN if means[cell] else UNKNOWN) for cell in cells)


def _best(gains: Values, beaten: set[Cell]) -> Cell | None:
    known = {cell: float(np.mean(list(runs.values()))) for cell, runs in gains.items() if runs and cell not in beaten}
    return max(known, key=lambda cell: known[cell], default=None)


def _judged(
    cell: Cell, best: Cell, gains: Values, mean: Estimate | None, sign: float, level: float | None, margin: float,
    beaten: set[Cell], looked: bool,
) -> Judged:  # fmt: skip
    if mean is None:
        return Judged(cell, None, None, UNKNOWN)
    if cell == best:
        return Judged(cell, mean, Estimate(1.0, None, None, mean.count), BEST)
    lead = _lead(gains[best], gains[cell], level)
    verdict = BEATEN if cell in beaten else _verdict(lead, margin) if looked else OPEN
    return Judged(cell, mean, _as_ratio(lead, sign), verdict)


def _lead(best: Mapping[int, float], other: Mapping[int, float], level: float | None) -> Estimate | None:
    """How far the best is ahead, in logarithms, over the rounds that both have; None where they have none together."""
    return estimate([best[number] - other[number] for number in best if number in other], level)


def _as_ratio(lead: Estimate | None, sign: float) -> Estimate | None:
    if lead is None:
        return None
    middle = _exp(-sign * lead.middle)
    if lead.low is None or lead.high is None:
        return Estimate(middle, None, None, lead.count)
    low, high = sorted((_exp(-sign * lead.low), _exp(-sign * lead.high)))
    return Estimate(middle, low, high, lead.count)


def _exp(logarithm: float) -> float:
    """What is too large for a number is the largest: the interval of two runs may reach there."""
    return math.exp(logarithm) if logarithm < MOST_LOGARITHM else math.exp(MOST_LOGARITHM)


def _verdict(lead: Estimate | None, margin: float) -> str:
    """A cell that is surely within the margin is equal, even where it is surely behind by a hair."""
    if lead is None or lead.low is None or lead.high is None:
        return OPEN
    within = math.log1p(margin)
    if -within < lead.low and lead.high < within:
        return EQUAL
    return BEATEN if lead.low > 0 else OPEN


def mean_of(values: Sequence[float]) -> Estimate | None:
    """The mean of some runs with its 95 % interval: of their logarithms where all are positive (the geometric mean)."""
    if not values or any(value <= 0 for value in values):
        return estimate(values, 1 - ERROR)
    found = estimate([math.log(value) for value in values], 1 - ERROR)
    assert found is not None
    low, high = (None if limit is None else _exp(limit) for limit in (found.low, found.high))
    return Estimate(_exp(found.middle), low, high, found.count)


def estimate(values: Sequence[float], level: float | None) -> Estimate | None:
    """The mean and Student's interval: mean ± t s / sqrt(n) with n - 1 degrees of freedom. None without a value."""
    count = len(values)
    if not count:
        return None
    middle = float(np.mean(values))
    if count == 1 or level is None:
        return Estimate(middle, None, None, count)
    half = _quantile(count - 1, level) * float(np.std(values, ddof=1)) / math.sqrt(count)
    return Estimate(middle, middle - half, middle + half, count)
