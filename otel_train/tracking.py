"""The trackers' threads of a run that is going on: each reads the record at its pace and tells one tracker.

A tracker that hangs or is away keeps its own thread waiting and nobody else; what it was not told stays in the record.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from otel_train import guard
from otel_train.runlog.ranklog import RankLog
from otel_train.settings import Settings

if TYPE_CHECKING:
    from otel_train.trackers.rows import Closing, Reached, Row
    from otel_train.trackers.tracker import Tracker

THREADS = "otel_train.tracker."
MOST_ROWS = 20
"""In a request: after an outage there are many."""
MOST_BEHIND = 60
"""Rows for what was not told for long, a server's outage of hours: then they stand for longer intervals."""
LOOK_EVERY_S = 1.0
"""Whether the user has a run open."""
LATE_S = 1.0
"""A record may be written a little after its time."""


class Tracking(threading.Thread):
    """Tells one tracker of one rank's run for as long as it goes on."""

    def __init__(self, tracker: "Tracker", settings: Settings, log: RankLog, clock: Callable[[], int]) -> None:
        from otel_train.trackers.rows import (
            Reached,  # not on the thread: a program may be over by then, and imports fail
        )

        super().__init__(name=f"{THREADS}{tracker.name}", daemon=True)
        self._tracker = tracker
        self._log = log
        self._clock = clock
        self._every_s = settings.tracker_interval_s
        self._is_asked_for = settings.trackers != ("auto",)
        self._wake = threading.Event()
        self._is_over = False
        self._reached = Reached(log.anchor.monotonic_ns)
        self._headers: dict[Any, Any] = {}
        self._not_before_s = 0.0
        self._run: Any = None
        self._told_last: Any = None
        """The run that was told last, though the user may have ended it since."""
        self.is_complete = False
        self.cpu_ns = 0

    def run(self) -> None:
        with _without_retries_on_stderr():
            while not self._is_over:
                with guard.guarded(self.name):
                    self.look()
                self.cpu_ns = time.thread_time_ns()
                self._wake.wait(LOOK_EVERY_S)
            with guard.guarded(self.name):
                self.is_complete = self._tell_the_rest()
            self.cpu_ns = time.thread_time_ns()

    def look(self) -> None:
        """See which run the user has open now, and tell it the intervals that are over. Some 10 µs where none is."""
        if time.monotonic() < self._not_before_s and not self._is_over:
            return
        found = self._tracker.open_run()
        if found != self._run and not self._change_to(found):
            return
        until_ns = self._clock() - int(LATE_S * 1e9)
        is_due = self._run is not None and self._next_end_ns(self._reached, until_ns) <= until_ns
        if is_due and self._try(self._tracker.is_ready, self._run):
            self._tell(until_ns)

    def end_soon(self) -> None:
        """The run is over and all of it recorded: tell the rest and the summary."""
        self._is_over = True
        self._wake.set()

    def finish(self, deadline: float) -> None:
        """Wait for it until ``deadline`` (``time.monotonic``). What is not told by then stays in the record."""
        self.join(max(deadline - time.monotonic(), 0.0))
        if self.is_complete:
            return
        if self._told_last is None and not self.is_alive():
            self._say_none_was_open()
        else:
            name, run_id = self._tracker.name, self._log.run_id
            guard.warn_once(
                f"{self.name} unsent",
                "%s was not told all of run %s. Nothing is lost, it is in %s",
                name, run_id, self._log.storage.location,
            )  # fmt: skip

    def _say_none_was_open(self) -> None:
        if self._is_asked_for:
            guard.warn_once(
                f"{self.name} none",
                "trackers has %s, but no run of it was seen open: it was told nothing. Open one before training "
                "(docs/trackers.md says how it is found), or take %s out of OTEL_TRAIN_TRACKERS",
                self._tracker.name, self._tracker.name,
            )  # fmt: skip

    def _change_to(self, found: Any) -> bool:
        """The user has opened a run, ended it, or both. What lies between two runs is told to neither."""
        from otel_train.trackers.rows import skip

        now_ns = self._clock()
        if self._run is not None:
            if self._tracker.takes_late:
                self._tell(now_ns, is_last=True)
            self._run = None
        if found is None:
            return False
        if self._told_last is not None:
            self._reached = skip(self._log, self._reached, now_ns, self._headers)
        if not self._try(self._tracker.begin, found, self._log.run_id):
            return False
        self._run = self._told_last = found
        return True

    def _tell(self, until_ns: int, is_last: bool = False) -> bool:
        """Tell the intervals that are over by then; at the last, what is left too. Did the tracker take all of it?"""
        while True:
            rows, reached = self._next_rows(until_ns, is_last)
            if reached is self._reached:
                return True
            if rows and not self._try(self._tracker.write, self._run, rows):
                return False
            self._reached = reached

    def _next_rows(self, until_ns: int, is_last: bool) -> "tuple[list[Row], Reached]":
        """Some rows, and how far they reach: not at all where no interval is over."""
        from otel_train.trackers.rows import row_until

        rows: list[Row] = []
        reached, end_ns = self._reached, self._next_end_ns(self._reached, until_ns)
        while reached.time_ns < until_ns and (end_ns <= until_ns or is_last) and len(rows) < MOST_ROWS:
            end_ns = until_ns if self._tracker.merges else min(end_ns, until_ns)
            row, reached = row_until(self._log, reached, end_ns, self._headers)
            rows += [row] if row.values else []
            end_ns = self._next_end_ns(reached, until_ns)
        return rows, reached

    def _next_end_ns(self, reached: "Reached", until_ns: int) -> int:
        from otel_train.trackers.rows import next_end_ns

        return next_end_ns(self._log, reached, self._every_s, until_ns, MOST_BEHIND)

    def _tell_the_rest(self) -> bool:
        """The run is over. Was all of it taken?"""
        self.look()
        if self._run is not None and not self._tell(self._clock(), is_last=True):
            return False
        run = self._told_last if self._tracker.takes_late else self._run
        is_told = run is not None and self._try(self._tracker.finish, run, self._closing())
        self._tracker.close()
        return is_told

    def _closing(self) -> "Closing":
        from otel_train.derive.scan import scan_rank
        from otel_train.derive.summary import RunSummary, summarize
        from otel_train.trackers.rows import closing_of

        scan = scan_rank(self._log)
        merged = summarize([scan])
        return closing_of(
            RunSummary(self._log.run_id, self._log.storage.location, {}, {scan.rank: scan.identity}, merged, (merged,))
        )

    def _try(self, act: Callable[..., object], *arguments: object) -> bool:
        """Have the tracker do something. Was it done? A failure is said once, and what failed is tried again later."""
        try:
            return act(*arguments) is not False
        except Exception as error:  # noqa: BLE001  another's library: a server that is away, a run that is gone
            self._not_before_s = time.monotonic() + self._every_s
            self._say_failure(error)
            return False

    def _say_failure(self, error: Exception) -> None:
        first_line = next(iter(str(error).splitlines()), "")
        guard.warn_once(
            f"{self.name} fails",
            "%s did not take measures of run %s: %s: %.200s. Training and record go on; next try in %g s",
            self._tracker.name, self._log.run_id, type(error).__name__, first_line, self._every_s,
        )  # fmt: skip


class _without_retries_on_stderr(logging.Filter):  # noqa: N801  reads as the statement that it is
    """A server that is away is said once by us; the client's notes on each try of this thread are left out."""

    LOGGERS = ("urllib3.connectionpool", "urllib3.util.retry")

    def __enter__(self) -> None:
        self._thread = threading.current_thread().name
        for name in self.LOGGERS:
            logging.getLogger(name).addFilter(self)

    def __exit__(self, *ended: object) -> None:
        for name in self.LOGGERS:
            logging.getLogger(name).removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Is it another thread's?"""
        return record.threadName != self._thread
