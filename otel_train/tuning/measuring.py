"""A loader measured for a moment, with the step that takes its batches. Leaves no worker behind, whatever happens."""

import contextlib
import multiprocessing
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import fmean, median
from types import FrameType
from typing import Any, NamedTuple

from otel_train.errors import TuningError
from otel_train.hooks.worker_probe import CELLS, ProbedWorker, nanoseconds_queued
from otel_train.tuning.deadline import Overdue, deadline
from otel_train.tuning.reads import Fetched, Reads, fetches_of, reads_of

LEAST_BATCHES = 3
"""Taken at least, however slow they are, unless the loader has fewer or the time is over."""
MOST_PASSES = 1000


@dataclass
class Measured:
    """What was seen of one setting: of each batch counted the wait and the step's work, in s."""

    waits_s: list[float] = field(default_factory=list)
    works_s: list[float] = field(default_factory=list)
    taking_cpu_s: float = 0.0
    """Computing on this thread while it waited, over all batches counted."""
    taking_queued_s: float = 0.0
    """While it waited, ready without a CPU."""
    work_cpu_s: float = 0.0
    work_queued_s: float = 0.0
    """Computing in this process while it worked; ready without a CPU."""
    starts_s: list[float] = field(default_factory=list)
    """From asking for a pass to its first batch: of each pass."""
    pass_batches: int | None = None
    """Batches of a whole pass; None where none was seen to its end."""
    batch_bytes: int | None = None
    workers: int = 0
    fetches: list[list[Fetched]] = field(default_factory=list)
    """By worker; empty without workers, or where the loader is none of torch's."""
    reads: Reads | None = None
    worker_bytes: int | None = None
    """Memory that one worker has for itself; None where that is not told."""

    @property
    def batches(self) -> int:
        """How many were counted."""
        return len(self.waits_s)

    @property
    def seconds(self) -> float:
        """What the batches counted took."""
        return sum(self.waits_s) + sum(self.works_s)

    @property
    def capacity(self) -> float:
        """Batches a second that the workers can keep up: each gives its share, so the slowest one's median counts.

        The batches that were ready before the first was taken hide it from a short measurement. Which of them waits for
        a CPU longest is chance, and another one's turn next: of that the mean of all counts. Infinite if not known.
        """
        fetches = [[(each.wall_s, min(each.alone_s, each.wall_s)) for each in own] for own in self.fetches if own]
        slowest_s = max((median(alone_s for _, alone_s in own) for own in fetches), default=0.0)
        queued_s = [wall_s - alone_s for own in fetches for wall_s, alone_s in own]
        fetch_s = slowest_s + (fmean(queued_s) if queued_s else 0.0)
        return len(self.fetches) / fetch_s if fetch_s > 0 else float("inf")

    @property
    def batches_per_s(self) -> float:
        """Over the batches counted, and no more than the workers can keep up."""
        return min(self.batches / self.seconds if self.seconds else float("inf"), self.capacity)

    def merge(self, other: "Measured") -> None:
        """Add another round of the same setting."""
        self.waits_s += other.waits_s
        self.works_s += other.works_s
        self.taking_cpu_s += other.taking_cpu_s
        self.taking_queued_s += other.taking_queued_s
        self.work_cpu_s += other.work_cpu_s
        self.work_queued_s += other.work_queued_s
        self.starts_s += other.starts_s
        self.pass_batches = self.pass_batches or other.pass_batches
        self.fetches = [own + more for own, more in zip(self.fetches, other.fetches, strict=False)] or other.fetches


Step = Callable[[Any], object]


