"""The live display: a bar and a line of rates at the foot of the terminal, four times a second.

It is a reader of the run log, on a thread of its own; the training thread is never asked. Without a run it is fed as a
callback. rich is imported only when a display starts.
"""

import io
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from otel_train import guard

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from otel_train.derive.recent import Recent
    from otel_train.runlog.ranklog import RankLog

EVERY_S = 0.25
STOP_S = 1.0
WINDOW_S = 10.0


class Progress:
    """A live display. Use as a context manager or with ``start`` and ``stop``; call it to feed it without a run.

    Where the console is no terminal nothing is shown and no thread starts. When the terminal goes away the display
    ends and the training goes on.
    """

    def __init__(
        self, total_steps: int | None = None, log: "RankLog | None" = None, console: "Console | None" = None
    ) -> None:
        """``total_steps`` is the number that the run will end at: it gives the bar and the time left."""
        self.total_steps = total_steps
        self._log = log
        self._console = console
        self._live: Any = None
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._streams: tuple[Any, Any] | None = None
        self._step: int | None = None
        self._samples = 0
        self._fed: deque[tuple[float, int, int]] = deque()

    def __call__(self, step: int, samples: int = 0) -> None:
        """Tell the number of the step that is over, and how many samples it had. 0.1 µs; any one thread."""
        self._step = step
        self._samples += samples

    def start(self) -> "Progress":
        """Show the display, unless there is no terminal or it is shown already."""
        with guard.guarded("progress"):
            if self._live is None:
                self._start()
        return self

    def stop(self) -> None:
        """Show the last figures, and give the terminal back. Twice is once."""
        self._over.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(STOP_S)
        self._close()

    def __enter__(self) -> "Progress":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def figures(self) -> "Recent":
        """The figures of now: from the log where there is one, else from what was fed."""
        if self._log is not None:
            from otel_train.derive.recent import recent_of_log

            return recent_of_log(self._log)
        return self._fed_figures()

    def _fed_figures(self) -> "Recent":
        from otel_train.derive.recent import Recent

        step = self._step
        if step is None:
            return Recent()
        now, fed = time.perf_counter(), self._fed
        fed.append((now, step, self._samples))
        while fed[0][0] < now - WINDOW_S and len(fed) > 2:
            fed.popleft()
        elapsed_s, steps, samples = (last - first for last, first in zip(fed[-1], fed[0], strict=True))
        if not elapsed_s or not steps:
            return Recent(step)
        return Recent(step, None, steps / elapsed_s, samples_per_s=samples / elapsed_s if samples else None)

    def _start(self) -> None:
        from rich.console import Console
        from rich.live import Live

        console = self._console or Console(stderr=True, soft_wrap=True)  # soft: a printed line stays one line
        if not console.is_terminal or console.is_dumb_terminal:
            return
        setattr(console, "on_broken_pipe", _reraise)  # noqa: B010  mypy: a method is not assigned to
        self._streams = sys.stdout, sys.stderr
        self._live = Live(
            get_renderable=self._draw,
            console=console,
            auto_refresh=False,
            redirect_stdout=_is_terminal(sys.stdout),  # rich would send a redirected stdout to the terminal
            redirect_stderr=_is_terminal(sys.stderr),
        )
        _shown.add(self)
        self._live.start()
        console.show_cursor(True)  # a killed process could not bring it back
        self._over.clear()
        self._thread = threading.Thread(target=self._run, name="otel_train.progress", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(EVERY_S):
            if not self._on_terminal(self._live.refresh):
                self._close()
                return

    def _close(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            _shown.discard(self)
            self._on_terminal(live.stop)
            self.restore_streams()

    def _on_terminal(self, act: Callable[[], None]) -> bool:
        """Did it work? A terminal that went away, or whose file was closed, is nothing to tell anybody."""
        with guard.guarded("progress"):
            try:
                act()
                return True
            except (OSError, ValueError):
                return False
        return False

    def restore_streams(self) -> None:
        """Put back ``sys.stdout`` and ``sys.stderr`` where rich still stands in for them."""
        if self._streams is not None:
            sys.stdout, sys.stderr = (
                saved if hasattr(current, "rich_proxied_file") else current
                for saved, current in zip(self._streams, (sys.stdout, sys.stderr), strict=True)
            )

    def _draw(self) -> "RenderableType":
        from otel_train.report.live_view import draw

        return draw(self.figures(), self.total_steps)


_shown: "weakref.WeakSet[Progress]" = weakref.WeakSet()


def _reraise() -> None:
    """In place of rich's own answer to a broken pipe: it points the process's stdout nowhere and raises SystemExit."""
    raise


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError, io.UnsupportedOperation):
        return False


def _after_fork_in_child() -> None:
    """A data worker has no display thread, and may have been forked while that thread held rich's locks."""
    for progress in list(_shown):
        progress.restore_streams()
        progress._live = progress._thread = None
    _shown.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
