"""Exponential histograms: the same buckets as the SDK's own, and merging."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

from otel_train.derive.histogram import MAX_BUCKETS, Histogram

nanoseconds = st.integers(0, 10**13)
"""From nothing to about three hours, as the log has times."""


def histogram_of(values: list[float]) -> Histogram:
    histogram = Histogram()
    histogram.add(np.array(values, np.float64))
    return histogram


def buckets_of(histogram: Histogram) -> dict[int, int]:
    counts = histogram.buckets.tolist()
    return {histogram.offset + index: count for index, count in enumerate(counts) if count}


def sdk_point(values: list[float]):
    reader = InMemoryMetricReader()
    view = View(instrument_name="*", aggregation=ExponentialBucketHistogramAggregation())
    provider = MeterProvider([reader], views=[view], shutdown_on_exit=False)
    instrument = provider.get_meter("test").create_histogram("h")
    for value in values:
        instrument.record(value)
    (point,) = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    return point


@settings(max_examples=60, deadline=None)
@given(st.lists(nanoseconds.map(lambda value: value / 1e9), min_size=1, max_size=60))
def test_the_sdk_has_the_same_buckets(values: list[float]) -> None:
    """Any durations give the scale, the buckets and the summary that the SDK's aggregation gives."""
    point, histogram = sdk_point(values), histogram_of(values)
    offset = point.positive.offset
    expected = {offset + index: count for index, count in enumerate(point.positive.bucket_counts) if count}
    assert (point.count, point.zero_count) == (histogram.count, histogram.zeros)
    assert (point.min, point.max) == (histogram.min, histogram.max)
    assert math.isclose(point.sum, histogram.sum, rel_tol=1e-12)
    if histogram.count > histogram.zeros:
        assert point.scale == histogram.scale
    assert expected == buckets_of(histogram)


@pytest.mark.parametrize("exponent", [-1022, -30, -1, 0, 1, 20, 1022])
def test_powers_of_two_are_upper_ends(exponent: int) -> None:
    """A power of two is in the bucket that ends with it, at every scale, and a little more is in the next."""
    power = 2.0**exponent
    exact = histogram_of([power])
    assert {(exponent << exact.scale) - 1: 1} == buckets_of(exact)
    wide = histogram_of([power, math.nextafter(power, math.inf), 1e-300, 1e200])
    assert buckets_of(wide)[((exponent << 20) - 1) >> (20 - wide.scale)] >= 1


def test_just_below_a_power_of_two() -> None:
    """The logarithm's rounding does not carry a value across a power of two."""
    below = math.nextafter(2.0, 0.0)
    assert {(1 << 20) - 1: 1} == buckets_of(histogram_of([below]))


@settings(max_examples=100, deadline=None)
@given(st.lists(nanoseconds, min_size=1, max_size=80), st.integers(0, 80), st.integers(0, 80))
def test_merging_is_adding_all_at_once(values: list[int], first: int, second: int) -> None:
    """Parts merged in any grouping have the buckets of the whole, and survive JSON in between."""
    seconds = [value / 1e9 for value in values]
    cuts = sorted([first, second])
    merged = Histogram()
    for part in (seconds[: cuts[0]], seconds[cuts[0] : cuts[1]], seconds[cuts[1] :]):
        merged.merge(Histogram.from_json(json.loads(json.dumps(histogram_of(part).to_json()))))
    whole = histogram_of(seconds)
    assert buckets_of(whole) == buckets_of(merged)
    assert (whole.count, whole.zeros, whole.min, whole.max) == (merged.count, merged.zeros, merged.min, merged.max)
    assert whole.count == whole.zeros or whole.scale == merged.scale


def test_weights_stand_for_repeats() -> None:
    """A value with a count is in the histogram that often."""
    histogram = Histogram()
    histogram.add(np.array([0.5, 3.0, 0.0]), np.array([2, 3, 4]))
    repeated = histogram_of([0.5] * 2 + [3.0] * 3 + [0.0] * 4)
    assert buckets_of(repeated) == buckets_of(histogram)
    assert (9, 10.0, 4) == (histogram.count, histogram.sum, histogram.zeros)


def test_never_more_buckets_than_allowed() -> None:
    """The widest range still fits, at a coarser scale."""
    histogram = histogram_of([1e-300, 1.0, 1e300])
    assert len(histogram.buckets) <= MAX_BUCKETS
    assert 3 == histogram.buckets.sum()


def test_nothing_added() -> None:
    """An empty histogram stays empty through adding nothing, merging nothing and JSON."""
    histogram = histogram_of([])
    histogram.merge(Histogram())
    assert Histogram().to_json() == Histogram.from_json(histogram.to_json()).to_json()
