"""Some processes or threads that call a function on items until they are told to stop, and count."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from otel_train.errors import TuningError

COUNT, BEGAN_NS, LAST_NS = range(3)
FIELDS = 3
"""Of each worker: items done; when it began its first and when its last was done, on its own monotonic clock."""

PATIENCE_S = 2.0
"""So long a worker has for its last item, before it is killed."""

FAILURE_BYTES = 300


class Crew:
    """Calls ``function`` on ``items``, each worker on every so many-th, again from the beginning at their end."""

    kind = ""

    def __init__(self, function: Callable[[Any], object], items: Sequence[Any], context: Any) -> None:
        self._function = function
        self._items = items
        self._context = context

    def items_per_s(self, workers: int, seconds: float, limit_s: float) -> float:
        """Measure for ``seconds``, or until each worker has done an item, at most ``limit_s``.

        The sum of the workers' own rates, each to the end of its last item, so that those under way are no loss.
        Raises ``TuningError`` where the function does, or a worker dies, or none has done an item within the limit.
        """
        shared = self._shared(workers)
        crew = [self._start(worker, workers, shared) for worker in range(workers)]
        try:
            self._wait(crew, shared, seconds, limit_s)
        finally:
            shared.stop.set()
            for each in crew:
                self._end(each)
        totals = [shared.cells[at : at + FIELDS] for at in range(0, workers * FIELDS, FIELDS)]
        rates = [total[COUNT] / (total[LAST_NS] - total[BEGAN_NS]) * 1e9 for total in totals if total[COUNT]]
        if not rates:
            raise TuningError(f"{workers} {self.kind} did not one item within {limit_s:.3g} s")
        return float(sum(rates))

    def _wait(self, crew: list[Any], shared: "Shared", seconds: float, limit_s: float) -> None:
        began = time.perf_counter()
        until = None
        while time.perf_counter() - began < limit_s:
            shared.failed.wait(min(seconds, limit_s) / 20)
            if shared.failed.is_set():
                raise TuningError(
                    f"the function raised {bytes(shared.failure).rstrip(bytes(1)).decode(errors='replace')}"
                )
            if any(not each.is_alive() for each in crew):
                raise TuningError(f"one of {len(crew)} {self.kind} died: it was killed, or could not be started")
            if until is None and all(shared.cells[BEGAN_NS::FIELDS]):
                until = time.perf_counter() + seconds
            if until is not None and time.perf_counter() >= until and all(shared.cells[COUNT::FIELDS]):
                return

    def _shared(self, workers: int) -> "Shared":
        raise NotImplementedError

    def _start(self, worker: int, workers: int, shared: "Shared") -> Any:
        raise NotImplementedError

    def _end(self, each: Any) -> None:
        raise NotImplementedError


class Shared:
    """What workers and the measuring share: cells of numbers, a sign to stop, and what failed."""

    def __init__(self, cells: Any, failure: Any, stop: Any, failed: Any, ready: Any) -> None:
        self.cells = cells
        self.failure = failure
        self.stop = stop
        self.failed = failed
        self.ready = ready


class Processes(Crew):
    """Each worker is a process; one that does not end is killed."""

    kind = "processes"

    def _shared(self, workers: int) -> Shared:
        own = self._context
        cells, failure = own.RawArray("q", workers * FIELDS), own.RawArray("B", FAILURE_BYTES)
        return Shared(cells, failure, own.Event(), own.Event(), own.Barrier(workers))

    def _start(self, worker: int, workers: int, shared: Shared) -> Any:
        arguments = (self._function, self._items, worker, workers, shared)
        process = self._context.Process(target=work, args=arguments, daemon=False)
        process.start()
        return process

    def _end(self, each: Any) -> None:
        each.join(PATIENCE_S)
        if each.is_alive():
            each.kill()
            each.join()
        each.close()


class Threads(Crew):
    """Each worker is a thread."""

    kind = "threads"

    def _shared(self, workers: int) -> Shared:
        stop, failed = threading.Event(), threading.Event()
        return Shared([0] * workers * FIELDS, bytearray(FAILURE_BYTES), stop, failed, threading.Barrier(workers))

    def _start(self, worker: int, workers: int, shared: Shared) -> Any:
        arguments = (self._function, self._items, worker, workers, shared)
        thread = threading.Thread(target=work, args=arguments, name="otel_train.tune_workers", daemon=True)
        thread.start()
        return thread

    def _end(self, each: Any) -> None:
        each.join(PATIENCE_S)


CREWS: dict[str, type[Crew]] = {crew.kind: crew for crew in (Processes, Threads)}


def work(function: Callable[[Any], object], items: Sequence[Any], worker: int, workers: int, shared: Shared) -> None:
    """What a worker does. All begin together, so that no one has the CPUs to itself."""
    at = worker * FIELDS
    try:
        shared.ready.wait()
        shared.cells[at + BEGAN_NS] = time.perf_counter_ns()
        place = worker
        while not shared.stop.is_set():
            function(items[place % len(items)])
            shared.cells[at + LAST_NS] = time.perf_counter_ns()
            shared.cells[at + COUNT] += 1
            place += workers
    except Exception as error:  # noqa: BLE001  told to the one who measures, who raises
        _tell(shared, error)
        shared.stop.wait()  # while it is told: a worker that is gone is taken for one that was killed


def _tell(shared: Shared, error: Exception) -> None:
    told = f"{type(error).__name__}: {error}".encode()[:FAILURE_BYTES]
    shared.failure[: len(told)] = told
    shared.failed.set()
