"""The rank's own background thread: keeps segments ready, and writes down what otel_train cost."""

import threading
import time
from collections.abc import Callable
from typing import Any

from otel_train import guard
from otel_train.names import (
    ALERTS_ACTIVE,
    CHECKPOINTS_LEFT_OUT,
    ERRORS,
    EXPORT_FAILURES,
    HEALTH,
    OVERHEAD_BACKGROUND,
    OVERHEAD_TRAINING,
    RECORDS_DROPPED,
)
from otel_train.runlog.events import Event

TICK_S = 0.5
HEALTH_EVERY_S = 30.0
GOVERN_EVERY_S = 5.0
ALERTS_EVERY_S = 5.0


class Keeper(threading.Thread):
    """Calls each of its duties at its pace until told to stop. A duty that fails is reported, and called again.

    What is done once, and at every tick, is done at once; the rest for the first time when its time is over.
    """

    def __init__(self, duties: list[tuple[float, str, Callable[[], None]]]) -> None:
        super().__init__(name="otel_train.keeper", daemon=True)
        self._duties = duties
        self._stopped = threading.Event()
        self.cpu_ns = 0
        """CPU time of this thread, as of its last round."""

    def run(self) -> None:
        begun = time.monotonic()
        due = [
            begun + every_s if every_s > TICK_S and every_s < float("inf") else 0.0 for every_s, _, _ in self._duties
        ]
        pause_s = 0.0
        while not self._stopped.wait(pause_s):
            now, pause_s = time.monotonic(), TICK_S
            for index, (every_s, site, duty) in enumerate(self._duties):
                if now >= due[index]:
                    due[index] = now + every_s
                    with guard.guarded(site):
                        duty()
            self.cpu_ns = time.thread_time_ns()

    def stop(self, timeout_s: float) -> None:
        """End the thread; waits for its current duty, ``timeout_s`` at most."""
        self._stopped.set()
        if self.is_alive() and threading.current_thread() is not self:
            self.join(timeout_s)


def health_event(
    now_ns: int,
    training_ns: float,
    background_ns: float,
    dropped: int,
    left_out: int,
    export_failures: dict[str, int],
    governor: dict[str, Any],
    alerts: dict[str, int],
) -> Event:
    """What otel_train cost and lost since the run began, in seconds and counts."""
    return Event(
        HEALTH,
        now_ns,
        attributes={
            OVERHEAD_TRAINING: training_ns / 1e9,
            OVERHEAD_BACKGROUND: background_ns / 1e9,
            RECORDS_DROPPED: dropped,
            EXPORT_FAILURES: dict(export_failures),
            ERRORS: dict(guard.counts),
            **({CHECKPOINTS_LEFT_OUT: left_out} if left_out else {}),
            **governor,
            **({ALERTS_ACTIVE: alerts} if alerts else {}),
        },
    )
