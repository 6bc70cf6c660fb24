"""Hands what the log holds to the application's own providers. What they do with it is theirs: handed over is done.

Their samplers, processors, views and resources apply. Nothing of theirs is replaced; the one thing set is the id
generator of the tracer named ``otel_train``, so that spans keep the ids that other spans already refer to.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry.context import Context
from opentelemetry.metrics import Observation
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from otel_train.derive.aggregate import Aggregate, unit_of
from otel_train.sinks.logs import LogData, log_record
from otel_train.sinks.metrics import PointSet, typical_values
from otel_train.sinks.readable import SAMPLED, SCOPE_NAME, attributes_of, context_of, status_of
from otel_train.sinks.spans import Ids, SpanData
from otel_train.version import __version__

REMEMBERED = 4096
"""Spans whose actual context is remembered for their children."""

RECORDS_A_SECOND = 200
"""Histogram records handed to an application's meter, 20 to 30 µs each. The rest is thinned out evenly."""


class PresetIds(IdGenerator):
    """Gives the ids that were set last."""

    ids: Ids = (1, 1)

    def generate_trace_id(self) -> int:
        return self.ids[0]

    def generate_span_id(self) -> int:
        return self.ids[1]


class SpanHandOver:
    """Makes spans with an application's tracer. One thread."""

    def __init__(self, provider: Any) -> None:
        self._tracer = provider.get_tracer(SCOPE_NAME, __version__)
        self._preset = PresetIds()
        if hasattr(self._tracer, "id_generator"):
            self._tracer.id_generator = self._preset
        self._made: OrderedDict[Ids, SpanContext] = OrderedDict()

    def __call__(self, spans: Iterable[SpanData]) -> None:
        """Start and end them, with their own times."""
        for span in spans:
            self._preset.ids = span.ids
            made = self._tracer.start_span(
                span.name,
                context=self._parent(span.parent),
                attributes=attributes_of(span),
                links=[Link(self._context(link)) for link in span.links],
                start_time=span.start_ns,
            )
            for name, time_ns, attributes in span.events:
                made.add_event(name, attributes, time_ns)
            if span.error is not None:
                made.set_status(status_of(span))
            made.end(span.end_ns)
            self._made[span.ids] = made.get_span_context()
            if len(self._made) > REMEMBERED:
                self._made.popitem(last=False)

    def _parent(self, ids: Ids | None) -> Context:
        return Context() if ids is None else set_span_in_context(NonRecordingSpan(self._context(ids)), Context())

    def _context(self, ids: Ids) -> SpanContext:
        """Its own context where it was made already; else what the sampler would say of its trace."""
        return self._made.get(ids) or context_of(ids, self._flags(ids))

    def _flags(self, ids: Ids) -> TraceFlags:
        sampler = getattr(self._tracer, "sampler", None)
        if sampler is None or sampler.should_sample(Context(), ids[0], SCOPE_NAME).decision.is_sampled():
            return SAMPLED
        return TraceFlags(TraceFlags.DEFAULT)


class LogHandOver:
    """Emits events with an application's logger."""

    def __init__(self, provider: Any) -> None:
        self._logger = provider.get_logger(SCOPE_NAME, __version__)

    def __call__(self, logs: Iterable[LogData]) -> None:
        """Emit them, with their own times."""
        for log in logs:
            self._logger.emit(log_record(log))


class MetricHandOver:
    """Feeds an application's meter: observable counters and gauges, and histograms up to a rate.

    A value recorded in a histogram is the middle of its bucket (at most 160 a stretch): a few percent off.
    """

    def __init__(self, provider: Any) -> None:
        self._instruments = _instruments_of(provider)
        self.suppressed: Counter[str] = Counter()
        """Histogram records that were thinned out, by metric."""

    def __call__(self, sets: Iterable[PointSet]) -> None:
        """Show the totals, and record what is new."""
        for points in sets:
            most = int(RECORDS_A_SECOND * max((points.end_ns - points.start_ns) / 1e9, 1))
            self._instruments.show(points.total, points.delta)
            fair = math.ceil(most / max(len(points.delta.histograms), 1))
            for (name, attributes), histogram in points.delta.histograms.items():
                recorded = 0
                for value in typical_values(histogram, fair):
                    self._instruments.histogram(name).record(value, dict(attributes))
                    recorded += 1
                self.suppressed[name] += histogram.count - recorded

    def stop(self) -> None:
        """Show nothing any more."""
        self._instruments.show(Aggregate(), Aggregate())


class _Instruments:
    """The instruments made so far on one meter. A second run in the process goes on with them."""

    def __init__(self, provider: Any) -> None:
        self._meter = provider.get_meter(SCOPE_NAME, __version__)
        self._made: dict[str, Any] = {}
        self._shown: dict[str, list[Observation]] = {}

    def show(self, total: Aggregate, delta: Aggregate) -> None:
        """What the observable instruments say from now on; a gauge without a new value says nothing."""
        shown: dict[str, list[Observation]] = {}
        for values, make in (
            (total.sums, self._meter.create_observable_counter),
            (delta.gauges, self._meter.create_observable_gauge),
            (delta.parts, self._meter.create_observable_up_down_counter),
        ):
            for (name, attributes), value in values.items():
                shown.setdefault(name, []).append(Observation(value, dict(attributes)))
                if name not in self._made:
                    self._made[name] = make(name, [self._observer(name)], unit=unit_of(name))
        self._shown = shown

    def histogram(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._meter.create_histogram(name, unit=unit_of(name))
        return self._made[name]

    def _observer(self, name: str) -> Any:
        return lambda options: self._shown.get(name, [])


_known: "WeakKeyDictionary[Any, _Instruments]" = WeakKeyDictionary()


def _instruments_of(provider: Any) -> _Instruments:
    return _known.setdefault(provider, _Instruments(provider))
