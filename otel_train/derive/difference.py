"""By how much two series of step times differ, with an interval that holds although neighbouring steps are alike.

Two kinds of chance are in a difference. **Within** a run steps vary, and a slow one is followed by slow ones: the
standard error is that of the circular block bootstrap (D. N. Politis, J. P. Romano, 1992), whose limit of infinitely
many resamples is the variance of the means of all blocks, so that nothing is drawn; its block length is that of
D. N. Politis, H. White, "Automatic block-length selection for the dependent bootstrap", Econometric Reviews 2004, as
corrected by A. Patton in 2009. **Between** runs whole runs vary: with several runs a side their statistics are compared
as a t-test does (T. Kalibera, R. Jones, "Rigorous benchmarking in reasonable time", ISMM 2013).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np

Series: TypeAlias = np.ndarray[Any, np.dtype[Any]]

MEDIAN, MEAN = "median", "mean"
CONFIDENCE = 0.99
"""An interval of 99 % takes one of 200 equal runs for slower."""
FEWEST = 20
"""With fewer steps in a run there is no interval."""
MOST_BATCHES = 20_000
"""Longer series are shortened to means of neighbours before autocorrelations are taken."""


@dataclass(frozen=True)
class Estimate:
    """The median or mean of one run's steps, s, and the logarithm's standard error by the steps within the run."""

    value: float
    error: float
    """A part of one; infinite with fewer than ``FEWEST`` steps."""
    freedom: float
    """Degrees of freedom of the error: the number of blocks less one."""
    steps: int


@dataclass(frozen=True)
class Difference:
    """How much longer the second side's steps take: parts of one, 0.05 is 5 % longer. None where it is not known."""

    change: float | None
    low: float | None
    high: float | None
    """The interval; None with too few steps."""
    confidence: float
    first: tuple[Estimate, ...]
    second: tuple[Estimate, ...]
    between: float | None
    """Standard deviation of equal runs' logarithms, by the runs themselves or as given; None with one run a side."""

    @property
    def verdict(self) -> str:
        """``slower``, ``faster``, ``no difference shown`` or ``too little data``, of the second side."""
        if self.low is None or self.high is None:
            return TOO_LITTLE
        return SLOWER if self.low > 0 else FASTER if self.high < 0 else NO_DIFFERENCE


SLOWER, FASTER, NO_DIFFERENCE, TOO_LITTLE = "slower", "faster", "no difference shown", "too little data"

Side: TypeAlias = Series | Sequence[Series]
"""One run's step times in the order of the run, or those of several runs."""


def difference(
    first: Side,
    second: Side,
    statistic: str = MEDIAN,
    confidence: float = CONFIDENCE,
    between: float | None = None,
) -> Difference:
    """Compare two sides, each of one run or of several, by the median (or the ``mean``) of their steps.

    ``between`` is the standard deviation of equal runs' logarithms where it is known from elsewhere; with one run a
    side and without it the interval says only what the steps within the two runs can: that it does not hold for
    another repetition. Nothing is drawn: the same numbers give the same interval.
    """
    before, after = ([estimate(run, statistic) for run in _runs(side)] for side in (first, second))
    return difference_of(before, after, confidence, between)


def difference_of(
    first: Sequence[Estimate], second: Sequence[Estimate], confidence: float = CONFIDENCE, between: float | None = None
) -> Difference:
    """The same from estimates of each run."""
    sides = tuple(first), tuple(second)
    if not all(sides) or any(not run.value > 0 for side in sides for run in side):
        return Difference(None, None, None, confidence, *sides, between)
    logs = [[math.log(run.value) for run in side] for side in sides]
    change = float(np.mean(logs[1]) - np.mean(logs[0]))
    within = [sum(run.error**2 for run in side) / len(side) ** 2 for side in sides]
    if any(not math.isfinite(part) for part in within):
        return Difference(math.expm1(change), None, None, confidence, *sides, between)
    freedom = _satterthwaite([run.error**2 / len(side) ** 2 for side in sides for run in side],
                             [run.freedom for side in sides for run in side])  # fmt: skip
    variance, told, spread = sum(within), sum(map(len, sides)) - 2, between
    reach = t_quantile(freedom, confidence) * math.sqrt(variance)
    if told > 0 or between is not None:
        spread, freedom = _spread(logs, between)
        own = spread**2 * sum(1 / len(side) for side in sides)
        reach = max(reach, t_quantile(freedom, confidence) * math.sqrt(max(own, variance)))
    low, high = math.expm1(change - reach), math.expm1(change + reach)
    return Difference(math.expm1(change), low, high, confidence, *sides, spread)


def estimate(times_s: Series, statistic: str = MEDIAN) -> Estimate:
    """The median or mean of a run's steps, and its error."""
    times_s = np.asarray(times_s, float)
    count = len(times_s)
    if count < FEWEST:
        value = float(getattr(np, statistic)(times_s)) if count else math.nan
        return Estimate(value, math.inf, 0.0, count)
    return _of_mean(times_s) if statistic == MEAN else _of_median(times_s)


def _of_mean(times_s: Series) -> Estimate:
    mean = float(times_s.mean())
    error, freedom = error_of_mean(times_s)
    return Estimate(mean, error / mean if mean > 0 else math.inf, freedom, len(times_s))


