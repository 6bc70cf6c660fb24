"""Metric points as a backend receives them."""

import math

import pytest
from export_setup import MS, SECOND, LogBuilder, attributes, counts, exporter_of, run_of, sent
from otlp_receiver import OtlpReceiver

from otel_train.runlog.layout import EVALUATION, FAILED, MISSING

START = 1_735_689_600 * SECOND
TRAINING, EVALUATING = ("dl.mode", "training"), ("dl.mode", "evaluation")


def by_name(receiver):
    return {metric.name: metric for metric in receiver.metrics}


def values(receiver, name):
    return [point.as_int or point.as_double for point in receiver.points(name)]


def times(points):
    return [((point.start_time_unix_nano - START) / 1e9, (point.time_unix_nano - START) / 1e9) for point in points]


def test_every_step_is_counted(tmp_path):
    """Steps, samples and tokens are sums over all steps, kept or not; unknown amounts give no point."""
    builder = run_of(LogBuilder(tmp_path), 1000, samples=32, tokens=100)
    run_of(builder, 5, samples=32, tokens=MISSING, flags=FAILED)
    with sent(builder.log) as receiver:
        assert {(TRAINING,): 1000, (TRAINING, ("error.type", "failed")): 5} == counts(receiver, "dl.step.count")
        assert {(TRAINING,): 1005 * 32} == counts(receiver, "dl.sample.count")
        assert {(TRAINING,): 1000 * 100} == counts(receiver, "dl.token.count")
        assert "dl.padded_token.count" not in by_name(receiver)
        metric = by_name(receiver)["dl.step.count"]
    assert (True, 2, "{step}") == (metric.sum.is_monotonic, metric.sum.aggregation_temporality, metric.unit)


def test_durations_are_exponential_histograms(tmp_path):
    """Step and phase durations in seconds, all phases; phase time only of those not inside another."""
    builder = LogBuilder(tmp_path)
    for number in range(4):
        phases = [("forward", 0, 4 * MS), ("attention", MS, 2 * MS, 1), ("micro", 5 * MS, 4 * MS, 0, 4)]
        builder.step(number, 10 * MS, phases)
    with sent(builder.log) as receiver:
        (step,) = receiver.points("dl.step.duration")
        phases = {attributes(point)["dl.phase"]: point for point in receiver.points("dl.phase.duration")}
        phase_time = counts(receiver, "dl.phase.time")
        metric = by_name(receiver)["dl.step.duration"]
    assert ("s", 2) == (metric.unit, metric.exponential_histogram.aggregation_temporality)
    assert (4, 0.01, 0.01) == (step.count, step.min, step.max)
    assert math.isclose(0.04, step.sum)
    assert {"forward": 4, "attention": 4, "micro": 16} == {name: point.count for name, point in phases.items()}
    assert math.isclose(0.001, phases["micro"].max, rel_tol=1e-6)
    shares = {dict(key)["dl.phase"]: round(value, 6) for key, value in phase_time.items()}
    assert {"forward": 0.016, "micro": 0.016} == shares


def test_points_are_dated_by_the_records(tmp_path):
    """A push long after the run puts one point an interval at the run's own times, cumulative from its start."""
    builder = run_of(LogBuilder(tmp_path, monotonic_ns=77 * SECOND), 35, SECOND)
    with sent(builder.log) as receiver:
        points = receiver.points("dl.step.count")
    assert [(0, 10), (0, 20), (0, 30), (0, 35)] == times(points)
    assert [10, 20, 30, 35] == [point.as_int for point in points]


