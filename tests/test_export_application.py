"""An application's own providers are used instead of ours, and stay the application's."""

import pytest
from export_setup import MS, SECOND, LogBuilder, recorded, run_of
from opentelemetry import trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from otel_train.export import Exporter, make_targets
from otel_train.runlog.layout import CHILD_SPANS, FAILED
from otel_train.sinks.nesting import StepContext, step_context
from otel_train.sinks.providers import providers_already_set


@pytest.fixture
def tracing():
    """An application's provider, and what it exports."""
    return traced()


def traced(**settings):
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False, **settings)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


def export(builder, **providers):
    assert Exporter(builder.log, make_targets({}, environ={}, **providers)).drain(final=True)


def context_of(spans, name):
    return [(span.context.trace_id, span.context.span_id) for span in spans if span.name == name]


def metrics_of(reader):
    data = reader.get_metrics_data()
    return {metric.name: metric for metric in data.resource_metrics[0].scope_metrics[0].metrics}


def test_spans_go_through_the_applications_tracer(tmp_path, tracing):
    """With our ids, times, parents and links; the provider's processors and resource are its own."""
    provider, exporter = tracing
    builder = run_of(LogBuilder(tmp_path), 1, flags=FAILED)
    before = vars(provider).copy()
    export(builder, tracer_provider=provider)
    spans = exporter.get_finished_spans()
    assert {"dl.startup", "dl.step", "dl.data_wait", "dl.forward", "dl.backward", "dl.interval"} == {
        span.name for span in spans
    }
    (step,) = [span for span in spans if span.name == "dl.step"]
    assert context_of(spans, "dl.interval") == [(link.context.trace_id, link.context.span_id) for link in step.links]
    assert {step.context.span_id} == {span.parent.span_id for span in spans if span.name == "dl.forward"}
    assert 10 * MS == step.end_time - step.start_time
    assert not step.status.is_ok
    assert provider.resource == step.resource
    assert before == vars(provider)


def test_the_ids_are_those_of_our_own_export(tmp_path, tracing):
    """The same log, sent by us and through the application, has the same ids."""
    provider, exporter = tracing
    builder = run_of(LogBuilder(tmp_path), 30, SECOND)
    export(builder, tracer_provider=provider)
    (builder.path / "cursor.json").unlink()
    expected = {span.ids for span in recorded(builder.log).traces.items}
    spans = exporter.get_finished_spans()
    assert expected == {(span.context.trace_id, span.context.span_id) for span in spans}


def test_the_applications_sampler_decides_for_whole_traces(tmp_path):
    """A ratio sampler keeps or drops a step's trace, or an interval's, whole."""
    provider, exporter = traced(sampler=ParentBased(TraceIdRatioBased(0.5)))
    builder = LogBuilder(tmp_path, settings={"keep_every": 1})
    for _ in range(40):
        run_of(builder, 2, SECOND)
        builder.event("checkpoint", builder.end_ns, MS)
    export(builder, tracer_provider=provider)
    spans = exporter.get_finished_spans()
    roots = {span.context.span_id for span in spans if span.parent is None}
    assert 0 < len([span for span in spans if span.name == "dl.step"]) < 80
    assert all(span.parent.span_id in roots for span in spans if span.parent)
    steps = [span for span in spans if span.name == "dl.step"]
    assert len(steps) == len([span for span in spans if span.name == "dl.forward"])


def test_events_go_through_the_applications_logger(tmp_path):
    """With event name and time."""
    exporter, provider = InMemoryLogRecordExporter(), LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    builder = LogBuilder(tmp_path)
    builder.event("nonfinite", SECOND, step=4)
    export(builder, logger_provider=provider)
    (log,) = exporter.get_finished_logs()
    assert ("dl.nonfinite", (1_735_689_600 + 1) * SECOND) == (log.log_record.event_name, log.log_record.timestamp)


