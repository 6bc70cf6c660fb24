"""The course of a rank's run: its training steps in up to ``MOST_PARTS`` parts with equal numbers of steps.

Of each part are kept the amounts, the time by phase and the middle and slow steps: what changes, projections and
pictures are made from. Bounded, whatever the length of the run.
"""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from otel_train.derive.phases import IDS, OTHER, phase_name, used_slots
from otel_train.runlog.layout import MISSING
from otel_train.runlog.records import Records

Column: TypeAlias = np.ndarray[Any, np.dtype[Any]]

MOST_PARTS = 240
FEW_OF_A_PART = 4
"""A part with so many times the first steps is judged with them in it: they do not move its median."""


@dataclass(frozen=True)
class Course:
    """Each column has a value for each part, in their order. Times in s; ``starts_s`` since the first step's start."""

    first_steps: Column
    """The number of each part's first step."""
    steps: Column
    """How many steps a part has."""
    starts_s: Column
    walls_s: Column
    """From the start of a part's first step to that of the next part's; of the last one to the end of its last step."""
    stepping_s: Column
    """Inside steps."""
    p50_s: Column
    p95_s: Column
    max_s: Column
    """The median step of a part, the one that 95 in 100 are shorter than (the nearest step above), the longest."""
    samples: Column
    tokens: Column
    """Of the steps where they are known, for all of the part's; not-a-number where they are known of none."""
    phases_s: dict[str, Column]
    """By phase of a step's own, ``other`` last: the time over all steps of a part."""
    steady: int
    """The first part that is judged: those with the first steps are not, unless these are few of the part."""

    def __len__(self) -> int:
        return len(self.steps)


@dataclass
class CourseSums:
    """Adds up the steps, a segment at a time. ``most`` is how many there may be."""

    most: int
    count: int = 0
    steps: Column = field(init=False)
    known: dict[str, Column] = field(init=False)
    amounts: dict[str, Column] = field(init=False)
    phases: dict[int, Column] = field(default_factory=dict)
    """By phase id, ns."""
    numbers: dict[int, int] = field(default_factory=dict)
    """By part, the number of its first step."""

    def __post_init__(self) -> None:
        self.parts = max(min(self.most, MOST_PARTS), 1)
        self.steps = np.zeros(self.parts, np.int64)
        self.known, self.amounts = self._columns(), self._columns()

    def _columns(self) -> dict[str, Column]:
        return {name: np.zeros(self.parts) for name in ("samples", "tokens")}

    def add(self, records: Records) -> None:
        """Add training steps."""
        parts = (self.count + np.arange(len(records))) * self.parts // max(self.most, 1)
        self.count += len(records)
        first, length = int(parts[0]), int(parts[-1] - parts[0]) + 1
        here, parts = slice(first, first + length), parts - first
        self.steps[here] += np.bincount(parts, minlength=length)
        for part, index in zip(*np.unique(parts, return_index=True), strict=True):
            self.numbers.setdefault(first + int(part), int(records["step"][index]))
        for name, total in self.amounts.items():
            known = records[name] != MISSING
            self.known[name][here] += np.bincount(parts[known], minlength=length)
            total[here] += np.bincount(parts[known], records[name][known], length)
        self._add_phases(records, parts, here, length)

    def _add_phases(self, records: Records, parts: Column, here: slice, length: int) -> None:
        phases = records["phases"]
        own = used_slots(records) & (phases["depth"] == 0)
        keys = (parts[:, None] * IDS + phases["phase"])[own]
        times = np.bincount(keys, phases["duration_ns"][own], length * IDS).reshape(length, IDS)
        for identity in np.flatnonzero(times.any(axis=0)).tolist():
            self.phases.setdefault(identity, np.zeros(self.parts))[here] += times[:, identity]

    def finish(self, starts_ns: Column, durations_ns: Column, names: dict[int, str], warm_up: int) -> Course:
        """The course of the steps added, whose starts and times these are; the first ``warm_up`` are not judged."""
        used = int(np.count_nonzero(self.steps))
        steps = self.steps[:used]
        edges = np.concatenate(([0], np.cumsum(steps)))
        starts = starts_ns[edges[:-1]]
        end = int((starts_ns + durations_ns).max()) if used else 0
        stepping = np.add.reduceat(durations_ns, edges[:-1]) / 1e9 if used else np.zeros(0)
        phases: dict[str, Column] = {}
        for identity, times in self.phases.items():
            name = phase_name(names, identity)
            phases[name] = phases.get(name, 0) + times[:used] / 1e9
        unfit = phases.pop(OTHER, 0)
        phases[OTHER] = np.maximum(stepping - sum(phases.values()), unfit)
        return Course(
            np.array([self.numbers[part] for part in range(used)], np.int64),
            steps,
            (starts - (starts[0] if used else 0)) / 1e9,
            np.diff(np.append(starts, end)[: used + 1]) / 1e9 if used else np.zeros(0),
            stepping,
            *_order_statistics(durations_ns, steps),
            self._amount("samples", used),
            self._amount("tokens", used),
            phases,
            _first_steady(steps, warm_up),
        )

    def _amount(self, name: str, used: int) -> Column:
        known, steps = self.known[name][:used], self.steps[:used]
        nothing = np.full(used, np.nan)
        amount: Column = np.divide(self.amounts[name][:used] * steps, known, out=nothing, where=known > 0)
        return amount


def _first_steady(steps: Column, warm_up: int) -> int:
    if not warm_up:
        return 0
    begun = int(np.searchsorted(np.cumsum(steps), warm_up, "left"))
    return begun + (int(steps[begun]) < FEW_OF_A_PART * warm_up)


def _order_statistics(durations_ns: Column, steps: Column) -> tuple[Column, Column, Column]:
    """The median, the 95th percentile and the maximum of each part, in s."""
    if not len(steps):
        return np.zeros(0), np.zeros(0), np.zeros(0)
    inside = np.arange(int(steps.max())) < steps[:, None]
    grid = np.full(inside.shape, np.inf)
    grid[inside] = durations_ns
    grid.sort(axis=1)
    rows, last = np.arange(len(steps)), steps - 1
    median = (grid[rows, last // 2] + grid[rows, steps // 2]) / 2e9
    return median, grid[rows, np.ceil(last * 0.95).astype(np.int64)] / 1e9, grid[rows, last] / 1e9
