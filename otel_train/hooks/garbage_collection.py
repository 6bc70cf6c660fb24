"""Python's garbage collector: a full collection of a large program stops the step that it falls into."""

import gc
from collections.abc import Callable
from typing import Any

from otel_train import active, guard
from otel_train.names import GC_COLLECTED, GC_GENERATION, GC_PAUSE, GC_SHORT_COUNT, GC_SHORT_TIME
from otel_train.recorder.signals import signals
from otel_train.runlog.events import Event

MATTERS_NS = 2_000_000
"""From this long on a pause is an event; the shorter ones are counted with the next."""

MOST_PENDING = 256


class _Pauses:
    """Times collections. A callback of the collector may run anywhere, also while this very thread holds a lock of
    ours: so it only notes the pause, which is written down after the step, or by the keeper."""

    def __init__(self) -> None:
        self._start_ns = 0
        self._short = [0, 0]
        self._pending: list[Event] = []

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """About 0.3 µs, twice a collection."""
        if active.recorder is None:
            self._short = [0, 0]
            return
        now = signals.clock()
        if phase == "start":
            self._start_ns = now
        elif self._start_ns:
            duration_ns, self._start_ns = now - self._start_ns, 0
            if duration_ns >= MATTERS_NS:
                self._note(now - duration_ns, duration_ns, info)
            else:
                self._short[0] += 1
                self._short[1] += duration_ns

    def _note(self, start_ns: int, duration_ns: int, info: dict[str, int]) -> None:
        recorder = active.recorder
        if recorder is None or len(self._pending) >= MOST_PENDING:
            return
        count, time_ns = self._short
        self._short = [0, 0]
        short = {GC_SHORT_COUNT: count, GC_SHORT_TIME: time_ns / 1e9} if count else {}
        attributes = {GC_GENERATION: info.get("generation"), GC_COLLECTED: info.get("collected"), **short}
        sidelines = recorder.sidelines
        thread = sidelines.foreign_thread_name()
        self._pending.append(Event(GC_PAUSE, start_ns, duration_ns, sidelines.last_step, thread, None, attributes))
        if self.write not in recorder.after_step:
            recorder.after_step.append(self.write)

    def write(self) -> None:
        """Write down what was noted: after a step on the training thread, or at the end on any."""
        recorder = active.recorder
        if recorder is None:
            return
        if self.write in recorder.after_step:
            recorder.after_step.remove(self.write)
        while self._pending:
            recorder.sidelines.event(self._pending.pop(0))


def install(torch: Any) -> Callable[[], None]:
    """Record the pauses that matter, as events on the step they hit; returns the undo."""
    pauses = _Pauses()
    gc.callbacks.append(pauses)
    signals.reports.append(pauses.write)

    def undo() -> None:
        with guard.guarded("garbage collection"):
            gc.callbacks.remove(pauses)
            signals.reports.remove(pauses.write)

    return undo