def test_metrics_show_in_the_applications_meter(tmp_path):
    """Sums and gauges are observed with our totals; histograms have every value of a calm run."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    builder = run_of(LogBuilder(tmp_path), 20, SECOND, samples=2)
    builder.scalar(19, 0.25)
    export(builder, meter_provider=provider)
    metrics = metrics_of(reader)
    assert [20] == [point.value for point in metrics["dl.step.count"].data.data_points]
    assert [40] == [point.value for point in metrics["dl.sample.count"].data.data_points]
    assert [0.25] == [point.value for point in metrics["dl.loss"].data.data_points]
    assert [20] == [point.count for point in metrics["dl.step.duration"].data.data_points]
    assert "s" == metrics["dl.phase.duration"].unit


def test_histograms_are_thinned_out_evenly_in_a_fast_run(tmp_path):
    """At more than 200 records a second the application's histograms get a part, and the rest is counted."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    builder = LogBuilder(tmp_path)
    for number in range(20_000):
        builder.step(number, (1 + number % 2) * MS // 2)
    targets = make_targets({}, environ={}, meter_provider=provider)
    exporter = Exporter(builder.log, targets)
    assert exporter.drain(final=True)
    (point,) = metrics_of(reader)["dl.step.duration"].data.data_points
    assert 2000 <= point.count <= 3000 + 3
    assert 20_000 == point.count + targets.metrics.hand_over.suppressed["dl.step.duration"]
    assert pytest.approx(0.00075, rel=0.1) == point.sum / point.count


def test_a_second_run_in_the_process_goes_on_with_the_instruments(tmp_path, caplog):
    """No instrument is made twice, and a finished run shows nothing any more."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    for run, steps in (("a", 3), ("b", 5)):
        builder = run_of(LogBuilder(tmp_path, run), steps)
        exporter = Exporter(builder.log, make_targets({}, environ={}, meter_provider=provider))
        exporter.drain(final=True)
        assert [steps] == [point.value for point in metrics_of(reader)["dl.step.count"].data.data_points]
        exporter.stop()
    assert [] == caplog.records


def test_providers_are_found_only_where_they_are_real():
    """A proxy is no provider."""
    assert {} == providers_already_set()
    assert step_context("run", 0) is None


# -- spans of the application inside steps ------------------------------------------------------------------------


def test_a_span_made_in_a_step_is_its_child(tmp_path, tracing):
    """The step is kept because of it, and is its parent, though its own span is made later."""
    provider, exporter = tracing
    nesting, tracer = step_context("run-a", 0, provider), provider.get_tracer("app")
    token = nesting.enter(5, 1, False)
    with tracer.start_as_current_span("outer of theirs"), tracer.start_as_current_span("inner of theirs"):
        pass
    assert nesting.exit(token)
    builder = LogBuilder(tmp_path)
    builder.step(5, 10 * MS, epoch=1, flags=CHILD_SPANS)
    export(builder, tracer_provider=provider)
    spans = exporter.get_finished_spans()
    (child,) = [span for span in spans if span.name == "outer of theirs"]
    assert context_of(spans, "dl.step") == [(child.parent.trace_id, child.parent.span_id)]


def test_a_step_without_spans_says_so(tracing):
    """Reading the current span is not making one: logs and exemplars do it at each record."""
    provider, _ = tracing
    nesting = step_context("run-a", 0, provider)
    token = nesting.enter(5, None, False)
    assert not trace.get_current_span().get_span_context().is_valid
    assert not nesting.exit(token)
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_the_span_around_a_step_stays_reachable(tracing):
    """What the application sets on its current span is set on its own span, and its context is found again."""
    provider, exporter = tracing
    nesting = step_context("run-a", 0, provider)
    with provider.get_tracer("app").start_as_current_span("job") as job:
        token = nesting.enter(5, None, False)
        current = trace.get_current_span()
        current.set_attribute("model", "gpt")
        current.set_attributes({"size": 3})
        current.add_event("seen")
        current.record_exception(ValueError("no"))
        current.set_status(trace.StatusCode.ERROR)
        current.update_name("renamed")
        current.end()
        assert (job.is_recording(), job.get_span_context()) == (current.is_recording(), current.get_span_context())
        nesting.exit(token)
        assert trace.get_current_span() is job
    (span,) = exporter.get_finished_spans()
    assert ("renamed", {"model": "gpt", "size": 3}) == (span.name, dict(span.attributes))
    assert ["seen", "exception"] == [event.name for event in span.events]


def test_spans_in_a_step_follow_the_samplers_word():
    """Where the application's sampler drops the step's trace, the spans in it are dropped too."""
    provider, exporter = traced(sampler=ParentBased(TraceIdRatioBased(0.0)))
    nesting, tracer = step_context("run-a", 0, provider), provider.get_tracer("app")
    token = nesting.enter(5, None, False)
    tracer.start_span("theirs").end()
    assert nesting.exit(token)
    assert () == exporter.get_finished_spans()


def test_propagation_out_of_a_step_keeps_it(tracing):
    """A request to another process made in a step has the step as its parent there."""
    from opentelemetry.propagate import inject

    nesting = StepContext("run-a", 0)
    token, carrier = nesting.enter(5, None, False), {}
    inject(carrier)
    assert nesting.exit(token)
    assert f"{nesting.span_context((5, None, False)).trace_id:032x}" in carrier["traceparent"]
