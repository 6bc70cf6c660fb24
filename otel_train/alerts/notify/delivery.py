"""Hands each notification to every way, so that one that hangs or fails harms nobody: not the caller, not the others.

Each way has a thread and a short queue. Threads begin with the first notification and end with ``close``.
"""

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable

from otel_train import guard
from otel_train.alerts.notification import Notification
from otel_train.alerts.notify.way import DeliveryError, Stoppable, Way

QUEUE = 64
"""Notifications that wait for one way; a newer one pushes out the oldest."""


class Delivery:
    """Takes notifications from any thread at once, and never raises. In a forked child it does nothing."""

    def __init__(self, ways: Iterable[Way], queue: int = QUEUE) -> None:
        self._process_id = os.getpid()
        self._outboxes = [_Outbox(way, queue) for way in ways]

    @property
    def sent(self) -> Counter[str]:
        """Notifications a way has taken."""
        return Counter({box.way.name: box.sent for box in self._outboxes if box.sent})

    @property
    def failed(self) -> Counter[str]:
        """Notifications a way has failed to take."""
        return Counter({box.way.name: box.failed for box in self._outboxes if box.failed})

    @property
    def dropped(self) -> Counter[str]:
        """Notifications that a way never saw: pushed out by newer ones, or left when the time at the end was over."""
        return Counter({box.way.name: box.dropped for box in self._outboxes if box.dropped})

    def send(self, notification: Notification) -> None:
        """Queue it for every way; returns at once."""
        if os.getpid() != self._process_id:
            return
        for box in self._outboxes:
            with guard.guarded("notification"):
                box.put(notification)

    def close(self, timeout_s: float) -> None:
        """Send what waits, for ``timeout_s`` at most; then the rest is given up and counted. Twice is once."""
        if os.getpid() != self._process_id:
            return
        deadline = time.monotonic() + timeout_s
        for box in self._outboxes:
            box.finish()
        for box in self._outboxes:
            box.wait(deadline)
        for box in self._outboxes:
            with guard.guarded("notification"):
                box.give_up()


class _Outbox:
    """One way's queue and thread."""

    def __init__(self, way: Way, size: int) -> None:
        self.way = way
        self.sent = self.failed = self.dropped = 0
        self._waiting: deque[Notification] = deque()
        self._size = size
        self._changed = threading.Condition()
        self._over = False
        self._thread: threading.Thread | None = None

    def put(self, notification: Notification) -> None:
        with self._changed:
            if self._over:
                self.dropped += 1
                return
            if len(self._waiting) == self._size:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(notification)
            self._changed.notify()
            if self._thread is None:
                self._thread = self._started()

    def _started(self) -> threading.Thread | None:
        """The way's thread. None where none is to be had: the next notification tries again, the end tells the rest."""
        thread = threading.Thread(target=self._run, name=f"otel_train.notify {self.way.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads in this container; or Python 3.12, which starts none in atexit
            return None
        return thread

    def finish(self) -> None:
        """No more comes: the thread ends when the queue is empty."""
        with self._changed:
            self._over = True
            self._changed.notify()

    def wait(self, deadline: float) -> None:
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(max(deadline - time.monotonic(), 0))

    def give_up(self) -> None:
        """The thread ends with what it is about, and need not: it is a daemon."""
        with self._changed:
            left = len(self._waiting)
            self._waiting.clear()
            self.dropped += left
        is_busy = self._thread is not None and self._thread.is_alive()
        if is_busy and isinstance(self.way, Stoppable):
            self.way.stop()
        if left or is_busy:
            message = "the %s had not taken %s when the run ended; the alerts are in the run's record"
            what = f"{left + is_busy} notification" + ("s" if left + is_busy > 1 else "")
            guard.warn_once(f"notification left {self.way.name}", message, self.way.name, what)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._over)
                if not self._waiting:
                    return
                notification = self._waiting.popleft()
            self._deliver(notification)

    def _deliver(self, notification: Notification) -> None:
        try:
            self.way.send(notification)
        except DeliveryError as error:
            self._say_failed(str(error))
        except Exception as error:  # noqa: BLE001  whatever it is, the next notification may fare better
            self._say_failed(type(error).__name__)  # its text may hold a secret
        else:
            self.sent += 1

    def _say_failed(self, reason: str) -> None:
        self.failed += 1
        message = "%s: a notification did not arrive: %s. Further ones are tried, and failures counted without a word"
        guard.warn_once(f"notification {self.way.name}", message, self.way.name, reason)
