"""The steady steps of a run: those that tell how fast it trains, without what is rare or only at the beginning.

Left out are failed steps, those under a profiler, those next to an evaluation, a checkpoint or a compilation (during
one, and the two that follow it), and the warm-up. What is left out is counted by its reason.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from otel_train import names
from otel_train.derive.phases import OTHER, phase_name, used_slots
from otel_train.derive.steps import WARM_UP_STEPS, Column
from otel_train.runlog.layout import EVALUATION, FAILED, MISSING, PROFILED
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.records import Records
from otel_train.runlog.runs import Run

WARM_UP = "warm-up"
RARE = (names.EVALUATION_KIND, names.CHECKPOINT, names.COMPILATION)
"""Kinds of events beside which a step is no usual one. Also the reasons for leaving it out."""
FAILED_STEP, PROFILED_STEP, NOT_ON_ALL = "failed", "profiled", "not on all ranks"

AFTER = 2
"""So many steps after something rare are left out too: caches are cold, and queues are full."""
BATCH = 5
"""Steps of which the warm-up's rule sees the median."""
LONGEST_WARM_UP = 0.2
"""The part of a run that can be warm-up; later changes are the run's own."""


@dataclass(frozen=True)
class Steady:
    """The steady steps of a run, one value a step in the order of the run. Times in s."""

    steps: Column
    """Their numbers."""
    durations_s: Column
    phases_s: dict[str, Column]
    """The phases of depth 0 and ``other``, in no phase: a step's add up to its duration."""
    samples: Column
    tokens: Column
    """Not-a-number where it is not known."""
    left_out: dict[str, int] = field(default_factory=dict)
    """How many training steps, by the reason: the first that holds."""
    on_gpu_s: dict[str, Column] = field(default_factory=dict)
    """What the phases took on the GPU; not-a-number in steps that were not timed there."""

    @property
    def count(self) -> int:
        """How many steps are steady."""
        return len(self.durations_s)

    @property
    def timed_on_gpu(self) -> Column:
        """Which steps were timed on the GPU: a mask."""
        timed = np.zeros(self.count, bool)
        for times in self.on_gpu_s.values():
            timed |= ~np.isnan(times)
        return timed

    @property
    def together_on_gpu_s(self) -> Column:
        """What all phases took on the GPU in the steps that were timed there."""
        timed = self.timed_on_gpu
        total = np.zeros(int(np.count_nonzero(timed)))
        for times in self.on_gpu_s.values():
            total += times[timed]
        return total

    def chosen(self, which: Column) -> "Steady":
        """Some of the steps: a mask, or indices."""
        phases, on_gpu = (
            {name: times[which] for name, times in found.items()} for found in (self.phases_s, self.on_gpu_s)
        )
        return Steady(self.steps[which], self.durations_s[which], phases, self.samples[which], self.tokens[which],
                      self.left_out, on_gpu)  # fmt: skip


def steady_run(run: Run) -> Steady:
    """The steady steps of a run. Of several ranks the mean of each step that is steady on all of them; samples and
    tokens summed. Raises ``RunLogError``."""
    return merged_steady([steady_steps(log) for log in run.ranks()])


def merged_steady(ranks: Sequence[Steady]) -> Steady:
    """Ranks as one run. Left out are the most that any rank leaves out, and steps that are not steady on all."""
    if len(ranks) == 1:
        return ranks[0]
    shared = reduce(np.intersect1d, [rank.steps for rank in ranks])
    aligned = [rank.chosen(_positions(rank.steps, shared)) for rank in ranks]
    known = dict.fromkeys(name for rank in aligned for name in rank.phases_s)
    nothing = np.zeros(len(shared))
    reasons = dict.fromkeys(reason for each in ranks for reason in each.left_out)
    left_out = {reason: max(each.left_out.get(reason, 0) for each in ranks) for reason in reasons}
    lacking = max(rank.count for rank in ranks) - len(shared)
    return Steady(
        shared,
        _mean([rank.durations_s for rank in aligned]),
        {name: _mean([rank.phases_s.get(name, nothing) for rank in aligned]) for name in known},
        np.sum([rank.samples for rank in aligned], axis=0),
        np.sum([rank.tokens for rank in aligned], axis=0),
        {**left_out, NOT_ON_ALL: lacking} if lacking else left_out,
        _merged_on_gpu(aligned),
    )


