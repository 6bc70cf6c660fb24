"""The training steps of one rank as points for a picture into which one can zoom: none of them loses a spike.

A point is one step where they are few, else a stretch of equally many steps that follow each other: with the lowest,
the median and the highest time of its steps. So whatever the length of the run, the slowest step is on the picture.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from otel_train.derive.phases import OTHER, phase_id, phase_name, used_slots
from otel_train.runlog.layout import DATA_WAIT, EVALUATION, MISSING
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.records import Records

Column: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Integers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

MOST_POINTS = 2000
"""More than a screen has pixels, so that there is something to zoom into."""

RATE_POINTS, RATE_STEPS, FEWEST_RATES = 200, 10, 20
"""A rate needs a stretch of time to be one: of at least ten steps, unless there are few of them."""

_IDS = 256


@dataclass(frozen=True)
class Rates:
    """Something a second over the time from one stretch's first step to the next one's, whatever passed in between."""

    unit: str
    """``samples``, ``tokens`` or ``steps``: the first of them that is known."""
    unix_s: Column
    """The middle of each stretch."""
    rate: Column


@dataclass(frozen=True)
class Stretches:
    """The training steps of one rank. Times of steps in s; not-a-number is not recorded."""

    rank: int
    steps_each: int
    """How many steps a point stands for: 1 is every step by itself. The last point may have fewer."""
    unix_s: Column
    """When the middle of each point was."""
    first_step: Integers
    last_step: Integers
    lowest_s: Column
    median_s: Column
    highest_s: Column
    highest_step: Integers
    """The number of the step that took longest."""
    wait_share: Column
    """The part of the steps' time that they waited for data; not-a-number where no step of the run did."""
    phases_s: dict[str, Column]
    """The mean time in each phase of the step's own; ``other`` is what lay in none."""
    rates: Rates


def stretches(log: RankLog, most: int = MOST_POINTS) -> Stretches | None:
    """Read the steps of a rank; None without a training step. About 0.5 µs and 40 bytes a step."""
    oldest, end = log.steps.bounds()
    scan = _Scan(log, -(-max(end - oldest, 1) // most))
    for first, records in log.steps.read():
        records = records[: max(end - first, 0)]  # the log may have grown since
        training = records[(records["flags"] & EVALUATION) == 0]
        if len(training):
            scan.add(training)
    return scan.found() if scan.count else None


class _Scan:
    """Takes in a segment at a time."""

    def __init__(self, log: RankLog, each: int) -> None:
        self.log, self.each, self.count = log, each, 0
        self._names = log.names("phase")
        self._columns: list[tuple[Any, Any, Any]] = []
        self._amounts: list[tuple[Any, Any]] = []
        self._phases = np.zeros((0, _IDS))
        self._waits = np.zeros(0)

    def add(self, records: Records) -> None:
        at = (np.arange(self.count, self.count + len(records)) // self.each).astype(np.int64)
        self._columns.append(tuple(records[name].copy() for name in ("step", "start_ns", "duration_ns")))
        self._amounts.append((_known(records["samples"]), _known(records["tokens"])))
        self._add_phases(records, at)
        self.count += len(records)

    def _add_phases(self, records: Records, at: Integers) -> None:
        points, first = int(at[-1]) + 1, int(at[0])
        for total in (self._phases, self._waits):
            total.resize((points, *total.shape[1:]), refcheck=False)
        phases, used = records["phases"], used_slots(records)
        own = used & (phases["depth"] == 0)
        codes = ((at - first)[:, None] * _IDS + phases["phase"])[own]
        times = np.bincount(codes, phases["duration_ns"][own], (points - first) * _IDS)
        self._phases[first:] += times.reshape(-1, _IDS)
        waiting = used & (phases["phase"] == phase_id(self._names, DATA_WAIT))
        waits = np.where(waiting, phases["duration_ns"], np.float32(0)).sum(axis=1)
        self._waits[first:] += np.bincount(at - first, np.minimum(waits, records["duration_ns"]))

    def found(self) -> Stretches:
        steps, starts, durations = (np.concatenate(parts) for parts in zip(*self._columns, strict=True))
        firsts = np.arange(0, self.count, self.each)
        lasts = np.minimum(firsts + self.each, self.count) - 1
        unix_s = (starts + (self.log.anchor.unix_ns - self.log.anchor.monotonic_ns)) / 1e9
        seconds = durations / 1e9
        totals = np.add.reduceat(seconds, firsts)
        highest = _highest(durations, firsts, lasts)
        return Stretches(
            self.log.rank, self.each, (unix_s[firsts] + unix_s[lasts] + seconds[lasts]) / 2,
            steps[firsts], steps[lasts], np.minimum.reduceat(seconds, firsts), _medians(seconds, self.each),
            seconds[highest], steps[highest],
            np.divide(self._waits / 1e9, totals, out=np.full(len(firsts), np.nan), where=totals > 0)
            if self._waits.any() else np.full(len(firsts), np.nan),
            self._phases_s(totals, lasts - firsts + 1), self._rates(unix_s, unix_s[-1] + seconds[-1]),
        )  # fmt: skip

    def _phases_s(self, totals: Column, counts: Integers) -> dict[str, Column]:
        means = self._phases / 1e9 / counts[:, None]
        used = np.flatnonzero(means.any(axis=0)).tolist()
        found = {phase_name(self._names, identity): means[:, identity] for identity in used}
        found.pop(OTHER, None)  # phases that did not fit into the record: they are part of the rest
        rest = np.maximum(totals / counts - sum(found.values(), np.zeros(len(counts))), 0)
        return {**found, OTHER: rest}

    def _rates(self, starts_s: Column, end_s: float) -> Rates:
        samples, tokens = (np.concatenate(parts) for parts in zip(*self._amounts, strict=True))
        known = [(unit, one) for unit, one in (("samples", samples), ("tokens", tokens)) if not np.isnan(one).all()]
        unit, amounts = known[0] if known else ("steps", np.ones(self.count))
        count = min(RATE_POINTS, max(self.count // RATE_STEPS, min(self.count, FEWEST_RATES)))
        firsts = np.arange(count) * self.count // count
        edges = np.append(starts_s[firsts], end_s)
        passed = np.diff(edges)
        sums = np.add.reduceat(amounts, firsts)
        rates = np.divide(sums, passed, out=np.full(len(firsts), np.nan), where=passed > 0)
        return Rates(unit, (edges[1:] + edges[:-1]) / 2, rates)


def _known(amounts: Any) -> Column:
    """As numbers; ``layout.MISSING`` is not-a-number."""
    return np.where(amounts == MISSING, np.nan, amounts)


def _medians(seconds: Column, each: int) -> Column:
    whole = len(seconds) // each * each
    medians = np.median(seconds[:whole].reshape(-1, each), axis=1)
    rest = seconds[whole:]
    return np.append(medians, np.median(rest)) if len(rest) else medians


def _highest(durations: Integers, firsts: Integers, lasts: Integers) -> Integers:
    """The index of the longest step of each point: the first one where several are as long."""
    longest = np.repeat(np.maximum.reduceat(durations, firsts), lasts - firsts + 1)
    at = np.flatnonzero(durations == longest)
    return at[np.searchsorted(at, firsts)]
