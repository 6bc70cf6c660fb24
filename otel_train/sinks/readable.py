"""Spans as the SDK's own exporters take them."""

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from otel_train import names
from otel_train.sinks.spans import Ids, SpanData
from otel_train.version import __version__

SCOPE_NAME = "otel_train"
SCOPE = InstrumentationScope(SCOPE_NAME, __version__)
SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_FINE = Status(StatusCode.UNSET)


def context_of(ids: Ids, flags: TraceFlags = SAMPLED) -> SpanContext:
    """The context of a span of ours."""
    return SpanContext(ids[0], ids[1], is_remote=False, trace_flags=flags)


def status_of(span: SpanData) -> Status:
    """ERROR with the exception's message for what failed; unset otherwise."""
    return _FINE if span.error is None else Status(StatusCode.ERROR, span.error.get("message") or None)


def attributes_of(span: SpanData) -> dict[str, object]:
    """The span's attributes, with ``error.type`` where it failed."""
    return span.attributes if span.error is None else {**span.attributes, names.ERROR_TYPE: span.error["type"]}


def readable_span(span: SpanData, resource: Resource) -> ReadableSpan:
    """About 5 µs."""
    return ReadableSpan(
        name=span.name,
        context=context_of(span.ids),
        parent=context_of(span.parent) if span.parent else None,
        resource=resource,
        attributes=attributes_of(span),  # type: ignore[arg-type]  # attribute_value() saw to their types
        links=[Link(context_of(link)) for link in span.links],
        events=[Event(name, attributes, time_ns) for name, time_ns, attributes in span.events],
        kind=SpanKind.INTERNAL,
        status=status_of(span),
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=SCOPE,
    )
