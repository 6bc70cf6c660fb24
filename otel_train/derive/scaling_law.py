"""The laws of scaling, fitted to measured runs: the serial share, how sure it is, and what more ranks would bring.

Strong scaling, the same work by more ranks: the time for it is ``T(p) = T(1) (s + (1 - s) / p)`` (G. Amdahl, "Validity
of the single processor approach", AFIPS 1967). Weak scaling, work that grows with the ranks: the rate is
``R(p) = R(1) (s + (1 - s) p)`` (J. Gustafson, "Reevaluating Amdahl's law", CACM 31, 1988). ``s`` is the serial share.

Both are lines ``y = a + b x`` with ``s = a / (a + b)``: fitted by least squares of relative errors, since the times of
repeated runs spread in proportion to them. Intervals are of 95 %, from Student's t with two degrees of freedom less
than there are runs; that of ``s`` by the delta method.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

STRONG, WEAK = "strong", "weak"
LAWS = {STRONG: "Amdahl's law", WEAK: "Gustafson's law"}

_T95 = (12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157)
"""Two-sided 95 % quantiles of Student's t for 1 to 9 degrees of freedom (any table of them)."""
_Z95 = 1.959963985


@dataclass(frozen=True)
class Interval:
    """A value with the bounds of its 95 % interval; a bound is None where nothing bounds it."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Fit:
    """A law fitted to runs. Without an interval (two runs lie on any line) its bounds are None."""

    law: str
    serial_share: Interval
    """Below 0 where more ranks did more than their share."""
    runs: int
    residual: float | None
    """How far runs are from the law, as a share of their time: the standard deviation; None for two runs."""
    line: tuple[float, float]
    covariance: tuple[tuple[float, float], tuple[float, float]] | None

    def rate(self, workers: float) -> Interval:
        """Work a second at so many ranks: what one more run would show."""
        row = np.array([1.0, 1 / workers if self.law == STRONG else workers])
        value = float(row @ self.line)
        half = self._half_width(row, value)
        bounds = (None, None) if half is None else (value - half, value + half)
        if self.law == WEAK:
            return Interval(value, *bounds)
        low, high = (None if bound is None or bound <= 0 else 1 / bound for bound in reversed(bounds))
        return Interval(1 / value if value > 0 else math.nan, low, high)

    def _half_width(self, row: "np.ndarray[Any, np.dtype[np.float64]]", value: float) -> float | None:
        if self.covariance is None or self.residual is None:
            return None
        variance = float(row @ np.array(self.covariance) @ row) + (self.residual * value) ** 2
        return student_t95(self.runs - 2) * math.sqrt(max(variance, 0.0))


def fit(law: str, workers: Sequence[int], rates: Sequence[float]) -> Fit | None:
    """Fit a law to the world sizes and rates of runs; None where all have the same size."""
    if len(set(workers)) < 2:
        return None
    sizes, measured = np.asarray(workers, float), np.asarray(rates, float)
    x, y = (1 / sizes, 1 / measured) if law == STRONG else (sizes, measured)
    rows = np.column_stack([1 / y, x / y])
    (a, b), *_ = np.linalg.lstsq(rows, np.ones(len(y)), rcond=None)
    share, freedom = a / (a + b), len(y) - 2
    line = float(a), float(b)
    if freedom < 1:
        return Fit(law, Interval(float(share)), len(y), None, line, None)
    variance = float(((1 - rows @ np.array([a, b])) ** 2).sum()) / freedom
    covariance = variance * np.linalg.inv(rows.T @ rows)
    slope = np.array([b, -a]) / (a + b) ** 2
    half = student_t95(freedom) * math.sqrt(max(float(slope @ covariance @ slope), 0.0))
    interval = Interval(float(share), float(share - half), float(share + half))
    kept = tuple(tuple(row) for row in covariance.tolist())
    return Fit(law, interval, len(y), math.sqrt(variance), line, kept)  # type: ignore[arg-type]  # two rows of two


def student_t95(freedom: int) -> float:
    """The two-sided 95 % quantile of Student's t. Above the table by its expansion in 1/freedom (Abramowitz and Stegun
    26.7.5), to 1e-4."""
    if freedom <= len(_T95):
        return _T95[freedom - 1]
    z = _Z95
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
