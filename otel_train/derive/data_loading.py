"""Why the training waits for data: what a batch takes to fetch, and how many workers work on it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import zip_longest

from otel_train import names
from otel_train.runlog.events import Event

SLOWEST = 3


@dataclass(frozen=True)
class SlowWorker:
    """One worker: its number, the batches that it fetched, and their mean time in s."""

    worker: int
    batches: int
    fetch_s: float


@dataclass
class DataLoading:
    """The loaders that feed the training (all loaders, where none is known to), over the run. Times in s."""

    batches: int = 0
    dataset_s: float = 0.0
    """Reading and preparing samples, over all workers."""
    collate_s: float = 0.0
    """Putting them together as batches."""
    slowest_s: float = 0.0
    """The mean fetch of the slowest worker."""
    longest_s: float = 0.0
    workers: int | None = None
    """Of the loader that fetched last."""
    dataset: str | None = None
    prefetch: int | None = None
    """Batches that each worker may fetch ahead."""
    worker_batches: list[int] = field(default_factory=list)
    worker_s: list[float] = field(default_factory=list)
    """By worker, in the order of their numbers: batches fetched, and the time that took. Empty where not told."""
    pin_memory: bool | None = None
    batch_size: int | None = None
    """The loader's settings, as they were last; None where it has none."""

    def add(self, event: Event) -> None:
        """Add an event of kind ``data_loader``."""
        told = event.attributes
        self.batches += int(told.get(names.LOADER_BATCHES, 0))
        self.dataset_s += float(told.get(names.LOADER_DATASET_TIME, 0.0))
        self.collate_s += float(told.get(names.LOADER_COLLATE_TIME, 0.0))
        self.slowest_s = max(self.slowest_s, float(told.get(names.LOADER_SLOWEST, 0.0)))
        self.longest_s = max(self.longest_s, float(told.get(names.LOADER_LONGEST, 0.0)))
        self.workers = told.get(names.LOADER_WORKERS, self.workers)
        self.dataset = told.get(names.LOADER_DATASET, self.dataset)
        self.prefetch = told.get(names.LOADER_PREFETCH, self.prefetch)
        self._add_workers(told.get(names.LOADER_WORKER_BATCHES, []), told.get(names.LOADER_WORKER_TIME, []))
        self.pin_memory = told.get(names.LOADER_PIN_MEMORY, self.pin_memory)
        self.batch_size = told.get(names.LOADER_BATCH_SIZE, self.batch_size)

    def merge(self, other: "DataLoading") -> None:
        """Add another rank's."""
        self.batches += other.batches
        self.dataset_s += other.dataset_s
        self.collate_s += other.collate_s
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        self.longest_s = max(self.longest_s, other.longest_s)
        self.workers = self.workers if other.workers is None else other.workers
        self.dataset = self.dataset or other.dataset
        self.prefetch = self.prefetch if other.prefetch is None else other.prefetch
        self.pin_memory = other.pin_memory if self.pin_memory is None else self.pin_memory
        self.batch_size = self.batch_size or other.batch_size
        self._add_workers(other.worker_batches, other.worker_s)

    def _add_workers(self, batches: list[int], times_s: list[float]) -> None:
        """Those of one number together: a loader's workers are started again for each pass."""
        self.worker_batches = [sum(each) for each in zip_longest(self.worker_batches, batches, fillvalue=0)]
        self.worker_s = [sum(each) for each in zip_longest(self.worker_s, times_s, fillvalue=0.0)]

    @property
    def slowest_workers(self) -> list[SlowWorker]:
        """The workers whose mean fetch takes longest, at most ``SLOWEST``, the slowest first; of those that fetched."""
        fetched = [
            SlowWorker(number, batches, spent_s / batches)
            for number, (batches, spent_s) in enumerate(zip(self.worker_batches, self.worker_s, strict=True))
            if batches
        ]
        return sorted(fetched, key=lambda worker: -worker.fetch_s)[:SLOWEST]

    @property
    def imbalance(self) -> float | None:
        """The slowest worker's mean fetch over the median worker's; None with less than two that fetched."""
        means = sorted(spent / count for count, spent in zip(self.worker_batches, self.worker_s, strict=True) if count)
        middle = means[len(means) // 2 - 1 + len(means) % 2] if means else 0.0
        return means[-1] / middle if len(means) > 1 and middle else None

    @property
    def capacity(self) -> int | None:
        """How many batches the workers may have ready; None without workers, or where it is not known."""
        return self.workers * self.prefetch if self.workers and self.prefetch else None

    @property
    def fetch_s(self) -> float | None:
        """What one batch takes to fetch; None without one."""
        return (self.dataset_s + self.collate_s) / self.batches if self.batches else None

    def enough_workers(self, step_s: float) -> int | None:
        """So many workers have a batch ready each ``step_s`` seconds: the step without its wait."""
        return math.ceil(self.fetch_s / step_s) if self.fetch_s and step_s > 0 else None


def merged_loading(ranks: Iterable[DataLoading]) -> DataLoading | None:
    """All ranks as one; None where no batch was timed."""
    total = DataLoading()
    for each in ranks:
        total.merge(each)
    return total if total.batches else None


KEEPING_UP = 0.9
"""Workers that fetch a batch in less than this part of a step's own time are enough: the wait has another cause."""

DOMINANT = 0.6

RARE = 8
"""A longest fetch of so many times the mean is one of few that are slow."""


def reason(loading: DataLoading, work_s: float) -> str:
    """Why batches are late, and what would help; ``work_s`` is what a batch is worked on."""
    fetch_s, workers = loading.fetch_s or 0.0, loading.workers or 0
    dataset, collate = _ms(loading.dataset_s / loading.batches), _ms(loading.collate_s / loading.batches)
    parts = f"{dataset} in the dataset, {collate} in collate"
    slow = "collate_fn" if loading.collate_s > DOMINANT * (loading.dataset_s + loading.collate_s) else "the dataset"
    enough = loading.enough_workers(work_s)
    help_ = f"Make {slow} faster: no number of workers would keep up."
    if enough and enough <= MOST_ADVISED:
        help_ = f"{_workers(enough)} would keep up, or make {slow} faster."
    if not workers:
        return f"The training fetches its batches itself (num_workers=0), {_ms(fetch_s)} each: {parts}. {help_}"
    if fetch_s / workers < KEEPING_UP * work_s:
        if loading.longest_s > RARE * fetch_s:
            return (
                f"{_workers(workers)} fetch a batch in {_ms(fetch_s)} on average ({parts}), but single ones take up to "
                f"{_ms(loading.longest_s)} and hold up the others. Look for slow samples, or raise prefetch_factor."
            )
        return (
            f"{_workers(workers)} have a batch every {_ms(fetch_s / workers)} ({parts}), which is fast enough: handing "
            "it over takes the time. Look at pin_memory, the size of a batch, persistent_workers."
        )
    return f"A batch takes {_ms(fetch_s)} to fetch ({parts}), on {_workers(workers)}. {help_}"


MOST_ADVISED = 256


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


def _ms(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
