"""Where a series changes its level: circular binary segmentation on ranks, held to a permutation test and an effect.

Ranks, medians and the test assume nothing of the noise but that it is alike all along and, beyond the lags that are
estimated, independent (Olshen, Venkatraman, Lucito, Wigler 2004 on the segmentation; Künsch 1989 on blocks).
"""

import functools
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

Column: TypeAlias = np.ndarray[Any, np.dtype[Any]]

SHORTEST = 6
"""A level that holds for fewer values is none."""

LEAST_VALUES = 40
"""Of fewer nothing is said: how they hang together cannot be told."""

LEAST_BLOCKS = 4
"""Nor is one that holds for fewer blocks of values that hang together."""

PERMUTATIONS, AT_ONCE = 999, 111
LARGEST_P = 0.002
"""A change is kept when at most so many of the permutations of the series show as large a one."""

SUPERIORITY = 0.85
"""So often a value after the change is on the other side of one before it: a drift or a burst is no change of level."""

GRID = 24
"""Stretches begin and end at so many places at first."""

MOST_CHANGES = 8
MOST_LAGS = 20
SEED = 20250101


def change_points(values: Column, smallest: float) -> list[int]:
    """The indices at which a new level begins, in order. ``smallest`` is the least change of the median, a part of 1.

    The same values give the same answer. Values must be above 0 and finite.
    """
    found: list[int] = []
    waiting = [(0, len(values))] if len(values) >= LEAST_VALUES else []
    while waiting and len(found) < MOST_CHANGES:
        begin, end = waiting.pop(0)
        edges = [begin + at for at in _split(values[begin:end], smallest)]
        if edges:
            found += edges
            waiting += pairwise([begin, *edges, end])
    return _held(values, sorted(found), smallest)


def effect(before: Column, after: Column) -> float:
    """By what part of itself the median changes."""
    return float(np.median(after) / np.median(before) - 1)


def superiority(before: Column, after: Column) -> float:
    """How often a value after is above one before, ties half (Mann-Whitney's U over the number of pairs)."""
    ordered = np.sort(before)
    below, not_above = np.searchsorted(ordered, after, "left"), np.searchsorted(ordered, after, "right")
    return float((below + not_above).sum() / (2 * len(before) * len(after)))


def _split(values: Column, smallest: float) -> list[int]:
    """Where the most likely stretch of another level begins and ends (it may reach to an end of the values); nothing
    where it may be chance, or where all of it is too much alike."""
    count = len(values)
    if count < 2 * SHORTEST or _range_of_levels(values) < smallest:
        return []
    ranks = _centred_ranks(values)
    begins, ends = _stretches(count)
    lengths = ends - begins
    weights = 1 / np.sqrt(lengths * (count - lengths))

    def contrasts(series: Column) -> Column:
        sums = np.concatenate((np.zeros((len(series), 1)), np.cumsum(series, axis=1)), axis=1)
        found: Column = np.abs(sums[:, ends] - sums[:, begins]) * weights
        return found

    found = contrasts(ranks[None])[0]
    best = int(np.argmax(found))
    begin, end = int(begins[best]), int(ends[best])
    lags = _lags(values, begin, end)
    if min(end - begin, count - (end - begin)) < LEAST_BLOCKS * lags:
        return []
    as_large = 0
    for places in _shuffles(count, lags):
        as_large += int(np.count_nonzero(contrasts(ranks[places]).max(axis=1) >= found[best]))
        if (1 + as_large) / (1 + PERMUTATIONS) > LARGEST_P:
            return []
    edges = [begin and _sharpened(ranks, 0, begin, end), end if end == count else _sharpened(ranks, begin, end, count)]
    return [edge for edge in edges if 0 < edge < count]


@functools.lru_cache(maxsize=16)
def _stretches(count: int) -> tuple[Column, Column]:
    """Begins and ends of the stretches that are tried: on a grid, neither they nor their rest too short."""
    grid = np.unique(np.linspace(0, count, min(count, GRID) + 1).astype(np.int64))
    begins, ends = (each.ravel() for each in np.meshgrid(grid, grid, indexing="ij"))
    lengths = ends - begins
    fit = (lengths >= SHORTEST) & (count - lengths >= SHORTEST)
    fit &= (begins == 0) | (begins >= SHORTEST)
    fit &= (ends == count) | (count - ends >= SHORTEST)
    return begins[fit], ends[fit]


def _sharpened(ranks: Column, begin: int, at: int, end: int) -> int:
    """The change between ``begin`` and ``end`` that lies on the grid at ``at``, to the value."""
    reach = len(ranks) // GRID + 1
    first, last = max(at - reach, begin + 1), min(at + reach, end - 1)
    places = np.arange(first, last + 1) - begin
    here = ranks[begin:end] - ranks[begin:end].mean()
    contrasts = np.abs(np.cumsum(here)[places - 1]) / np.sqrt(places * (len(here) - places))
    return begin + int(places[np.argmax(contrasts)])


def _centred_ranks(values: Column) -> Column:
    ranks: Column = values.argsort().argsort() - (len(values) - 1) / 2
    return ranks


def _range_of_levels(values: Column) -> float:
    """The highest median of neighbours over the lowest, less 1: a cheap bound on any change that there is."""
    medians = np.median(np.lib.stride_tricks.sliding_window_view(values, SHORTEST), axis=1)
    return float(medians.max() / medians.min() - 1)


def _lags(values: Column, begin: int, end: int) -> int:
    """So many neighbours hang together: twice the lag up to which their ranks correlate. The mean of two: with all slow
    movement taken away, which also takes some of what hangs together; and with the stretch's own level taken away,
    which leaves other changes in."""
    pieces = [each for each in (values[:begin], values[begin:end], values[end:]) if len(each)]
    apart = np.concatenate([each - np.median(each) for each in pieces])
    return (_correlated(values - _levels(values)) + _correlated(apart) + 1) // 2


def _correlated(values: Column) -> int:
    ranks = _centred_ranks(values)
    total = float(ranks @ ranks)
    small = 2 / len(ranks) ** 0.5
    most = min(MOST_LAGS, len(ranks) // 4)
    lag = next((lag for lag in range(1, most) if float(ranks[lag:] @ ranks[:-lag]) / total < small), most)
    return max(min(2 * lag - 1, MOST_LAGS), 1)


def _levels(values: Column) -> Column:
    """The running median, over a sixth of the values: it follows levels that last half as long."""
    half = max(len(values) // 12, SHORTEST)
    padded = np.pad(values, half, mode="reflect")
    levels: Column = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)
    return levels


@functools.lru_cache(maxsize=16)
def _shuffles(count: int, lags: int) -> list[Column]:
    """Permutations in blocks of so many neighbours, which stay together; the first begins anywhere. Places, row by row;
    the ranks of a run mostly ask for the same ones."""
    rng, found = np.random.default_rng(SEED), []
    for _ in range(PERMUTATIONS // AT_ONCE):
        blocks = max(-(-count // lags), 1)
        order = rng.permuted(np.tile(np.arange(blocks), (AT_ONCE, 1)), axis=1)
        places = (order[:, :, None] * lags + np.arange(lags)).reshape(AT_ONCE, -1)
        places = places[places < count].reshape(AT_ONCE, count)  # the short block lacks the same places in each row
        found.append((places + rng.integers(0, count, (AT_ONCE, 1))) % count)
    return found


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