@pytest.mark.parametrize("preference", ["delta", "lowmemory", " Delta "])
def test_delta_on_request(tmp_path, preference):
    """The temporality preference gives each interval's own part."""
    builder = run_of(LogBuilder(tmp_path, settings={"metric_interval_s": 5.0}), 12, SECOND)
    variable = {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": preference}
    with sent(builder.log, **variable) as receiver:
        points = receiver.points("dl.step.count")
        histograms = receiver.points("dl.step.duration")
        assert 1 == by_name(receiver)["dl.step.count"].sum.aggregation_temporality
    assert [(0, 5), (5, 10), (10, 12)] == times(points)
    assert [5, 5, 2] == [point.as_int for point in points] == [point.count for point in histograms]


def test_an_interval_that_is_not_over_waits(tmp_path):
    """A running export sends an interval when something was recorded after it, and the rest at the end."""
    builder = run_of(LogBuilder(tmp_path), 12, SECOND)
    with OtlpReceiver() as receiver:
        exporter = exporter_of(builder.log, receiver)
        assert exporter.drain()
        assert [10] == [point.as_int for point in receiver.points("dl.step.count")]
        assert 2 == exporter.pending()
        assert exporter.drain(final=True)
        assert [10, 12] == [point.as_int for point in receiver.points("dl.step.count")]
        assert 0 == exporter.pending()


def test_intervals_without_records_have_no_points(tmp_path):
    """A gap in the run is a gap in the points, not a row of zeros."""
    builder = run_of(LogBuilder(tmp_path), 1, SECOND)
    run_of(builder, 1, SECOND, start_ns=500 * SECOND)
    with sent(builder.log) as receiver:
        assert [10, 501] == [end for _, end in times(receiver.points("dl.step.count"))]


def test_throughput(tmp_path):
    """Rates are of training steps, over the interval's time."""
    builder = run_of(LogBuilder(tmp_path), 20, 500 * MS, samples=8, tokens=16)
    run_of(builder, 20, 500 * MS, samples=8, flags=EVALUATION)
    with sent(builder.log) as receiver:
        rates = {name: values(receiver, f"dl.{name}.rate") for name in ("step", "sample", "token")}
        assert "{step}/s" == by_name(receiver)["dl.step.rate"].unit
    assert {"step": [2.0], "sample": [16.0], "token": [32.0]} == rates


def test_evaluations_do_not_mix_with_training(tmp_path):
    """Steps of an evaluation are series of their own."""
    builder = run_of(LogBuilder(tmp_path), 3, samples=4)
    run_of(builder, 2, 50 * MS, samples=100, flags=EVALUATION)
    with sent(builder.log) as receiver:
        assert {(TRAINING,): 3, (EVALUATING,): 2} == counts(receiver, "dl.step.count")
        assert {(TRAINING,): 12, (EVALUATING,): 200} == counts(receiver, "dl.sample.count")
        longest = {attributes(point)["dl.mode"]: point.max for point in receiver.points("dl.step.duration")}
    assert {"training": 0.01, "evaluation": 0.05} == longest


def test_scalars_are_gauges_and_nan_is_counted(tmp_path):
    """The last finite value of an interval; none where all were not finite; those are counted instead."""
    builder = LogBuilder(tmp_path)
    for time_s, value in ((1, 3.0), (2, 2.5), (3, math.nan), (11, math.inf), (21, 1.0)):
        builder.scalar(0, value, "loss", time_s * SECOND)
    builder.scalar(0, 0.1, "learning_rate", 22 * SECOND)
    with sent(builder.log) as receiver:
        loss = receiver.points("dl.loss")
        assert [2.5, 1.0] == [point.as_double for point in loss]
        assert [10, 22] == [end for _, end in times(loss)]
        assert [1, 2, 2] == [point.as_int for point in receiver.points("dl.loss.nonfinite")]
        assert [0.1] == [point.as_double for point in receiver.points("dl.learning_rate")]
        assert "" == by_name(receiver)["dl.loss"].unit


def test_checkpoints(tmp_path):
    """Duration by kind, and the last size in bytes."""
    builder = LogBuilder(tmp_path)
    for size in (100, 200):
        sized = {"dl.checkpoint.kind": "save", "dl.checkpoint.size": size}
        builder.event("checkpoint", 0, 2 * SECOND, attributes=sized)
    builder.event("checkpoint", 0, SECOND, attributes={"dl.checkpoint.kind": "load"})
    with sent(builder.log) as receiver:
        points = receiver.points("dl.checkpoint.duration")
        kinds = {attributes(point)["dl.checkpoint.kind"]: (point.count, point.sum) for point in points}
        assert {"save": (2, 4.0), "load": (1, 1.0)} == kinds
        assert [200] == values(receiver, "dl.checkpoint.size")
        units = by_name(receiver)
    assert ("s", "By") == (units["dl.checkpoint.duration"].unit, units["dl.checkpoint.size"].unit)


def test_what_otel_train_says_of_itself(tmp_path):
    """The running totals of the last health event; nothing before the first."""
    builder = LogBuilder(tmp_path)
    for second, failures in ((1, {"traces": 1}), (15, {"traces": 3, "metrics": 1})):
        builder.event(
            "health",
            second * SECOND,
            attributes={
                "otel_train.overhead.time.training": second / 100,
                "otel_train.overhead.time.background": second / 10,
                "otel_train.records.dropped": 0,
                "otel_train.export.failures": failures,
                "otel_train.errors": {},
            },
        )
    with sent(builder.log) as receiver:
        overhead = counts(receiver, "otel_train.overhead.time")
        failures = counts(receiver, "otel_train.export.failures")
        assert [0, 0] == values(receiver, "otel_train.records.dropped")
        assert "otel_train.errors" not in by_name(receiver)
    assert {(("otel_train.thread", "training"),): 0.15, (("otel_train.thread", "background"),): 1.5} == overhead
    assert {(("otel_train.signal", "traces"),): 3, (("otel_train.signal", "metrics"),): 1} == failures


def test_a_new_kind_phase_and_scalar_need_nothing(tmp_path):
    """What nobody has heard of has metrics under its own name."""
    builder = LogBuilder(tmp_path)
    builder.step(0, 10 * MS, [("unheard_of", 0, MS)])
    builder.scalar(0, 1.0, "perplexity")
    builder.event("compile", 0, SECOND)
    with sent(builder.log) as receiver:
        assert {"dl.perplexity", "dl.compile.duration"} <= set(by_name(receiver))
        assert ["unheard_of"] == [attributes(point)["dl.phase"] for point in receiver.points("dl.phase.duration")]


def test_exemplars_are_kept_steps(tmp_path):
    """Of each interval the slowest step that has a trace, by its ids: in the histogram, and among the spans sent."""
    builder = LogBuilder(tmp_path, settings={"keep_every": 100})
    for number in range(400):
        builder.step(number, 500 * MS if number in (150, 250) else 100 * MS)
    with sent(builder.log) as receiver:
        exemplars = [exemplar for point in receiver.points("dl.step.duration") for exemplar in point.exemplars]
        steps = {(span.trace_id, span.span_id): attributes(span) for span in receiver.spans if span.name == "dl.step"}
    found = [(steps[each.trace_id, each.span_id]["dl.iteration"], round(each.as_double, 6)) for each in exemplars]
    assert {(150, 0.5), (250, 0.5), (0, 0.1)} <= set(found)
    assert len(found) == len(set(found))
