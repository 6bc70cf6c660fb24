"""Scopes for what is rare: each use is one event with a duration, written when it ends."""

from collections.abc import Callable
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from otel_train import active, guard
from otel_train.names import CHECKPOINT, EVALUATION_KIND
from otel_train.recorder import scopes
from otel_train.recorder.signals import signals

if TYPE_CHECKING:
    from otel_train.recorder.hot_path import Recorder

F = TypeVar("F", bound=Callable[..., Any])

DISTURBING = (CHECKPOINT, EVALUATION_KIND)
"""Kinds during which no step is to be expected."""


class EventScope:
    """A with-block or decorator that records one event a use. A subclass says what it notes at begin and end.

    One object serves one use at a time; as a decorator it makes a fresh one for each call.
    """

    kind: str
    ends_step = True
    """An implied step whose optimizer has stepped is over when the block begins."""

    def __init__(self, attributes: dict[str, Any]) -> None:
        self.attributes = attributes
        self._recorder: Recorder | None = None
        self._start_ns = 0

    def begun(self, recorder: "Recorder") -> None:
        """Called when the block begins, while a run records."""

    def ended(self, recorder: "Recorder", duration_ns: int) -> dict[str, Any] | None:
        """Called when the block is over; the attributes known only now, or None if it is not worth an event."""
        return {}

    def fresh(self) -> "EventScope":
        """A scope like this one, not in use."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __enter__(self) -> "EventScope":
        self._recorder = recorder = active.recorder
        if recorder is not None:
            if self.ends_step:
                signals.between_steps()
            with guard.guarded(self.kind):
                self.begun(recorder)
            self._start_ns = recorder.clock()
            if self.kind in DISTURBING and get_ident() == recorder.state.thread:
                active.going_on.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        recorder, self._recorder = self._recorder, None
        if self in active.going_on:
            active.going_on.remove(self)
        if recorder is None or recorder is not active.recorder:
            return
        duration_ns = recorder.clock() - self._start_ns
        later: dict[str, Any] | None = {}
        with guard.guarded(self.kind):
            later = self.ended(recorder, duration_ns)
        if later is None:
            return
        recorder.sidelines.span(self.kind, self._start_ns, duration_ns, error, {**self.attributes, **later})

    def __call__(self, function: F) -> F:
        """Decorate a function: each call of it is an event."""
        return scopes.wrap_each(function, lambda *args, **kwargs: self.fresh())