def _merged_on_gpu(ranks: Sequence[Steady]) -> dict[str, Column]:
    """The mean of the ranks in steps that one of them timed; of a rank that did not, its median. Nothing where a rank
    timed none: ranks differ."""
    if not all(rank.timed_on_gpu.any() for rank in ranks):
        return {}
    timed = np.any([rank.timed_on_gpu for rank in ranks], axis=0)
    found: dict[str, Column] = {}
    for name in dict.fromkeys(name for rank in ranks for name in rank.on_gpu_s):
        columns = [rank.on_gpu_s.get(name, np.zeros(len(timed))) for rank in ranks]
        filled = [np.where(np.isnan(times), np.nanmedian(times), times) for times in columns]
        found[name] = np.where(timed, _mean(filled), np.nan)
    return found


def steady_steps(log: RankLog) -> Steady:
    """The steady steps of one rank. About 1 µs a step. Raises ``UnknownFormat``."""
    read = [records for _, records in log.steps.read()]
    training = [records[(records["flags"] & EVALUATION) == 0] for records in read]
    starts, durations, flags = (_joined(training, name) for name in ("start_ns", "duration_ns", "flags"))
    every = Steady(
        _joined(training, "step"),
        durations / 1e9,
        _phases(training, log.names("phase")),
        _amounts(training, "samples"),
        _amounts(training, "tokens"),
        on_gpu_s=_on_gpu(log, _joined(training, "step")),
    )
    reasons = {FAILED_STEP: (flags & FAILED) != 0, PROFILED_STEP: _and_after((flags & PROFILED) != 0)}
    for kind, intervals in _rare(log, read).items():
        reasons[kind] = _beside(intervals, starts, starts + durations)
    return _without_warm_up(_without(every, reasons))


def _without(every: Steady, reasons: dict[str, Column]) -> Steady:
    kept, left_out = np.ones(every.count, bool), {}
    for reason, mask in reasons.items():
        out = int(np.count_nonzero(kept & mask))
        if out:
            left_out[reason] = out
        kept &= ~mask
    chosen = every.chosen(kept)
    chosen.left_out.update(left_out)
    return chosen


def _without_warm_up(steady: Steady) -> Steady:
    skip = warm_up_of(steady.durations_s)
    chosen = steady.chosen(slice(skip, None))  # type: ignore[arg-type]  # a slice chooses like an array
    if skip:
        chosen.left_out[WARM_UP] = skip
    return chosen