def _of_median(times_s: Series) -> Estimate:
    """By the share of steps below the median, whose error a quantile turns into one of time (R. R. Bahadur, 1966)."""
    median = float(np.median(times_s))
    below = (times_s < median) + 0.5 * (times_s == median)
    error, freedom = error_of_mean(below)
    error = max(error, 0.5 / len(times_s))
    low, high = np.quantile(times_s, [max(0.5 - error, 0.0), min(0.5 + error, 1.0)])
    return Estimate(median, float(high - low) / 2 / median if median > 0 else math.inf, freedom, len(times_s))


def error_of_mean(values: Series) -> tuple[float, float]:
    """The standard error of a dependent series' mean, and its degrees of freedom."""
    values = _shortened(np.asarray(values, float))
    count, centred = len(values), values - values.mean()
    length = block_length(centred)
    freedom = max(count / length - 1, 1.0)
    whole = _variance_of_blocks(centred, length)
    # Blocks of a bounded length see too little of what goes on for longer. The lugsail takes out how much that seems
    # to be: D. Vats, J. M. Flegal, "Lugsail lag windows for estimating time-average covariance matrices", 2022.
    variance = max(whole, 2 * whole - _variance_of_blocks(centred, max(length // 3, 1)))
    return math.sqrt(variance / freedom * (count / length) / count), freedom


def _variance_of_blocks(centred: Series, length: int) -> float:
    """Of the sums of all blocks of the circle, for each value in a block."""
    sums = np.cumsum(np.concatenate(([0.0], centred, centred[: length - 1])))
    return float(np.mean((sums[length:] - sums[:-length]) ** 2)) / length


def block_length(values: Series) -> int:
    """The length of blocks of the circular bootstrap that makes the error of the mean's variance smallest.

    At most a quarter of the series, 1 for an independent one.
    """
    count = len(values)
    centred = values - values.mean()
    longest = min(int(math.sqrt(count)) + 5, count - 1)
    alike = _autocovariances(centred, 2 * longest)
    if not alike[0] > 0:
        return 1
    window = _last_correlated(alike / alike[0], count, longest)
    lags = np.arange(1, min(2 * window, len(alike) - 1) + 1)
    weights = np.clip(2 * (1 - lags / (2 * window)), 0, 1) if window else np.empty(0)
    spectrum = alike[0] + 2 * float(weights @ alike[lags])
    slope = 2 * float((weights * lags) @ alike[lags])
    if not spectrum > 0:
        return 1
    length: float = (2 * slope**2 / (4 / 3 * spectrum**2)) ** (1 / 3) * count ** (1 / 3)
    return max(1, min(math.ceil(length), count // 4))


def _last_correlated(correlations: Series, count: int, longest: int) -> int:
    """The lag after which the next ones in a row are none that chance does not explain."""
    in_a_row = max(5, math.ceil(math.sqrt(math.log10(count))))
    small = np.abs(correlations[1:]) < 2 * math.sqrt(math.log10(count) / count)
    for lag in range(min(longest, len(small))):
        if small[lag : lag + in_a_row].all():
            return lag
    return longest


def _autocovariances(centred: Series, most: int) -> Series:
    """Of lags 0 to ``most``, by the Fourier transform."""
    count = len(centred)
    size = 1 << (2 * count - 1).bit_length()
    power = np.abs(np.fft.rfft(centred, size)) ** 2
    found: Series = np.fft.irfft(power, size)[: min(most, count - 1) + 1] / count
    return found


def _shortened(values: Series) -> Series:
    each = -(-len(values) // MOST_BATCHES)
    whole = len(values) // each * each
    shortened: Series = values[:whole].reshape(-1, each).mean(axis=1) if each > 1 else values
    return shortened


def _spread(logs: list[list[float]], known: float | None) -> tuple[float, float]:
    """The standard deviation between equal runs and its degrees of freedom; one known from elsewhere is a floor."""
    freedom = sum(map(len, logs)) - 2
    if freedom <= 0:
        return known or 0.0, math.inf
    spread = math.sqrt(sum(float(np.var(side)) * len(side) for side in logs) / freedom)
    return (known, math.inf) if known is not None and known > spread else (spread, freedom)


def _satterthwaite(variances: list[float], freedoms: list[float]) -> float:
    """Degrees of freedom of a sum of variances (F. E. Satterthwaite, 1946)."""
    below = sum(variance**2 / freedom for variance, freedom in zip(variances, freedoms, strict=True))
    return max(sum(variances) ** 2 / below, 1.0) if below else math.inf


@cache
def t_quantile(freedom: float, confidence: float) -> float:
    """Student's t: between minus it and it lies a ``confidence`` of chances. By quadrature, to four digits."""
    freedom = min(freedom, 10_000.0)
    angles = np.linspace(0.0, math.pi / 2, 20_001)
    density = np.cos(angles) ** (freedom - 1)
    mass = np.concatenate(([0.0], np.cumsum((density[1:] + density[:-1]) / 2)))
    angle = float(np.interp(confidence, mass / mass[-1], angles))
    return math.tan(angle) * math.sqrt(freedom)


def _runs(side: Side) -> list[Series]:
    return [side] if isinstance(side, np.ndarray) else [np.asarray(run) for run in side]
