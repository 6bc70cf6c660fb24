"""The uncertainty of a ratio of sums, such as time over samples, from neighbours that hang together.

The circular block bootstrap (Politis and Romano 1992): blocks of neighbours are drawn, so that what repeats within a
block (checkpoints, slow stretches) stays together. Few blocks make intervals too narrow, as few values do for a
normal one: Student's t makes up for it.
"""

from typing import Any, TypeAlias

import numpy as np

Column: TypeAlias = np.ndarray[Any, np.dtype[Any]]

REPLICATES = 1000
SEED = 20250101
LEAST_BLOCKS = 4
"""With fewer blocks nothing is said."""
STANDS_OUT = 5.0
"""So many standard deviations (by the median of absolute ones) above the median."""
Z = 1.959963984540054
"""Of the normal distribution, the quantile of an interval that holds 95 in 100."""


def block_length(values: Column) -> int:
    """How many neighbours to keep together: twice the lag from which on they do not correlate, at least the cube root
    of their number (Künsch 1989); and as many as lie from one spike to the next, so that what is done every so often
    (a checkpoint) is in each block about once. At most a fourth of them."""
    count = len(values)
    centred = values - values.mean()
    total = float(centred @ centred)
    lag = 1
    while total and lag < count // 4 and float(centred[lag:] @ centred[:-lag]) / total > 2 / count**0.5:
        lag += 1
    wanted: int = max(2 * lag - 1, round(float(count) ** (1 / 3)), _between_spikes(values))
    return max(min(wanted, count // LEAST_BLOCKS), 1)


def _between_spikes(values: Column) -> int:
    """The median distance of the values that stand out; 0 with less than two of them."""
    middle = float(np.median(values))
    usual = 1.4826 * float(np.median(np.abs(values - middle)))
    distances = np.diff(np.flatnonzero(values > middle + STANDS_OUT * usual + middle / 100))
    return round(float(np.median(distances))) if len(distances) else 0


def deviations(numerator: Column, denominator: Column, length: int, stream: int = 0) -> Column | None:
    """By what part of itself ``sum(numerator) / sum(denominator)`` differs in each replicate; None with too few values.

    ``stream`` chooses the draws: different ones are independent, the same give the same answer.
    """
    count = len(numerator)
    blocks = count / length
    if blocks < LEAST_BLOCKS:
        return None
    rng = np.random.default_rng((SEED, stream))
    begins = rng.integers(0, count, (REPLICATES, -(-count // length)))
    drawn = ((begins[:, :, None] + np.arange(length)) % count).reshape(REPLICATES, -1)[:, :count]
    ratios = numerator[drawn].sum(axis=1) / denominator[drawn].sum(axis=1)
    wider: Column = (ratios * float(denominator.sum()) / float(numerator.sum()) - 1) * _widening(blocks - 1)
    return wider


def _widening(freedom: float) -> float:
    """Student's t over the normal quantile (Cornish and Fisher's expansion), and the variance's missing degree."""
    first = (Z**3 + Z) / 4
    second = (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96
    return float((Z + first / freedom + second / freedom**2) / Z * ((freedom + 1) / freedom) ** 0.5)


def interval(replicates: Column) -> tuple[float, float]:
    """The middle 95 in 100."""
    low, high = np.percentile(replicates, (2.5, 97.5)).tolist()
    return low, high
