"""Events without a duration as log records of OpenTelemetry, with an event name."""

from dataclasses import dataclass

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, TraceFlags, set_span_in_context

from otel_train import names
from otel_train.runlog.events import Event
from otel_train.sinks.readable import SCOPE, context_of
from otel_train.sinks.spans import Ids, event_attributes

WARNINGS = frozenset({names.LEVEL, names.NONFINITE, names.OUT_OF_MEMORY})
"""Kinds that are warnings though no exception comes with them; a kind not named here is for information."""


ALERT_SEVERITIES = {
    "info": SeverityNumber.INFO, "warning": SeverityNumber.WARN, "critical": SeverityNumber.ERROR
}  # fmt: skip


@dataclass(frozen=True)
class LogData:
    """An event, its time in Unix ns, and the span it belongs to where that is known to be exported."""

    event: Event
    time_ns: int
    span: Ids | None = None


def log_record(log: LogData) -> LogRecord:
    """The event as the application's logger, or our exporter, takes it."""
    event, error = log.event, log.event.error or {}
    severity = _severity(event)
    described = {"exception.type": error.get("type"), "exception.message": error.get("message")}
    # Never the current context: the exporting thread's own span has nothing to do with the event.
    span = context_of((0, 0), TraceFlags(TraceFlags.DEFAULT)) if log.span is None else context_of(log.span)
    return LogRecord(
        timestamp=log.time_ns,
        observed_timestamp=log.time_ns,
        context=set_span_in_context(NonRecordingSpan(span), Context()),
        severity_number=severity,
        severity_text=severity.name,
        body=error.get("message") or event.attributes.get(names.ALERT_SUMMARY) or None,
        attributes={**event_attributes(event), **{key: value for key, value in described.items() if value}},
        event_name=names.EVENT_NAMES.get(event.kind, names.PREFIX + event.kind),
    )


def _severity(event: Event) -> SeverityNumber:
    if event.kind == names.ALERT and event.attributes.get(names.ALERT_STATE) == names.FIRING:
        return ALERT_SEVERITIES.get(str(event.attributes.get(names.ALERT_SEVERITY)), SeverityNumber.WARN)
    if event.error:
        return SeverityNumber.ERROR
    return SeverityNumber.WARN if event.kind in WARNINGS else SeverityNumber.INFO


def readable_log(log: LogData, resource: Resource) -> ReadableLogRecord:
    """As the SDK's own exporters take it."""
    return ReadableLogRecord(log_record(log), resource, SCOPE)
