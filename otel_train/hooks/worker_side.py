"""What runs in a data loader's worker: adds up what fetching a batch takes, in memory that the training can see.

Imported by workers under any start method, so it imports nothing but the standard library at its top.
"""

import contextlib
import weakref
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

BATCHES, DATASET_NS, COLLATE_NS, LONGEST_NS = range(4)
FIELDS = 4
"""Of each worker, in an array of 64-bit numbers: batches fetched; in ns reading and preparing the samples, and putting
them together as a batch, in all; and the longest fetch."""


class TimedWorker:
    """The ``worker_init_fn`` of a loader, after which its worker times itself. Sent to the worker: it pickles."""

    def __init__(self, totals: Any, worker_init_fn: Callable[[int], Any] | None) -> None:
        self._totals = totals
        self._worker_init_fn = worker_init_fn

    def __call__(self, worker_id: int) -> None:
        """Runs before the worker makes its fetcher. What the user's own function raises goes on up."""
        with contextlib.suppress(ImportError, AttributeError):  # another torch's insides: the worker goes on untimed
            from torch.utils.data._utils import fetch

            time_fetchers(fetch._BaseDatasetFetcher, memoryview(self._totals).cast("B").cast("q"), worker_id * FIELDS)
        if self._worker_init_fn is not None:
            self._worker_init_fn(worker_id)


def time_fetchers(fetchers: Any, totals: Any, at: int) -> None:
    """Time each fetcher that this worker will make: for good, the process is the loader's."""
    make = fetchers.__init__

    def timed_init(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        time_fetcher(self, totals, at)

    fetchers.__init__ = timed_init


def time_fetcher(fetcher: Any, totals: Any, at: int) -> None:
    """Time one fetcher's fetches, into four numbers of ``totals`` from ``at`` on. About 1 µs a batch.

    The fetcher goes with its last reference, as ever: with it, a stream's generator closes its files.
    """
    if "fetch" in vars(fetcher):  # somebody else's
        return
    fetch, collate, itself = type(fetcher).fetch, fetcher.collate_fn, weakref.ref(fetcher)
    collating = [0]

    def timed_collate(data: Any) -> Any:
        start = perf_counter_ns()
        batch = collate(data)
        collating[0] += perf_counter_ns() - start
        return batch

    def timed_fetch(index: Any) -> Any:
        collating[0] = 0
        start = perf_counter_ns()
        batch = fetch(itself(), index)
        took = perf_counter_ns() - start
        totals[at + BATCHES] += 1
        totals[at + DATASET_NS] += took - collating[0]
        totals[at + COLLATE_NS] += collating[0]
        if took > totals[at + LONGEST_NS]:
            totals[at + LONGEST_NS] = took
        return batch

    fetcher.fetch, fetcher.collate_fn = timed_fetch, timed_collate
