"""One window of torch's profiler, which gives way to the user's own: two at a time destroy each other's data."""

import contextlib
import os
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import get_ident
from typing import Any

from otel_train.hooks.patching import all_of, replace

QUIET = {"KINETO_LOG_LEVEL": "99"}
"""Kineto reads it once: otherwise it tells standard error of each start and stop."""

TAKEN_DOWN = {"TEARDOWN_CUPTI": "1"}
"""Kineto reads it at each stop: otherwise CUPTI stays in the process, and from then on each launch takes longer. On an
H200 a step bound by launches took 3.90 ms before, 4.93 ever after; with it 4.09 and 4.19
(``benchmarks/profile_cost.py``). Not at a start: where a profiler of the user's has left CUPTI in the process, Kineto
would take it down inside our window, which then had no kernels (H200, torch 2.11).
"""


class TorchProfiler:
    """Starts and stops on one thread, the training's. ``save`` is for any other."""

    def __init__(self, torch: Any, shapes: bool, stacks: bool, memory: bool) -> None:
        self._torch = torch
        self._shapes = shapes
        self._stacks = stacks
        self._memory = memory
        self._own: Any = None
        self._thread = 0
        self._starting = False
        self._others: weakref.WeakSet[Any] = weakref.WeakSet()
        """The user's, from their preparation to their end."""

    def install(self) -> Callable[[], None]:
        """Watch for profilers of the user's; returns the undo."""
        profile = self._torch.autograd.profiler.profile
        prepare, leave = profile.__dict__["_prepare_trace"], profile.__dict__["__exit__"]

        def _prepare_trace(theirs: Any) -> Any:
            if not self._starting:
                self._others.add(theirs)
                self._stop(QUIET)  # and CUPTI stays, for theirs
            return prepare(theirs)

        def __exit__(theirs: Any, *error: Any) -> Any:  # noqa: N807  what torch has there
            self._others.discard(theirs)
            return leave(theirs, *error)

        warnings.filterwarnings("ignore", message="Warning: Profiler clears events", category=UserWarning)
        return all_of([replace(profile, "_prepare_trace", _prepare_trace), replace(profile, "__exit__", __exit__)])

    def hindrance(self) -> str | None:
        """Why no window can begin now; None if one can."""
        torch = self._torch
        if self._others or torch.autograd._profiler_enabled():
            return "another profiler is at work"
        if self._cuda() and torch.cuda.is_current_stream_capturing():
            return "a CUDA graph is being captured"
        return None

    def start(self) -> None:
        """Begin a window on this thread. About 1 ms; the first time on a GPU 20."""
        profiler = self._torch.profiler
        activities = [profiler.ProfilerActivity.CPU, *([profiler.ProfilerActivity.CUDA] if self._cuda() else [])]
        self._starting = True
        try:
            with _told_kineto(QUIET):
                own = profiler.profile(
                    activities=activities, record_shapes=self._shapes, with_stack=self._stacks,
                    profile_memory=self._memory,
                )  # fmt: skip
                own.start()
        finally:
            self._starting = False
        self._own, self._thread = own, get_ident()

    @property
    def is_on(self) -> bool:
        """Is a window of ours under way?"""
        return self._own is not None

    def stop(self) -> Callable[[Path], None] | None:
        """End the window, on the thread that began it; on a GPU torch waits for it here. About 4 µs an event.

        Returns what writes its trace, which holds the GIL for 3 µs an event; None if there is nothing to write.
        """
        return self._stop(QUIET | TAKEN_DOWN)

    def abandon(self) -> None:
        """The window is over, and what it saw is lost."""
        self.stop()

    def _stop(self, kineto: dict[str, str]) -> Callable[[Path], None] | None:
        own, self._own = self._own, None
        if own is None or get_ident() != self._thread:
            return None
        with _told_kineto(kineto):
            own.stop()
        return lambda path: own.export_chrome_trace(str(path))

    def _cuda(self) -> bool:
        cuda = self._torch.cuda
        return bool(cuda.is_available() and cuda.is_initialized())


@contextlib.contextmanager
def _told_kineto(what: dict[str, str]) -> Iterator[None]:
    """The environment as Kineto should see it, but for what is set already, by the user or by torch (for graphs)."""
    ours = {key: value for key, value in what.items() if key not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for key in ours:
            os.environ.pop(key, None)
