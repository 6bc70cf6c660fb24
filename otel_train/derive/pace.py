"""The pace: what all phases of a step share, since a machine that is busy or hot makes all of them slower alike.

Everything here is of two arrays, the times of the same phases before and after, in s a step.
"""

import math
from collections.abc import Sequence

import numpy as np

from otel_train.derive.difference import Series
from otel_train.runlog.layout import DATA_WAIT

APART = 0.05
"""Paces that differ by more, as logarithms, are none: nothing says which of the phases changed."""
TOO_LARGE = 1.0
"""What by itself takes so many steps more, or less (the shorter ones of the two sides), is the run's own, however alike
the others are. With a quarter of a step, 3 in 100 of the study's equal runs were taken for different."""
TWICE = 2.0
"""A wait for data that is so many times what the others' pace makes of it, and ``TOO_LARGE``, is a queue's doing."""
MODEL = "forward", "backward"
"""What changes in one of them often changes in the other: a change that the step as a whole does not show has to be
seen with these as one, too."""
SMALL = 0.005
"""Phases of a smaller part of the step have no vote on the pace: their own noise is too large."""


def pace_of(before: Series, after: Series) -> float:
    """The logarithm of how much longer phases take alike: the median of theirs, each with the weight of its time."""
    both = (before > 0) & (after > 0)
    if not both.any():
        return 0.0
    logs, weights = np.log(after[both] / before[both]), before[both]
    order = np.argsort(logs)
    passed = np.cumsum(weights[order])
    return float(logs[order][np.searchsorted(passed, passed[-1] / 2)])


def paces_of(before: Series, after: Series, voters: Sequence[str] = ()) -> list[float]:
    """The pace as the phases' time has it and, each phase with one vote, as the two in the middle have it. Phases that
    have the same one of the ``voters`` have one together.

    They agree where most phases, of most of the time, change alike. Where forward and backward became faster and all
    else did not, they do not, and nothing says which of the two is the machine's.
    """
    voter = np.unique(voters, return_inverse=True)[1] if voters else np.arange(len(before))
    earlier, later = (np.bincount(voter, times) for times in (before, after))
    voting = (earlier > SMALL * before.sum()) & (later > 0)
    logs = np.sort(np.log(later[voting] / earlier[voting]))
    votes = [float(logs[(len(logs) - 1) // 2]), float(logs[len(logs) // 2])] if len(logs) else []
    return [pace_of(before, after), *votes]


def beyond_pace(before: Series, after: Series, pace: float | None = None) -> Series:
    """What each phase takes more than the pace explains, in parts of the step before."""
    pace = pace_of(before, after) if pace is None else pace
    own: Series = (after * math.exp(-pace) - before) / before.sum()
    return own


def own_of(names: Sequence[str], before: Series, after: Series, limit: float, voters: Sequence[str] = ()) -> Series:
    """What each phase takes more, or less, beyond the pace: of those in question the least of it; 0 for phases that
    tell the pace, where these are far apart. What no machine makes (``limit``) is no pace: then it is as it is."""
    telling = telling_of(names, before, after)
    voting = [voter for voter, tells in zip(voters, telling, strict=False) if tells]
    paces = [pace if abs(pace) <= limit else 0.0 for pace in paces_of(before[telling], after[telling], voting)]
    found = np.array([beyond_pace(before, after, pace) for pace in paces])
    least = np.abs(found).min(axis=0)
    own: Series = np.where((found > 0).all(axis=0), least, np.where((found < 0).all(axis=0), -least, 0.0))
    return np.where(telling, 0.0, own) if max(paces) - min(paces) > APART else own


def telling_of(names: Sequence[str], before: Series, after: Series) -> Series:
    """Which phases tell the pace: all, but for a wait for data that changes far more than the others do."""
    telling = np.ones(len(names), bool)
    if DATA_WAIT in names and len(names) > 2:
        at = names.index(DATA_WAIT)
        others = np.arange(len(names)) != at
        usual = before[at] * math.exp(pace_of(before[others], after[others]))
        apart = abs(after[at] - usual) > TOO_LARGE * min(before.sum(), after.sum())
        telling[at] = not (apart and max(after[at], usual) > TWICE * min(after[at], usual))
    return telling