def warm_up_of(durations_s: Column) -> int:
    """How many steps to leave out at the beginning: five (of fewer than 20 a quarter), or more by MSER.

    MSER leaves out what makes the standard error of the rest's mean smallest, here of the medians of five steps and
    within the first fifth: K. P. White, M. J. Cobb, S. C. Spratt, "A comparison of five steady-state truncation
    heuristics for simulation", Winter Simulation Conference 2000.
    """
    least = min(WARM_UP_STEPS, len(durations_s) // 4)
    batches = len(durations_s) // BATCH
    most = int(batches * LONGEST_WARM_UP)
    if most < 1:
        return least
    medians = np.median(durations_s[: batches * BATCH].reshape(batches, BATCH), axis=1)
    backwards = medians[::-1] - medians.mean()
    counts = np.arange(1, batches + 1)
    squares = np.cumsum(backwards**2) - np.cumsum(backwards) ** 2 / counts
    errors: Column = (squares / counts**2)[::-1][: most + 1]
    return max(least, int(np.argmin(errors)) * BATCH)


def _rare(log: RankLog, read: Iterable[Records]) -> dict[str, list[tuple[int, int]]]:
    """Start and end in ns of what is rare, by its kind; steps of an evaluation too, of one that was never over."""
    found: dict[str, list[tuple[int, int]]] = {kind: [] for kind in RARE}
    for event, _ in log.events():
        if event.kind in found:
            found[event.kind].append((event.start_ns, event.end_ns))
    for records in read:
        own = records[(records["flags"] & EVALUATION) != 0]
        ends = own["start_ns"] + own["duration_ns"]
        found[names.EVALUATION_KIND] += zip(own["start_ns"].tolist(), ends.tolist(), strict=True)
    return found


def _beside(intervals: list[tuple[int, int]], starts: Column, ends: Column) -> Column:
    """Which steps share time with an interval, or are the first that begin after it."""
    edges = np.array(intervals, np.int64).reshape(-1, 2)
    first = np.searchsorted(ends, edges[:, 0], side="right")
    last = np.minimum(np.searchsorted(starts, edges[:, 1], side="left") + AFTER, len(starts))
    opened = np.zeros(len(starts) + 1, np.int64)
    np.add.at(opened, np.minimum(first, last), 1)
    np.add.at(opened, last, -1)
    beside: Column = np.cumsum(opened)[:-1] > 0
    return beside


def _and_after(mask: Column) -> Column:
    """The step after counts too: the profiler stops in between."""
    return mask | np.concatenate(([False], mask[:-1])) if len(mask) else mask


def _phases(training: list[Records], phase_names: dict[int, str]) -> dict[str, Column]:
    """The time of each phase of depth 0 in each step, and what is left."""
    count = sum(map(len, training))
    found: dict[str, Column] = {}
    place = 0
    for records in training:
        phases = records["phases"]
        own = used_slots(records) & (phases["depth"] == 0)
        for identity in np.unique(phases["phase"][own]).tolist():
            times = found.setdefault(phase_name(phase_names, identity), np.zeros(count))
            chosen = np.where(own & (phases["phase"] == identity), phases["duration_ns"], np.float32(0))
            times[place : place + len(records)] += chosen.sum(axis=1, dtype=np.float64) / 1e9
        place += len(records)
    rest = _joined(training, "duration_ns") / 1e9 - sum(found.values(), np.zeros(count))
    found[OTHER] = found.get(OTHER, np.zeros(count)) + rest
    return found


def _on_gpu(log: RankLog, steps: Column) -> dict[str, Column]:
    """The time of each phase on the GPU in the steps that were timed there, of ``steps``."""
    read = [records[np.isin(records["step"], steps)] for _, records in log.gpu.read()]
    if not sum(map(len, read)):
        return {}
    timed, phase_names = np.concatenate(read), log.names("phase")
    positions = _positions(steps, timed["step"])
    phases = timed["phases"]
    used = used_slots(timed)
    found: dict[str, Column] = {}
    for identity in np.unique(phases["phase"][used]).tolist():
        own = np.where(used & (phases["phase"] == identity), phases["duration_ns"], np.float32(0))
        times = found.setdefault(phase_name(phase_names, identity), np.full(len(steps), np.nan))
        times[positions] = own.sum(axis=1, dtype=np.float64) / 1e9
    return found


def _joined(training: list[Records], name: str) -> Column:
    return np.concatenate([records[name] for records in training]) if training else np.empty(0, np.int64)


def _amounts(training: list[Records], name: str) -> Column:
    amounts = _joined(training, name)
    return np.where(amounts == MISSING, np.nan, amounts)


def _positions(steps: Column, wanted: Column) -> Column:
    order = np.argsort(steps, kind="stable")
    positions: Column = order[np.searchsorted(steps, wanted, sorter=order)]
    return positions


def _mean(columns: list[Column]) -> Column:
    mean: Column = np.mean(columns, axis=0)
    return mean
