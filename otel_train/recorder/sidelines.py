"""What happens beside the steps, on whatever thread: it becomes events, written as they end."""

import threading
from collections.abc import Callable
from threading import get_ident
from typing import Any

from otel_train import guard
from otel_train.clock import Clock
from otel_train.names import PHASE, PHASE_EVENT
from otel_train.recorder.failures import describe
from otel_train.recorder.training_state import TrainingState
from otel_train.runlog.events import Event


class Sidelines:
    """Phases outside a step or on another thread, and every event. About 20 µs each; any thread."""

    def __init__(self, clock: Clock, state: TrainingState, write_event: Callable[[Event], None]) -> None:
        self._clock = clock
        self._state = state
        self._write_event = write_event
        self._open = threading.local()
        self._lock = threading.Lock()
        self.left_out = 0
        """Calls that might have been checkpoints and were none."""

    def enter(self) -> None:
        """A phase begins on the calling thread."""
        self._state.aside.append(get_ident())
        try:
            self._open.starts.append(self._clock())
        except AttributeError:
            self._open.starts = [self._clock()]

    def exit(self, name: str, error: BaseException | None) -> None:
        """The phase that the calling thread began last is over."""
        now = self._clock()
        starts = getattr(self._open, "starts", None)
        if not starts:  # it began before the run did, or inside a step that is over
            guard.warn_once("unbalanced", "the phase %r ended in another place than it began: not recorded", name)
            return
        start = starts.pop()
        self._state.aside.pop()
        self.span(PHASE_EVENT, start, now - start, error, {PHASE: name})

    def span(
        self, kind: str, start_ns: int, duration_ns: int, error: BaseException | None, attributes: dict[str, Any]
    ) -> None:
        """Write an event that has a duration, from whatever thread."""
        described = None if error is None else describe(error)
        thread = self.foreign_thread_name()
        self.event(Event(kind, start_ns, duration_ns, self.last_step, thread, described, attributes))

    def event(self, event: Event) -> None:
        """Write an event; a failure to is reported, never raised. Any thread."""
        with guard.guarded("event"):
            self._write_event(event)

    def leave_out(self) -> None:
        """Count a call that is no checkpoint. Any thread."""
        with self._lock:
            self.left_out += 1

    @property
    def last_step(self) -> int | None:
        """The number of the current step, or else of the last one; None before the first."""
        return None if self._state.number < 0 else self._state.number

    def foreign_thread_name(self) -> str | None:
        """The calling thread's name, or None on the training thread."""
        return None if get_ident() == self._state.thread else threading.current_thread().name
