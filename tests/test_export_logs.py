"""Events without a duration as log records, as a backend receives them."""

import time

from export_setup import MS, SECOND, LogBuilder, attributes, exporter_of, named, run_of, sent
from otlp_receiver import OtlpReceiver

from otel_train.runlog.layout import EVALUATION, FAILED

ERROR = {"type": "ValueError", "message": "no"}


def test_an_event_is_a_log_record(tmp_path):
    """Name, time, severity, step and attributes; nothing else of the thread that sends it."""
    builder = LogBuilder(tmp_path)
    builder.event("nonfinite", 3 * SECOND, step=12, attributes={"dl.scalar.name": "loss", "dl.scalar.value": "nan"})
    with sent(builder.log) as receiver:
        (log,) = receiver.logs
    assert ("dl.nonfinite", (1_735_689_600 + 3) * SECOND) == (log.event_name, log.time_unix_nano)
    assert {"dl.scalar.name": "loss", "dl.scalar.value": "nan", "dl.iteration": 12} == attributes(log)
    assert ("WARN", b"", b"", 0) == (log.severity_text, log.trace_id, log.span_id, log.flags)


def test_an_error_names_the_span_of_its_step(tmp_path):
    """A step's error has the ids of the step's span, also far into a log of several segments and in an evaluation."""
    builder = run_of(LogBuilder(tmp_path), 9000)
    for flags in (FAILED, FAILED | EVALUATION):
        builder.event("error", builder.end_ns + 10 * MS, step=builder.steps.total, error=ERROR)
        run_of(builder, 1, flags=flags, epoch=3)
    run_of(builder, 9000)
    with sent(builder.log) as receiver:
        steps = [(span.trace_id, span.span_id) for span in named(receiver.spans, "dl.step") if span.status.code == 2]
        assert 2 == len(steps)
        assert steps == [(log.trace_id, log.span_id) for log in receiver.logs]
        (log, _) = receiver.logs
    assert ("ERROR", 17, "no") == (log.severity_text, log.severity_number, log.body.string_value)
    assert {"exception.type": "ValueError", "exception.message": "no", "dl.iteration": 9000} == attributes(log)


def test_an_error_in_a_step_that_went_on_names_no_span(tmp_path):
    """It is not known whether that step becomes a trace."""
    builder = LogBuilder(tmp_path)
    builder.event("error", 5 * MS, step=0, error=ERROR, attributes={"dl.phase": "forward"})
    run_of(builder, 1)
    with sent(builder.log) as receiver:
        assert [b""] == [log.trace_id for log in receiver.logs]


def test_a_fresh_error_waits_for_its_step(tmp_path):
    """The error is written a moment before its step's record: what is sent in between waits to know the span."""
    builder = run_of(LogBuilder(tmp_path, unix_ns=time.time_ns(), hardware={"cpu": {"count": 2}}), 1)
    builder.event("error", 20 * MS, step=1, error=ERROR)
    with OtlpReceiver() as receiver:
        exporter = exporter_of(builder.log, receiver)
        exporter.drain()
        assert [] == receiver.logs
        run_of(builder, 1, flags=FAILED)
        exporter.drain()
        assert [16] == [len(log.trace_id) for log in receiver.logs]


def test_an_error_whose_step_never_ended(tmp_path):
    """The process died in it: the error is sent without a span."""
    builder = run_of(LogBuilder(tmp_path), 1)
    builder.event("error", 20 * MS, step=1, error=ERROR)
    with sent(builder.log) as receiver:
        assert [b""] == [log.trace_id for log in receiver.logs]


def test_spans_and_health_are_no_logs(tmp_path):
    """Events with a duration are spans, and health becomes metrics."""
    builder = LogBuilder(tmp_path)
    builder.event("epoch", 0, SECOND)
    builder.event("health", 0, attributes={"otel_train.records.dropped": 0})
    builder.event("unheard_of", 0)
    with sent(builder.log) as receiver:
        assert [("dl.unheard_of", "INFO")] == [(log.event_name, log.severity_text) for log in receiver.logs]
