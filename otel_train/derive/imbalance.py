"""How long the faster ranks wait for the slowest, from the steps that all ranks recorded under the same number.

Ranks that train together meet in each step: where gradients are reduced (at the end of ``backward``) and in
collectives. Who comes early waits there, so of one step the rank that spends least in these phases came last, and what
the others spend more than that is waiting. That the ranks' own work in these phases is equally long is assumed; where
the slow rank is slow in ``backward`` too, the waiting is told too small, never too large.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from otel_train import names
from otel_train.derive.phases import phase_id, used_slots
from otel_train.derive.steps import Column
from otel_train.runlog.layout import EVALUATION
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.records import Records

MEETING = (names.BACKWARD, names.COLLECTIVE)
"""The phases in which ranks wait for each other."""


@dataclass(frozen=True)
class Imbalance:
    """Waiting of ranks for each other, over the steps that all of them recorded."""

    waits_s: dict[int, float]
    """By rank, s a step: what it waits for the last one, the mean of the steps."""
    last: dict[int, float]
    """By rank, the part of the steps in which it came last."""
    steps: int
    """How many steps were compared."""
    on_gpu: bool
    """Whether these are times on the GPU, of the steps timed there; else of the host."""

    @property
    def mean_s(self) -> float:
        """The mean wait a step and rank."""
        return sum(self.waits_s.values()) / len(self.waits_s)

    @property
    def last_rank(self) -> int:
        """The rank that the others wait for most often."""
        return max(self.last, key=lambda rank: self.last[rank])


@dataclass(frozen=True)
class Meetings:
    """Of one rank's steps the numbers, and how long each spent where ranks wait for each other, in ns."""

    rank: int
    steps: Column
    times_ns: Column


def imbalance(logs: Sequence[RankLog], skips: Sequence[int]) -> Imbalance | None:
    """Compare the ranks, each without its first ``skips`` steps; None for one, or where they share no such step.

    Times on the GPU are taken where every rank has them. Reads all steps once: about 0.2 µs a step.
    """
    if len(logs) < 2:
        return None
    timed = [gpu_meetings(log) for log in logs]
    on_gpu = all(len(each.steps) for each in timed)
    found = timed if on_gpu else [host_meetings(log) for log in logs]
    after = [each if on_gpu else _without(each, skip) for each, skip in zip(found, skips, strict=True)]
    return compare(after, on_gpu)


def compare(ranks: Sequence[Meetings], on_gpu: bool = False) -> Imbalance | None:
    """The imbalance of some ranks' steps; None where they share none, or no rank spent time in such a phase."""
    shared = ranks[0].steps
    for each in ranks[1:]:
        shared = np.intersect1d(shared, each.steps)
    if not len(shared):
        return None
    times = np.stack([_at(each, shared) for each in ranks])
    if not times.any():
        return None
    waits = (times - times.min(axis=0)).mean(axis=1) / 1e9
    last = np.bincount(times.argmin(axis=0), minlength=len(ranks)) / len(shared)
    return Imbalance(
        {each.rank: float(wait) for each, wait in zip(ranks, waits, strict=True)},
        {each.rank: float(part) for each, part in zip(ranks, last, strict=True)},
        len(shared),
        on_gpu,
    )


def host_meetings(log: RankLog) -> Meetings:
    """A rank's training steps by the host's clock."""
    table, numbers, times = log.names("phase"), [], []
    backward, collective = (phase_id(table, name) for name in MEETING)
    for _, records in log.steps.read():
        training = records[(records["flags"] & EVALUATION) == 0]
        numbers.append(training["step"])
        times.append(meeting_ns(training, backward, collective))
    return _meetings(log.rank, numbers, times)


def gpu_meetings(log: RankLog) -> Meetings:
    """A rank's timed steps by the GPU's clock."""
    table, numbers, times = log.names("phase"), [], []
    wanted = [identity for name in MEETING if (identity := phase_id(table, name)) is not None]
    for _, records in log.gpu.read():
        phases = records["phases"]
        used = records["phase_count"][:, None] > np.arange(phases.shape[1])
        numbers.append(records["step"])
        times.append((phases["duration_ns"] * (used & np.isin(phases["phase"], wanted))).sum(axis=1))
    return _meetings(log.rank, numbers, times)


def meeting_ns(records: Records, backward: int | None, collective: int | None) -> Column:
    """The time of each step in backward and in collectives; of those inside backward, once."""
    phases, used = records["phases"], used_slots(records)
    own = used & (phases["depth"] == 0) & (phases["phase"] == (-1 if backward is None else backward))
    called = used & (phases["phase"] == (-1 if collective is None else collective))
    if called.any():
        starts, ends = phases["start_ns"], phases["start_ns"] + phases["duration_ns"]
        inside = own[:, None, :] & (starts[:, :, None] >= starts[:, None, :]) & (starts[:, :, None] < ends[:, None, :])
        own = own | (called & ~inside.any(axis=2))
    times: Column = (phases["duration_ns"] * own).sum(axis=1)
    return times


def _meetings(rank: int, numbers: list[Any], times: list[Any]) -> Meetings:
    if not numbers:
        return Meetings(rank, np.empty(0, np.int64), np.empty(0, np.float32))
    return Meetings(rank, np.concatenate(numbers), np.concatenate(times))


def _without(each: Meetings, skip: int) -> Meetings:
    return Meetings(each.rank, each.steps[skip:], each.times_ns[skip:])


def _at(each: Meetings, shared: Column) -> Column:
    distinct, index = np.unique(each.steps, return_index=True)
    times: Column = each.times_ns[index[np.searchsorted(distinct, shared)]]
    return times.astype(np.float64)
