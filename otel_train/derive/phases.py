"""Where the time of steps goes: the total of each phase, by depth and by the phase that it lies in."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from otel_train.runlog.layout import PHASE_SLOTS
from otel_train.runlog.records import Records

Key: TypeAlias = tuple[int, int, int]
"""Depth, id of the phase around it (``NO_PARENT`` at depth 0 or where it is not known), id of the phase."""

Integers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

NO_PARENT = -1
OTHER = "other"
"""Inside the step, but in no phase. Also the phase of the steps whose phases did not fit."""
IDS = 256
_SLOT_NUMBERS = np.arange(PHASE_SLOTS)


@dataclass
class PhaseTotal:
    """Time in seconds and occurrences of one phase at one place."""

    time_s: float = 0.0
    count: int = 0

    def merge(self, other: "PhaseTotal", sign: int = 1) -> None:
        """Add another total, or take it away again with ``sign=-1``."""
        self.time_s += sign * other.time_s
        self.count += sign * other.count


class PhaseTotals:
    """Adds up the phases of steps, a segment at a time. 0.6 ms for the 8191 records of a segment."""

    def __init__(self) -> None:
        self.totals: dict[Key, PhaseTotal] = {}

    def add(self, records: Records) -> None:
        """Add the steps of a segment, or of a part of one."""
        phases, used = records["phases"], used_slots(records)
        nested = used & (phases["depth"] > 0)
        own = used & ~nested
        self._accumulate(phases[own], phases["phase"][own].astype(np.int64))
        for slot in np.flatnonzero(nested.any(axis=0)).tolist():
            rows = np.flatnonzero(nested[:, slot])
            self._accumulate(phases[rows, slot], _nested_keys(phases[rows], used[rows], slot))

    def by_name(self, names: dict[int, str]) -> dict[tuple[int, str | None, str], PhaseTotal]:
        """The totals under the names of a rank's log, so that those of several ranks can be added."""
        return {
            (depth, None if parent == NO_PARENT else phase_name(names, parent), phase_name(names, phase)): total
            for (depth, parent, phase), total in self.totals.items()
        }

    def _accumulate(self, phases: Records, keys: Integers) -> None:
        codes, index = _compact(keys)
        times = np.bincount(index, phases["duration_ns"], len(codes))
        counts = np.bincount(index, phases["count"], len(codes))
        for code, time_ns, count in zip(codes.tolist(), times.tolist(), counts.tolist(), strict=True):
            if count:
                self.totals.setdefault(_unpack(code), PhaseTotal()).merge(PhaseTotal(time_ns / 1e9, int(count)))


def used_slots(records: Records) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which of the phase slots hold a phase: a boolean for each step and slot."""
    used: np.ndarray[Any, np.dtype[np.bool_]] = records["phase_count"][:, None] > _SLOT_NUMBERS
    return used


def phase_name(names: dict[int, str], identity: int) -> str:
    """The name of a phase id; ``phase 17`` when the log lost the name (the process was killed as it was written)."""
    return names.get(identity, f"phase {identity}")


def phase_id(names: dict[int, str], name: str) -> int | None:
    """The id of a phase name in a rank's log; None when it never occurred."""
    return next((identity for identity, known in names.items() if known == name), None)


def _nested_keys(phases: Records, used: np.ndarray[Any, np.dtype[np.bool_]], slot: int) -> Integers:
    """A number for (depth, parent, phase) of one slot of some steps.

    The parent is, of the phases one level up that began no later, the last to begin.
    """
    depths, starts = phases["depth"].astype(np.int64), phases["start_ns"]
    around = used & (depths == depths[:, slot, None] - 1) & (starts <= starts[:, slot, None])
    latest = np.where(around, starts, -1.0).argmax(axis=1)
    ids = phases["phase"].astype(np.int64)
    parents = np.where(around.any(axis=1), ids[np.arange(len(phases)), latest], NO_PARENT)
    keys: Integers = depths[:, slot] << 17 | (parents + 1) << 8 | ids[:, slot]
    return keys


def _compact(keys: Integers) -> tuple[Integers, Integers]:
    """The distinct keys (or more) and the index of each key among them. Sorting is 20 times slower than counting."""
    if not (keys >= IDS).any():
        return np.arange(IDS), keys
    distinct, index = np.unique(keys, return_inverse=True)
    return distinct, index


def _unpack(code: int) -> Key:
    return code >> 17, ((code >> 8) & 0x1FF) - 1, code & 0xFF
