"""Where a series changes its level for good: binary segmentation on ranks, held to a permutation test and an effect.

Ranks, medians and the test assume nothing of the noise but that it is alike all along and, beyond the lags that are
estimated, independent (Pettitt 1979; Killick, Fearnhead, Eckley 2012 on segmentation; blocks as Künsch 1989).
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

Column: TypeAlias = np.ndarray[Any, np.dtype[Any]]

SHORTEST = 6
"""A level that holds for fewer values is none."""

LEAST_BLOCKS = 4
"""Nor is one that holds for fewer blocks of values that hang together."""

PERMUTATIONS = 999
LARGEST_P = 0.002
"""A change is kept when at most so many of the permutations of the series show as large a one."""

SUPERIORITY = 0.85
"""So often a value after the change is on the other side of one before it: a drift or a burst is no change of level."""

MOST_CHANGES = 8
MOST_LAGS = 20
SEED = 20250101


def change_points(values: Column, smallest: float) -> list[int]:
    """The indices at which a new level begins, in order. ``smallest`` is the least change of the median, a part of 1.

    The same values give the same answer. Values must be above 0 and finite.
    """
    found: list[int] = []
    waiting = [(0, len(values))]
    while waiting and len(found) < MOST_CHANGES:
        begin, end = waiting.pop(0)
        at = _split(values[begin:end], smallest)
        if at is not None:
            found.append(begin + at)
            waiting += [(begin, begin + at), (begin + at, end)]
    return _held(values, sorted(found), smallest)


def effect(before: Column, after: Column) -> float:
    """By what part of itself the median changes."""
    return float(np.median(after) / np.median(before) - 1)


def superiority(before: Column, after: Column) -> float:
    """How often a value after is above one before, ties half (Mann-Whitney's U over the number of pairs)."""
    ordered = np.sort(before)
    below, not_above = np.searchsorted(ordered, after, "left"), np.searchsorted(ordered, after, "right")
    return float((below + not_above).sum() / (2 * len(before) * len(after)))


def _split(values: Column, smallest: float) -> int | None:
    """The most likely change of a stretch; None where it may be chance, or where all of it is too much alike."""
    count = len(values)
    if count < 2 * SHORTEST or _range_of_levels(values) < smallest:
        return None
    ranks = values.argsort().argsort() - (count - 1) / 2
    places = np.arange(SHORTEST, count - SHORTEST + 1)
    weights = 1 / np.sqrt(places * (count - places))
    contrasts = np.abs(np.cumsum(ranks)[places - 1]) * weights
    at = int(places[np.argmax(contrasts)])
    lags = _lags(values, at)
    if min(at, count - at) < LEAST_BLOCKS * lags:
        return None
    shuffled = _permuted(ranks, lags)
    chance = (np.abs(np.cumsum(shuffled, axis=1)[:, places - 1]) * weights).max(axis=1)
    p = (1 + int(np.count_nonzero(chance >= np.max(contrasts)))) / (1 + len(chance))
    return at if p <= LARGEST_P else None


def _range_of_levels(values: Column) -> float:
    """The highest median of neighbours over the lowest, less 1: a cheap bound on any change that there is."""
    medians = np.median(np.lib.stride_tricks.sliding_window_view(values, SHORTEST), axis=1)
    return float(medians.max() / medians.min() - 1)


def _lags(values: Column, at: int) -> int:
    """So many neighbours hang together: twice the lag up to which they correlate, apart from the change at ``at``."""
    ranks = np.concatenate([_centred_ranks(values[:at]), _centred_ranks(values[at:])])
    total = float(ranks @ ranks)
    small = 2 / len(ranks) ** 0.5
    for lag in range(1, min(MOST_LAGS, len(ranks) // 4)):
        if not total or float(ranks[lag:] @ ranks[:-lag]) / total < small:
            return 2 * lag - 1
    return max(min(MOST_LAGS, len(ranks) // 4), 1)


def _centred_ranks(values: Column) -> Column:
    ranks: Column = (values.argsort().argsort() - (len(values) - 1) / 2) / len(values)
    return ranks


def _permuted(ranks: Column, lags: int) -> Column:
    """Permutations of the series in blocks of so many neighbours, which stay together; the first begins anywhere."""
    rng = np.random.default_rng(SEED)
    blocks = max(-(-len(ranks) // lags), 1)
    order = rng.permuted(np.tile(np.arange(blocks), (PERMUTATIONS, 1)), axis=1)
    places = (order[:, :, None] * lags + np.arange(lags)).reshape(PERMUTATIONS, -1)
    shifts = rng.integers(0, len(ranks), (PERMUTATIONS, 1))
    inside = places < len(ranks)
    places = places[inside].reshape(PERMUTATIONS, len(ranks))  # the short block lacks the same places in each row
    shuffled: Column = ranks[(places + shifts) % len(ranks)]
    return shuffled


def _held(values: Column, found: Sequence[int], smallest: float) -> list[int]:
    """The changes that are large and clear between the stretches beside them; the weakest is taken back first."""
    kept = list(found)
    while kept:
        edges = [0, *kept, len(values)]
        strengths = [
            _strength(values[edges[index] : at], values[at : edges[index + 2]], smallest)
            for index, at in enumerate(kept)
        ]
        weakest = min(range(len(kept)), key=lambda index: strengths[index])
        if strengths[weakest] > 0:
            break
        del kept[weakest]
    return kept


def _strength(before: Column, after: Column, smallest: float) -> float:
    """The size of a change of level, as a factor's logarithm; below 0 where it is too small or not clear."""
    size = abs(effect(before, after))
    above = superiority(before, after)
    clear = max(above, 1 - above) >= SUPERIORITY
    return float(abs(np.log1p(effect(before, after)))) if size >= smallest and clear else size - 1e6 * (not clear) - 1
