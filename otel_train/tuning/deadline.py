"""A time by which something has to be over, though it never returns by itself."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

SOON_S = 0.001
AGAIN_S = 1.0
"""The alarm goes off again so long after, for code that has swallowed it."""


class Overdue(BaseException):
    """The time is over. No ``Exception``: a loader's own ``except Exception`` must not take it for one of its own."""


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise ``Overdue`` in this block when it takes longer. What waits in C without looking for signals is not reached.

    Uses SIGALRM, whose handler and timer it puts back, and so works on the main thread; elsewhere it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    over = False

    def ring(signum: int, frame: FrameType | None) -> None:
        if not over:
            raise Overdue

    handler, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    began = time.monotonic()
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, SOON_S), AGAIN_S)
    try:
        yield
    finally:
        over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler if handler is not None else signal.SIG_DFL)
        if timer[0]:
            left = max(timer[0] - (time.monotonic() - began), SOON_S)
            signal.setitimer(signal.ITIMER_REAL, left, timer[1])