def measure(loader: Any, step: Step, workers: int, seconds: float, limit_s: float) -> Measured:
    """Take batches for about ``seconds`` from the first one on, over several passes if need be; the first ones of each
    pass do not count.

    Raises ``TuningError`` where nothing comes: no batch in a pass, none within ``limit_s``; what loader or step raise
    goes on up. Workers, the loader's ``worker_init_fn`` and ``timeout`` are as before in every case.
    """
    found = Measured(workers=workers)
    cells = _cells(loader, workers)
    before = set(multiprocessing.active_children())
    try:
        with deadline(limit_s), _probed(loader, cells, workers, limit_s):
            _passes(loader, step, found, seconds, before)
    except Overdue as overdue:
        _end(loader, before, at_once=True)
        traceback.clear_frames(overdue.__traceback__)  # they hold the loader's iterator
        raise TuningError(f"no end after {limit_s:.3g} s with num_workers={workers}: {_so_far(found)}") from None
    except Exception as error:  # BLE001  whatever it is, its frames hold the loader's iterator, with the workers
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        _end(loader, before)
    if cells is not None:
        told = list(cells)
        found.fetches, found.reads = fetches_of(told, workers), reads_of(told, workers)
    return found


def _so_far(found: Measured) -> str:
    return f"{found.batches} batches had come" if found.starts_s else "not one batch had come"


def _passes(loader: Any, step: Step, found: Measured, seconds: float, before: set[BaseProcess]) -> None:
    asked = time.perf_counter()
    for _ in range(MOST_PASSES):
        counted = _pass(loader, step, found, asked + seconds, before)
        if counted == 0 and not found.batches:
            raise TuningError("the loader has no batch: its data set is empty, or shorter than a batch with drop_last")
        over = time.perf_counter() >= asked + found.starts_s[0] + seconds
        if over and found.batches >= min(LEAST_BATCHES, found.pass_batches or LEAST_BATCHES):
            return


def least_batches(workers: int) -> int:
    """A pass is not left before so many were taken: some to count, beside those that the start of the workers is in."""
    return LEAST_BATCHES + 2 * workers


def _pass(loader: Any, step: Step, found: Measured, until: float, before: set[BaseProcess]) -> int:
    """One pass over the loader, or its part until the time is over, which what the first pass took to its first batch
    is no part of. Returns the batches that it gave."""
    rows = []
    asked = time.perf_counter()
    batches = iter(loader)
    for row in _rows(batches, step, asked):
        rows.append(row)
        if len(rows) == 1:
            found.starts_s.append(row.wait_s)
        if found.worker_bytes is None and len(rows) > found.workers:
            found.worker_bytes = _own_bytes(set(multiprocessing.active_children()) - before)
        if time.perf_counter() >= until + found.starts_s[0] and len(rows) >= least_batches(found.workers):
            break
    else:
        found.pass_batches = len(rows)
    if batches is not getattr(loader, "_iterator", None):  # a loader keeps persistent workers for the next pass
        _shut_down(batches)
    if rows and found.batch_bytes is None:
        found.batch_bytes = rows[0].batch_bytes
    for row in counted(rows, found.workers, getattr(loader, "prefetch_factor", None) or 1):
        found.waits_s.append(row.wait_s)
        found.works_s.append(row.work_s)
        found.taking_cpu_s += row.taking_cpu_s
        found.taking_queued_s += row.taking_queued_s
        found.work_cpu_s += row.work_cpu_s
        found.work_queued_s += row.work_queued_s
    return len(rows)


class Row(NamedTuple):
    """One batch: wait and work; this thread's computing and queueing in each, the whole process's computing at work."""

    wait_s: float
    work_s: float
    taking_cpu_s: float
    taking_queued_s: float
    work_cpu_s: float
    work_queued_s: float
    batch_bytes: int | None


def _rows(batches: Iterator[Any], step: Step, asked: float) -> Iterator[Row]:
    """Take batch after batch; the first wait began when the pass was ``asked`` for."""
    batch_bytes, first = None, True
    while True:
        thread_cpu, queued = time.thread_time(), nanoseconds_queued()
        asked = asked if first else time.perf_counter()
        try:
            batch = next(batches)
        except StopIteration:
            return
        came, taking_cpu, ready = time.perf_counter(), time.thread_time() - thread_cpu, nanoseconds_queued()
        batch_bytes = size_of(batch) if first else batch_bytes
        cpu, began = time.process_time(), time.perf_counter()
        step(batch)
        del batch
        ended, cpu = time.perf_counter(), time.process_time() - cpu
        work_queued = (nanoseconds_queued() - ready) / 1e9
        yield Row(came - asked, ended - began, taking_cpu, (ready - queued) / 1e9, cpu, work_queued, batch_bytes)
        first = False


