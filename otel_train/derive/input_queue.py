"""How many batches the loader had ready when a step asked for its own: does the input keep ahead of the training?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from otel_train.derive.data_loading import DataLoading
from otel_train.runlog.records import Records

Column: TypeAlias = np.ndarray[Any, np.dtype[Any]]

STATES = 256


@dataclass
class QueueCounts:
    """Training steps by what their records have as ``queue``: one more than the batches ready, 0 where not known."""

    counts: Column = field(default_factory=lambda: np.zeros(STATES, np.int64))

    def add(self, records: Records) -> None:
        """Add a segment's."""
        self.counts += np.bincount(records["queue"], minlength=STATES)

    @property
    def ready(self) -> Column:
        """Steps by the batches that were ready, of those where it is known."""
        ready: Column = self.counts[1:]
        return ready


@dataclass(frozen=True)
class QueueStates:
    """The steps where it is known, of loaders with workers. ``full`` is as many batches as the workers may fetch
    ahead: workers times prefetch factor."""

    steps: int
    mean: float
    """Batches ready."""
    empty_steps: int
    empty_share: float
    full_steps: int | None
    full_share: float | None
    """None where it is not known how many the workers may fetch ahead."""
    capacity: int | None
    """Of the first rank that knows."""
    counts: list[int]
    """Steps by the batches ready: 0, 1, …; the last of 254 stands for more, too."""


def queue_states(ranks: Sequence[tuple[QueueCounts, DataLoading]]) -> QueueStates | None:
    """The steps of all ranks; None where no loader told."""
    ready = np.sum([counts.ready for counts, _ in ranks], axis=0)
    steps = int(ready.sum())
    if not steps:
        return None
    told = [(counts, loading.capacity) for counts, loading in ranks if counts.ready.any()]
    known = all(capacity is not None for _, capacity in told)
    full = sum(int(counts.ready[capacity or 0 :].sum()) for counts, capacity in told) if known else None
    used = int(np.flatnonzero(ready)[-1]) + 1
    return QueueStates(
        steps,
        float(ready @ np.arange(len(ready)) / steps),
        int(ready[0]),
        int(ready[0]) / steps,
        full,
        full / steps if full is not None else None,
        _first(capacity for _, capacity in told),
        ready[:used].tolist(),
    )


def _first(values: Iterable[int | None]) -> int | None:
    return next((value for value in values if value is not None), None)
