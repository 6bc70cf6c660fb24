"""Which steps become traces: one in N, the slow, failed and profiled ones, those with spans of the application in them.

Decided from the records alone, so that an export that goes on in another process decides the same. Everything is in
terms of a record's ordinal in the log, except the one number ``last_slot``, which the export's cursor carries.
"""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from otel_train.runlog.layout import CHILD_SPANS, EVALUATION, FAILED, PROFILED
from otel_train.runlog.records import Records

Column: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Mask: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

WINDOW = 128
"""The recent median is that of the training steps among so many records …"""
BLOCK = 16
"""… before a block of so many, whose ordinals begin at a multiple of it."""
ENOUGH = 8
"""With fewer training steps in the window there is no median, and no step is slow."""
HISTORY = WINDOW + BLOCK
"""Records before the first one to decide on that ``Keeping.recall`` needs."""

AUTO_NS = 5_000_000_000
"""``keep_every="auto"``: about one step in this time."""
SLOT_NS = 6_000_000_000
"""At most one slow step is kept in such a time, ten a minute."""

SAMPLED, SLOW, FAILED_REASON, PROFILED_REASON, CHILD_REASON = "sampled", "slow", "failed", "profiled", "child_spans"

_NONE = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Decision:
    """Which records of a chunk are kept (indices into it, ascending), why, and which slow ones the limit left out."""

    kept: list[int]
    reasons: list[str]
    suppressed: Column
    slots: list[int]
    """``Keeping.last_slot`` as of each kept record."""


@dataclass
class Keeping:
    """Decides chunk by chunk, in the log's order. ``keep_every`` is a number of steps or ``auto``."""

    keep_every: int | str = "auto"
    slow_factor: float = 2.0
    last_slot: int = -1
    """The slot of time in which the last slow step was kept."""
    origin_ns: int = 0
    """Where slots begin, on the records' clock."""
    _recent: Column = field(default_factory=lambda: np.full(HISTORY, _NONE))

    def recall(self, records: Records) -> None:
        """Take in records before those to decide on: the last ``HISTORY`` of them count."""
        self._remember(_training_durations(records))

    def decide(self, first: int, records: Records) -> Decision:
        """Decide on the records from ordinal ``first`` on; the next call goes on after them. 0.2 µs a record."""
        durations, flags = _training_durations(records), records["flags"]
        medians = self._medians(first, durations)
        own = np.where(medians > 0, medians, records["duration_ns"])
        slow = (durations != _NONE) & (medians > 0) & (durations > medians * self.slow_factor)
        sampled = self._sampled(records["step"], own)
        failed, profiled, child = (flags & FAILED) != 0, (flags & PROFILED) != 0, (flags & CHILD_SPANS) != 0
        rather = slow & ~(sampled | failed | profiled | child)
        allowed, slots = self._limit(rather, records)
        self._remember(durations)
        kept = np.flatnonzero(sampled | failed | profiled | child | allowed)
        reasons = np.select(
            [failed[kept], profiled[kept], slow[kept], child[kept]],
            [FAILED_REASON, PROFILED_REASON, SLOW, CHILD_REASON],
            default=SAMPLED,
        )
        return Decision(kept.tolist(), reasons.tolist(), np.flatnonzero(rather & ~allowed), slots[kept].tolist())

    def _medians(self, first: int, durations: Column) -> Column:
        """For each record the median duration in ns of the training steps before its block; 0 where there is none."""
        into_block = first % BLOCK
        lead = self._recent[len(self._recent) - WINDOW - into_block :]
        every = np.concatenate([lead, durations])
        windows = np.lib.stride_tricks.sliding_window_view(every, WINDOW)[: into_block + len(durations) : BLOCK]
        ordered = np.sort(windows, axis=1)
        known = np.count_nonzero(ordered != _NONE, axis=1)
        middle = ordered[np.arange(len(ordered)), np.maximum(known - 1, 0) // 2]
        medians = np.where(known >= ENOUGH, middle, 0)
        return np.repeat(medians, BLOCK)[into_block : into_block + len(durations)]

    def _sampled(self, numbers: Column, durations: Column) -> Mask:
        if self.keep_every != "auto":
            by_number: Mask = numbers % int(self.keep_every) == 0
            return by_number
        # A power of two: ranks that see other medians for a while still share the coarser steps.
        doublings = np.ceil(np.log2(AUTO_NS / np.maximum(durations, 1)))
        every = np.left_shift(1, np.clip(doublings, 0, 62).astype(np.int64))
        sampled: Mask = numbers & (every - 1) == 0
        return sampled

    def _limit(self, wanted: Mask, records: Records) -> tuple[Mask, Column]:
        """The first of each slot of time, and the last slot used as of each record."""
        chosen = np.flatnonzero(wanted)
        ends = records["start_ns"][chosen] + records["duration_ns"][chosen]
        slots, firsts = np.unique((ends - self.origin_ns) // SLOT_NS, return_index=True)
        fresh = slots > self.last_slot
        allowed = np.zeros(len(records), bool)
        allowed[chosen[firsts[fresh]]] = True
        used = np.full(len(records), self.last_slot)
        used[chosen[firsts[fresh]]] = slots[fresh]
        used = np.maximum.accumulate(used)
        self.last_slot = int(used[-1]) if len(used) else self.last_slot
        return allowed, used

    def _remember(self, durations: Column) -> None:
        self._recent = np.concatenate([self._recent, durations])[-HISTORY:]


def _training_durations(records: Records) -> Column:
    return np.where((records["flags"] & EVALUATION) != 0, _NONE, records["duration_ns"])