def counted(rows: list[Row], workers: int, ahead: int = 1) -> list[Row]:
    """Without those taken while the queue filled, when workers let nothing else have a CPU: as many as it holds, but at
    most half, and at least the first of each worker, which its start is in. In whole rounds of the workers, since those
    that began together finish together. Where that leaves nothing, all of them; without workers, all but the first."""
    each = max(workers, 1)
    first = max(each, min(each * ahead, len(rows) // 2))
    rounds = (len(rows) - first) // each
    return rows[first : first + rounds * each] if rounds > 0 else rows


@contextlib.contextmanager
def _probed(loader: Any, cells: Any, workers: int, limit_s: float) -> Iterator[None]:
    """The loader's workers watched, and its own waiting bounded on every thread."""
    if cells is None:
        yield
        return
    users, timeout = loader.worker_init_fn, loader.timeout
    loader.worker_init_fn = ProbedWorker(cells, users)
    loader.timeout = timeout or limit_s
    try:
        yield
    finally:
        loader.worker_init_fn, loader.timeout = users, timeout


def _cells(loader: Any, workers: int) -> Any:
    """Shared with the workers; None where there are none, or the loader is none of torch's."""
    if not workers or not hasattr(loader, "worker_init_fn") or not hasattr(loader, "timeout"):
        return None
    context = getattr(loader, "multiprocessing_context", None) or multiprocessing
    return context.RawArray("q", workers * CELLS)


def _end(loader: Any, before: set[BaseProcess], at_once: bool = False) -> None:
    """End the workers that are still there: a loader keeps persistent ones, and one that hangs keeps all."""
    kept = getattr(loader, "_iterator", None)
    if not at_once and _shut_down(kept):
        loader._iterator = None
    for process in set(multiprocessing.active_children()) - before:
        _kill(process)


def _shut_down(batches: Any) -> bool:
    """End a pass's workers; was it one of torch's?

    Where one dies of a signal as it ends, torch's handler raises in the middle of this, and a thread is left: what it
    raises is not heard meanwhile, and what the user's own handler does goes on.
    """
    if not hasattr(batches, "_shutdown_workers"):
        return False
    handler = signal.getsignal(signal.SIGCHLD)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        batches._shutdown_workers()
        return True

    def unheard(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(RuntimeError):
            handler(number, frame)

    signal.signal(signal.SIGCHLD, unheard)
    try:
        batches._shutdown_workers()
    finally:
        signal.signal(signal.SIGCHLD, handler)
    return True


def _kill(process: BaseProcess) -> None:
    """torch raises, in this thread, when it hears of a worker that was killed: that is what we have just done."""
    for _ in range(KILLED_TIMES):
        with contextlib.suppress(RuntimeError):
            process.kill()
            process.join(2)
            return


KILLED_TIMES = 5


def _own_bytes(processes: set[BaseProcess]) -> int | None:
    """The mean of what each has written into pages of its own; None where none tells."""
    known = [found for process in processes if (found := _private_bytes(process.pid)) is not None]
    return sum(known) // len(known) if known else None


def _private_bytes(pid: int | None) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_Dirty:")]
    return found[0] if found else None


DEEPEST = 8


def size_of(batch: Any, depth: int = 0) -> int | None:
    """Bytes of the tensors and arrays in a batch; None where there is none that tells."""
    if isinstance(getattr(batch, "nbytes", None), int):
        return int(batch.nbytes)
    parts = batch.values() if isinstance(batch, dict) else batch if isinstance(batch, list | tuple) else ()
    known = [size for part in parts if depth < DEEPEST and (size := size_of(part, depth + 1)) is not None]
    return sum(known) if known else None
