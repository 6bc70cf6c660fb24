"""What steps were on the GPU: the mean time of each phase over the timed steps, and the allocator's memory."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from otel_train.derive.phases import phase_name
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.records import Records


@dataclass
class GpuTotals:
    """The timed steps of a rank, or of several. Of ``data_wait`` the time is what the GPU waited for data."""

    steps: int = 0
    times_s: dict[str, float] = field(default_factory=dict)
    """By phase, over all timed steps."""
    peak_bytes: int | None = None
    reserved_bytes: int | None = None
    """At most, of any rank; None where the allocator was not asked."""
    retries: int = 0
    """Times that the allocator had to free its cache and try again; of the rank with most."""

    def per_step_s(self, phase: str) -> float | None:
        """A phase's mean time in a timed step; None where none was timed."""
        return self.times_s[phase] / self.steps if self.steps and phase in self.times_s else None

    def add(self, records: Records, names: dict[int, str]) -> None:
        """Add the records of a segment."""
        self.steps += len(records)
        used = records["phase_count"][:, None] > np.arange(records["phases"].shape[1])
        phases = records["phases"][used]
        times = np.bincount(phases["phase"], phases["duration_ns"].astype(np.float64), 256)
        for identity in np.unique(phases["phase"]).tolist():
            name = phase_name(names, identity)
            self.times_s[name] = self.times_s.get(name, 0.0) + float(times[identity]) / 1e9
        known = records[records["reserved"] >= 0]
        if len(known):
            self.peak_bytes = max(self.peak_bytes or 0, int(known["peak"].max()))
            self.reserved_bytes = max(self.reserved_bytes or 0, int(known["reserved"].max()))
            self.retries = max(self.retries, int(known["retries"].max()))

    def merge(self, other: "GpuTotals") -> None:
        """Add another rank's."""
        self.steps += other.steps
        for name, seconds in other.times_s.items():
            self.times_s[name] = self.times_s.get(name, 0.0) + seconds
        for name in ("peak_bytes", "reserved_bytes"):
            known = [value for value in (getattr(self, name), getattr(other, name)) if value is not None]
            setattr(self, name, max(known, default=None))
        self.retries = max(self.retries, other.retries)


def scan_gpu(log: RankLog) -> GpuTotals:
    """Read what the steps of a rank were on the GPU."""
    totals, names = GpuTotals(), log.names("phase")
    for _, records in log.gpu.read():
        totals.add(records, names)
    return totals


def merged_gpu(ranks: Iterable[GpuTotals]) -> GpuTotals | None:
    """All ranks as one; None where no step was timed."""
    total = GpuTotals()
    for each in ranks:
        total.merge(each)
    return total if total.steps else None


def gpu_times(log: RankLog, steps: Any, names: dict[int, str]) -> dict[int, dict[str, float]]:
    """For those of the steps (numbers) that were timed: seconds by phase. Reads the newest records only."""
    _, end = log.gpu.bounds()
    found: dict[int, dict[str, float]] = {}
    wanted = np.asarray(steps)
    for _, records in log.gpu.read(max(end - MOST_LOOKED_AT, 0)):
        for record in records[np.isin(records["step"], wanted)]:
            slots = record["phases"][: int(record["phase_count"])]
            found[int(record["step"])] = {
                phase_name(names, int(slot["phase"])): float(slot["duration_ns"]) / 1e9 for slot in slots
            }
    return found


MOST_LOOKED_AT = 1 << 15
"""Records in which the GPU times of steps that become traces are looked for."""
