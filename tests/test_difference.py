"""Differences of step times: intervals that hold although neighbours are alike, of one run a side and of several."""

import math

import numpy as np
import pytest
from scipy import signal, stats

from otel_train.derive.difference import (
    MEAN,
    MEDIAN,
    block_length,
    difference,
    error_of_mean,
    estimate,
    t_quantile,
)


def alike(generator, count, correlation, spread=0.05, shift=0.0):
    """Step times whose logarithms are an AR(1) of a given spread."""
    lead = 200
    noise = generator.normal(size=count + lead)
    series = signal.lfilter([math.sqrt(1 - correlation**2)], [1, -correlation], noise)[lead:]
    return 0.01 * (1 + shift) * np.exp(spread * series)


@pytest.mark.parametrize("statistic", [MEDIAN, MEAN])
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_the_interval_holds_for_steps_that_are_like_their_neighbours(statistic, correlation):
    """An interval of 95 % has the true change of 3 % in it in at least 91 of 100 pairs of runs of 400 steps."""
    generator = np.random.default_rng(5)
    pairs = [[alike(generator, 400, correlation, shift=shift) for shift in (0.0, 0.03)] for _ in range(200)]
    found = [difference(*pair, statistic, confidence=0.95) for pair in pairs]
    assert 0.91 <= np.mean([each.low <= 0.03 <= each.high for each in found])


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_equal_runs_are_seldom_told_apart(correlation):
    """Of 300 pairs with nothing between them, at most 3 in 100 are told apart; half of them as slower."""
    generator = np.random.default_rng(6)
    pairs = [[alike(generator, 400, correlation) for _ in range(2)] for _ in range(300)]
    told = [difference(*pair).verdict != "no difference shown" for pair in pairs]
    assert np.mean(told) <= 0.03


def test_intervals_that_took_steps_for_independent_would_not_hold():
    """Against them the error of a series with a correlation of 0.9 is more than three times as large."""
    series = alike(np.random.default_rng(7), 2000, 0.9)
    naive = series.std() / math.sqrt(len(series))
    assert error_of_mean(series)[0] > 3 * naive


def test_a_clear_change_is_shown_and_has_its_size():
    """5 % more in 400 steps that vary by 5 %."""
    generator = np.random.default_rng(8)
    found = difference(alike(generator, 400, 0.3), alike(generator, 400, 0.3, shift=0.05))
    assert ("slower", True) == (found.verdict, 0.03 < found.change < 0.07)
    back = difference(alike(generator, 400, 0.3, shift=0.05), alike(generator, 400, 0.3))
    assert "faster" == back.verdict


def test_the_same_numbers_give_the_same_interval():
    """Nothing is drawn."""
    generator = np.random.default_rng(9)
    sides = [alike(generator, 100, 0.5) for _ in range(2)]
    assert difference(*sides) == difference(*sides)


def test_several_runs_a_side_are_compared_by_their_spread():
    """With runs that differ by far more than their steps do, the interval is that of a t-test on their logarithms."""
    generator = np.random.default_rng(10)
    sides = [[alike(generator, 300, 0.0, 0.001, shift) for shift in generator.normal(0, 0.1, 5)] for _ in range(2)]
    found = difference(*sides)
    logs = [np.log([np.median(run) for run in side]) for side in sides]
    interval = stats.ttest_ind(logs[1], logs[0]).confidence_interval(0.99)
    assert pytest.approx((math.expm1(interval.low), math.expm1(interval.high)), rel=1e-6) == (found.low, found.high)


def test_whole_runs_that_differ_are_no_difference_of_the_sides():
    """Runs that differ by 10 % from one to the next: the sides do not differ; one and one would seem to."""
    generator = np.random.default_rng(11)
    runs = [alike(generator, 300, 0.0, 0.02, shift) for shift in (-0.1, 0.1, 0.0, 0.05, -0.05) * 2]
    assert "no difference shown" == difference(runs[:5], runs[5:]).verdict
    assert "slower" == difference(runs[0], runs[1]).verdict
    assert "no difference shown" == difference(runs[0], runs[1], between=0.1).verdict


@pytest.mark.parametrize("count", [0, 1, 19])
def test_few_steps_are_too_little_data(count):
    """Below 20 steps there is no interval, and no verdict."""
    found = difference(np.full(count, 0.01), np.full(100, 0.01))
    assert ("too little data", None) == (found.verdict, found.low)


def test_constant_times_are_known_exactly():
    """No variance: the change is all there is."""
    found = difference(np.full(50, 0.01), np.full(50, 0.02), MEAN)
    assert ("slower", 1.0, 1.0) == (found.verdict, pytest.approx(found.low), pytest.approx(found.high))


def test_steps_of_no_time_are_no_ground_for_a_percentage():
    """Not an error, and no change."""
    assert None is difference(np.zeros(50), np.full(50, 0.02)).change


def test_a_million_steps_agree_with_the_formula():
    """Of independent steps: the error of the mean is the deviation over the root of their number."""
    times = np.random.default_rng(12).exponential(0.01, 1_000_000)
    own = estimate(times, MEAN)
    assert pytest.approx(1 / math.sqrt(len(times)), rel=0.1) == own.error


def test_blocks_are_as_long_as_steps_remember():
    """About one of independent steps; of an AR(1) near the best length, (6 n)^(1/3) (c / (1 - c²))^(2/3) for blocks of
    the circle."""
    generator = np.random.default_rng(13)
    assert 6 >= np.median([block_length(generator.normal(size=2000)) for _ in range(20)])
    series = [signal.lfilter([1], [1, -0.7], generator.normal(size=4000)) for _ in range(20)]
    best = (6 * 4000) ** (1 / 3) * (0.7 / (1 - 0.7**2)) ** (2 / 3)
    assert pytest.approx(best, rel=0.35) == np.median([block_length(each) for each in series])


@pytest.mark.parametrize("freedom", [1, 2, 3, 7.5, 40, 10_000])
@pytest.mark.parametrize("confidence", [0.9, 0.99, 0.9999])
def test_students_t_is_scipys(freedom, confidence):
    """To four digits."""
    assert pytest.approx(stats.t.ppf(0.5 + confidence / 2, freedom), rel=1e-4) == t_quantile(freedom, confidence)
