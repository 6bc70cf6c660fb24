"""Amdahl's and Gustafson's laws: fits beside scipy's, known serial shares found again, intervals that hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import curve_fit
from scipy.stats import t as student

from otel_train.derive.scaling_law import STRONG, WEAK, fit, student_t95

SIZES = [1, 2, 4, 8]


def rate(law, size, share, alone=100.0):
    """Work a second by the law."""
    return alone / (share + (1 - share) / size) if law == STRONG else alone * (share + (1 - share) * size)


def noisy(law, share, sizes, seed, spread=0.02):
    """Rates of runs whose times spread."""
    random = np.random.default_rng(seed)
    return [rate(law, size, share) * (1 + spread * random.standard_normal()) for size in sizes]


@given(
    st.sampled_from([STRONG, WEAK]),
    st.floats(0, 1),
    st.lists(st.sampled_from([1, 2, 3, 4, 8, 16, 64, 1000]), min_size=2, max_size=6).filter(lambda x: len(set(x)) > 1),
    st.floats(0.01, 1e6),
)
def test_runs_that_follow_the_law_give_its_share(law, share, sizes, alone):
    """Whatever the sizes and the speed; from two runs on without an interval, from three on within it."""
    found = fit(law, sizes, [rate(law, size, share, alone) for size in sizes])
    assert share == pytest.approx(found.serial_share.value, abs=1e-9)
    assert (len(sizes) > 2) == (found.serial_share.low is not None)
    if len(sizes) > 2:
        assert found.serial_share.low - 1e-7 <= share <= found.serial_share.high + 1e-7


@pytest.mark.parametrize("law", [STRONG, WEAK])
@pytest.mark.parametrize("sizes", [[1, 2, 4], [1, 1, 2, 2, 4, 4, 8, 8], [2, 4, 4, 16]])
def test_the_fit_is_scipys(law, sizes):
    """Share and its standard error as curve_fit has them, which goes another way: Levenberg and Marquardt's, from a
    start, on the law as it is written. To the precision at which that one stops."""
    rates = np.array(noisy(law, 0.1, sizes, seed=7))
    measured = 1 / rates if law == STRONG else rates

    def as_written(size, alone, share):
        return alone * (share + (1 - share) / size if law == STRONG else share + (1 - share) * size)

    (_, share), covariance = curve_fit(
        as_written, np.array(sizes, float), measured, p0=[measured[0], 0.05], sigma=measured, ftol=1e-15, xtol=1e-15
    )
    found = fit(law, sizes, rates.tolist())
    half = student.ppf(0.975, len(sizes) - 2) * np.sqrt(covariance[1, 1])
    assert share == pytest.approx(found.serial_share.value, rel=1e-6)
    assert half == pytest.approx(found.serial_share.high - share, rel=1e-5)
    assert half == pytest.approx(share - found.serial_share.low, rel=1e-5)


@pytest.mark.parametrize("law", [STRONG, WEAK])
def test_intervals_hold(law):
    """Of 400 studies of eight runs that spread by 2 %, the interval has the true share in 95 % (at least 92: what
    chance allows), and that for the next doubling has what it would show."""
    sizes, share, held, predicted = [1, 1, 2, 2, 4, 4, 8, 8], 0.08, 0, 0
    for seed in range(400):
        *rates, further = noisy(law, share, [*sizes, 16], seed)
        found = fit(law, sizes, rates)
        held += found.serial_share.low <= share <= found.serial_share.high
        predicted += found.rate(16).low <= further <= found.rate(16).high
    assert (held >= 0.92 * 400, predicted >= 0.92 * 400) == (True, True), (held, predicted)


def test_the_quantile_is_students():
    """As scipy has it, to 2e-4, for every number of degrees of freedom."""
    freedoms = [*range(1, 200), 1000, 10**6]
    assert [student.ppf(0.975, freedom) for freedom in freedoms] == pytest.approx(
        [student_t95(freedom) for freedom in freedoms], abs=2e-4
    )


def test_no_fit_of_one_size():
    """There is no slope in it."""
    assert fit(STRONG, [2, 2, 2], [1.0, 2.0, 3.0]) is None


def test_a_prediction_that_nothing_bounds():
    """Times that spread so much that the next could be 0 have no upper bound of the rate: none is made up."""
    found = fit(STRONG, [1, 2, 4], [100.0, 250.0, 240.0]).rate(8)
    assert (True, None) == (found.value > 0, found.high)
