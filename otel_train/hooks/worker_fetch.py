"""Why a batch is late: what its workers, or the training itself, take to read samples and to put them together."""

import multiprocessing
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

from otel_train import active, guard
from otel_train.hooks.data_loader import iteration_of
from otel_train.hooks.patching import all_of, replace
from otel_train.hooks.worker_side import BATCHES, COLLATE_NS, DATASET_NS, FIELDS, LONGEST_NS, TimedWorker, time_fetcher
from otel_train.names import (
    DATA_LOADER,
    DATA_LOADER_START,
    LOADER_BATCH_SIZE,
    LOADER_BATCHES,
    LOADER_COLLATE_TIME,
    LOADER_DATASET,
    LOADER_DATASET_TIME,
    LOADER_LONGEST,
    LOADER_PIN_MEMORY,
    LOADER_PREFETCH,
    LOADER_SLOWEST,
    LOADER_START_METHOD,
    LOADER_TRAINS,
    LOADER_WORKER_BATCHES,
    LOADER_WORKER_TIME,
    LOADER_WORKERS,
)
from otel_train.recorder.scopes import phase
from otel_train.recorder.signals import signals
from otel_train.runlog.events import Event

SINGLE = ("_SingleProcessDataLoaderIter", "_StatefulSingleProcessDataLoaderIter")
SEVERAL = ("_MultiProcessingDataLoaderIter", "_StatefulMultiProcessingDataLoaderIter")


class _Pass:
    """What one iterator's workers have told so far, and what is written of it already."""

    def __init__(self, iterator: Any, loader: Any, totals: Any, workers: int) -> None:
        self.iterator = weakref.ref(iterator)
        self._iteration = iteration_of(iterator)
        self._totals = totals
        self._workers = workers
        self._told = [0] * len(totals)
        self._described = _describe(loader, workers)

    def event(self, now_ns: int) -> Event | None:
        """What was fetched since the last time; None where nothing was."""
        totals = list(self._totals)
        news = [total - told for total, told in zip(totals, self._told, strict=True)]
        batches = sum(news[BATCHES::FIELDS])
        if not batches:
            return None
        self._told = totals
        counts = news[BATCHES::FIELDS]
        spent = [sum(each) for each in zip(news[DATASET_NS::FIELDS], news[COLLATE_NS::FIELDS], strict=True)]
        means = [time_ns / count for time_ns, count in zip(spent, counts, strict=True) if count]
        each = {LOADER_WORKER_BATCHES: counts, LOADER_WORKER_TIME: [time_ns / 1e9 for time_ns in spent]}
        attributes = {
            **self._described,
            LOADER_TRAINS: self._iteration.trains,
            LOADER_BATCHES: batches,
            LOADER_DATASET_TIME: sum(news[DATASET_NS::FIELDS]) / 1e9,
            LOADER_COLLATE_TIME: sum(news[COLLATE_NS::FIELDS]) / 1e9,
            LOADER_SLOWEST: max(means) / 1e9,
            LOADER_LONGEST: max(totals[LONGEST_NS::FIELDS]) / 1e9,
            **(each if self._workers else {}),
        }
        return Event(DATA_LOADER, now_ns, attributes=attributes)


def _describe(loader: Any, workers: int) -> dict[str, Any]:
    context = loader.multiprocessing_context or multiprocessing
    method = context.get_start_method(allow_none=True) if workers else None
    described = {
        LOADER_DATASET: type(loader.dataset).__qualname__,
        LOADER_WORKERS: workers,
        LOADER_PREFETCH: loader.prefetch_factor,
        LOADER_BATCH_SIZE: loader.batch_size,
        LOADER_PIN_MEMORY: bool(loader.pin_memory),
        LOADER_START_METHOD: method,
    }
    return {key: value for key, value in described.items() if value is not None}


class _Passes:
    """The iterators of this process, until they are gone and told of."""

    def __init__(self) -> None:
        self._passes: list[_Pass] = []

    def add(self, iterator: Any, loader: Any, totals: Any, workers: int) -> None:
        """From now on it is told of. Those that are gone are forgotten where no run would hear of them."""
        if active.recorder is None:
            self._passes[:] = [each for each in self._passes if each.iterator() is not None]
        self._passes.append(_Pass(iterator, loader, totals, workers))

    def report(self) -> None:
        """Write an event for each that has fetched since; every 30 s on the keeper's thread, and at the end."""
        recorder = active.recorder
        for each in list(self._passes):
            gone = each.iterator() is None
            event = each.event(recorder.clock()) if recorder is not None else None
            if recorder is not None and event is not None:
                recorder.sidelines.event(event)
            if gone:
                self._passes.remove(each)


def install(module: ModuleType) -> Callable[[], None]:
    """Time the fetches of every loader (``torch.utils.data.dataloader``, or torchdata's); returns the undo."""
    passes = _Passes()
    undo = [_around_single(module.__dict__[name], passes) for name in SINGLE if name in module.__dict__]
    undo += [_around_several(module.__dict__[name], passes) for name in SEVERAL if name in module.__dict__]
    signals.reports.append(passes.report)
    return all_of([lambda: signals.reports.remove(passes.report), *undo])


def _around_single(iterators: Any, passes: _Passes) -> Callable[[], None]:
    make = iterators.__init__

    def timed_init(self: Any, loader: Any, *args: Any, **kwargs: Any) -> None:
        make(self, loader, *args, **kwargs)
        with guard.guarded("fetch times"):
            totals = [0] * FIELDS
            time_fetcher(self._dataset_fetcher, totals, 0)
            passes.add(self, loader, totals, 0)

    return replace(iterators, "__init__", timed_init)


def _around_several(iterators: Any, passes: _Passes) -> Callable[[], None]:
    """The workers get the loader's ``worker_init_fn`` in one of ours, which the loader has only for that moment."""
    make, starting = iterators.__init__, phase(DATA_LOADER_START)

    def timed_init(self: Any, loader: Any, *args: Any, **kwargs: Any) -> None:
        users, totals = loader.worker_init_fn, None
        with guard.guarded("fetch times"):
            totals = _shared(loader)
            loader.worker_init_fn = TimedWorker(totals, users)
        try:
            with starting:
                make(self, loader, *args, **kwargs)
        finally:
            loader.worker_init_fn = users
        if totals is not None:
            with guard.guarded("fetch times"):
                passes.add(self, loader, totals, loader.num_workers)

    return replace(iterators, "__init__", timed_init)


def _shared(loader: Any) -> Any:
    """Numbers that the workers write and this process reads."""
    context = loader.multiprocessing_context or multiprocessing
    return context.RawArray("q", loader.num_workers * FIELDS)
