"""Makes the application's own spans children of the step they are made in, before anybody knows whether it is kept.

While a step runs, the current span of the training thread is a stand-in with the ids that the step's span will have.
It remembers whether a span was begun under it; such a step is kept, so that the child has its parent. To everybody
else (exemplars, logs, ``set_attribute``) it is the span that was current before, or none: nothing is correlated with a
step that may never become a trace, and nothing that the application writes on its own outer span is lost.

Spans made inside a step belong to the step's trace, not to that of a span around it.
"""

import sys
from collections.abc import Sequence
from typing import Any

from opentelemetry import context
from opentelemetry.trace import Span, SpanContext, TraceFlags, get_current_span, set_span_in_context
from opentelemetry.util import types

from otel_train.names import STEP_SPAN
from otel_train.sinks import ids
from otel_train.sinks.providers import providers_already_set
from otel_train.sinks.readable import SAMPLED, context_of

PARENT_SEEKERS = frozenset({"start_span", "start_as_current_span", "inject"})
"""Functions that ask the current span for its context to make a child of it, here or in another process."""

Token = tuple[Any, "StepSpan"]


def step_context(run_id: str, rank: int, tracer_provider: Any = None) -> "StepContext | None":
    """For the recorder, where the application has a provider, passed or already set; None where it has none."""
    provider = tracer_provider or providers_already_set().get("tracer_provider")
    return None if provider is None else StepContext(run_id, rank, getattr(provider, "sampler", None))


class StepContext:
    """Enters and leaves steps, on the training thread. About 1 µs a step. ``sampler`` is the application's."""

    def __init__(self, run_id: str, rank: int, sampler: Any = None) -> None:
        self.run_id = run_id
        self.rank = rank
        self.sampler = sampler

    def enter(self, step: int, epoch: int | None, evaluation: bool) -> Token:
        """Make the step's stand-in the current span."""
        span = StepSpan(self, (step, epoch, evaluation), get_current_span())
        return context.attach(set_span_in_context(span)), span

    def exit(self, token: Token) -> bool:
        """Make current what was before; was a span begun inside the step?"""
        attached, span = token
        context.detach(attached)
        return span.has_children

    def span_context(self, which: tuple[int, int | None, bool]) -> SpanContext:
        """The context that the step's span will have: sampled if the application's sampler takes its trace."""
        trace = ids.step_trace_id(self.run_id, *which)
        return context_of((trace, ids.step_span_id(self.run_id, self.rank, *which)), self._flags(trace))

    def _flags(self, trace: int) -> TraceFlags:
        if self.sampler is None:
            return SAMPLED
        sampled = self.sampler.should_sample(context.Context(), trace, STEP_SPAN).decision.is_sampled()
        return SAMPLED if sampled else TraceFlags(TraceFlags.DEFAULT)


class StepSpan(Span):
    """Stands in for a step's span until the step is over. Ids are hashed when first needed."""

    __slots__ = ("_context", "_outer", "_step_context", "_which", "has_children")

    def __init__(self, step_context: StepContext, which: tuple[int, int | None, bool], outer: Span) -> None:
        self._step_context = step_context
        self._which = which
        self._outer = outer
        self._context: SpanContext | None = None
        self.has_children = False

    def get_span_context(self) -> SpanContext:
        """To who makes a span, the step's; to everybody else, that of the span around the step."""
        if sys._getframe(1).f_code.co_name not in PARENT_SEEKERS:
            return self._outer.get_span_context()
        self.has_children = True
        if self._context is None:
            self._context = self._step_context.span_context(self._which)
        return self._context

    # The rest is the outer span's.

    def is_recording(self) -> bool:
        return self._outer.is_recording()

    def set_attributes(self, attributes: Any) -> None:
        self._outer.set_attributes(attributes)

    def set_attribute(self, key: str, value: Any) -> None:
        self._outer.set_attribute(key, value)

    def add_event(self, name: str, attributes: types.Attributes = None, timestamp: int | None = None) -> None:
        self._outer.add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: types.Attributes = None) -> None:
        self._outer.add_link(context, attributes)

    def add_links(self, links: Sequence[Any]) -> None:
        """As newer versions of the API have it."""
        for link in links:
            self._outer.add_link(link.context, link.attributes)

    def update_name(self, name: str) -> None:
        self._outer.update_name(name)

    def set_status(self, status: Any, description: str | None = None) -> None:
        self._outer.set_status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: types.Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        self._outer.record_exception(exception, attributes, timestamp, escaped)

    def end(self, end_time: int | None = None) -> None:
        """Nobody's to end."""
