"""Only while a loader is tuned: what each fetch of a worker takes, computes and reads, in memory shared with the tuner.

Imported by workers under any start method, so it imports nothing but the standard library at its top. Goes with the
worker: an audit hook cannot be taken back, and so is put in place in no other process.
"""

import contextlib
import os
import stat
import sys
from collections.abc import Callable
from time import perf_counter_ns, process_time_ns
from typing import Any

WALL_NS, CPU_NS, QUEUED_NS, READ_BYTES = range(4)
FIELDS = 4
"""Of each fetch: how long, how much of it computed, how much of it waited for a CPU, bytes read; -1 is not known."""
ROWS = 512
SIZES = 64
"""Files opened in fetches, by the power of two of their size: of 2**k to 2**(k+1) - 1 bytes; empty ones with 0."""
FETCHES, FILES, FILE_BYTES, BAD_FILES = range(4)
SIZES_AT, ROWS_AT = 4, 4 + SIZES
CELLS = ROWS_AT + ROWS * FIELDS
"""Of each worker: four totals, the histogram of sizes, and the last ``ROWS`` fetches."""


class ProbedWorker:
    """The ``worker_init_fn`` of a loader that is tuned. Sent to the worker: it pickles."""

    def __init__(self, cells: Any, worker_init_fn: Callable[[int], Any] | None) -> None:
        self._cells = cells
        self._worker_init_fn = worker_init_fn

    def __call__(self, worker_id: int) -> None:
        """Runs before the worker makes its fetcher. What the user's own function raises goes on up."""
        with contextlib.suppress(ImportError, AttributeError):  # another torch's insides: fetches stay unseen
            from torch.utils.data._utils import fetch

            watch_fetchers(fetch._BaseDatasetFetcher, Probe(memoryview(self._cells).cast("B").cast("q"), worker_id))
        if self._worker_init_fn is not None:
            self._worker_init_fn(worker_id)


class Probe:
    """Writes what one worker's fetches do."""

    def __init__(self, cells: Any, worker: int) -> None:
        self._cells = cells
        self._at = worker * CELLS
        self._fetching = False

    def watched(self, fetch: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """A fetch that is written down. 30 to 60 µs of its own, which are not in the times."""

        def watched_fetch(index: Any) -> Any:
            queued, read, computed, start = (
                nanoseconds_queued(),
                characters_read(),
                process_time_ns(),
                perf_counter_ns(),
            )
            self._fetching = True
            try:
                batch = fetch(index)
            finally:
                self._fetching = False
            took, computed, read = (
                perf_counter_ns() - start,
                process_time_ns() - computed,
                _since(read, characters_read()),
            )
            self._write([took, computed, _since(queued, nanoseconds_queued()), max(read - READ_AT_ONCE, -1)])
            return batch

        return watched_fetch

    def _write(self, row: list[int]) -> None:
        count = self._cells[self._at + FETCHES]
        first = self._at + ROWS_AT + count % ROWS * FIELDS
        for place, value in enumerate(row):
            self._cells[first + place] = value
        self._cells[self._at + FETCHES] = count + 1

    def heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        """The audit hook: a file that a fetch opens to read counts with its size."""
        if event != "open" or not self._fetching:
            return
        path, flags = arguments[0], arguments[2]
        if isinstance(path, str | bytes) and not flags & (os.O_WRONLY | os.O_RDWR):
            self._count(path)

    def _count(self, path: str | bytes) -> None:
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            self._cells[self._at + BAD_FILES] += 1
            return
        if stat.S_ISREG(found.st_mode):
            self._cells[self._at + FILES] += 1
            self._cells[self._at + FILE_BYTES] += found.st_size
            self._cells[self._at + SIZES_AT + max(found.st_size.bit_length() - 1, 0)] += 1


def watch_fetchers(fetchers: Any, probe: Probe) -> None:
    """Watch each fetcher that this worker will make, and the files that it opens: for good, the process is its own."""
    make = fetchers.__init__

    def watched_init(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        self.fetch = probe.watched(self.fetch)

    fetchers.__init__ = watched_init
    sys.addaudithook(probe.heard)


def _since(before: int, now: int) -> int:
    return -1 if before < 0 or now < 0 else now - before


READ_AT_ONCE = 64
"""Of these files, which are longer or far shorter: what asking before a fetch has itself read of the first."""


def characters_read() -> int:
    """Bytes that this process had read by ``read`` and its like, from disk or cache; -1 where it is not told."""
    found = _line("/proc/self/io")
    return -1 if found is None else int(found.split()[1])


def nanoseconds_queued() -> int:
    """How long this thread was ready to run and had no CPU; -1 where the kernel does not tell."""
    found = _line("/proc/thread-self/schedstat")
    return -1 if found is None else int(found.split()[1])


def _line(path: str) -> bytes | None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        content = os.read(file, READ_AT_ONCE)
    except OSError:
        return None
    finally:
        os.close(file)
    return content if len(content.split()) > 1 and content.split()[1].isdigit() else None
