"""The host's CPUs: time by mode, how busy each is, load, and how many this process may use."""

import os
from typing import Any

from otel_train import resource_names as names
from otel_train.resource_names import series
from otel_train.samplers.sampler import Readings, load_psutil
from otel_train.samplers.totals import Totals

MODES = {"user": "user", "nice": "nice", "system": "system", "idle": "idle", "iowait": "iowait", "irq": "interrupt",
         "softirq": "interrupt", "steal": "steal"}  # fmt: skip
"""psutil's fields by the conventions' ``cpu.mode``. Guests' time is part of user's already."""

IDLE = ("idle", "iowait")
WINDOWS = ("1m", "5m", "15m")


class CpuSampler:
    """0.3 ms on 16 CPUs. Utilizations are of the time since the last sample."""

    def __init__(self, psutil: Any = None) -> None:
        self._psutil = psutil or load_psutil()
        self._totals = Totals()
        self._modes: dict[str, float] = {}
        self._cores: list[tuple[float, float]] = []

    def sample(self) -> Readings:
        """Of all CPUs together by mode; of each, how busy it was."""
        readings: Readings = {}
        modes = by_mode(self._psutil.cpu_times())
        for mode, seconds in modes.items():
            key = series(names.CPU_TIME, cpu__mode=mode)
            readings[key] = self._totals.since_first(key, seconds)
        passed = {mode: max(seconds - self._modes.get(mode, seconds), 0.0) for mode, seconds in modes.items()}
        if total := sum(passed.values()):
            for mode, seconds in passed.items():
                readings[series(names.CPU_UTILIZATION, cpu__mode=mode)] = seconds / total
        self._modes = modes
        return {**readings, **self._busy_cores(), **self._load(), **usable_cpus()}

    def _busy_cores(self) -> Readings:
        readings: Readings = {}
        cores = []
        for index, times in enumerate(self._psutil.cpu_times(percpu=True)):
            modes = by_mode(times)
            total = sum(modes.values())
            idle = sum(modes.get(mode, 0.0) for mode in IDLE)
            cores.append((total, idle))
            before = self._cores[index] if index < len(self._cores) else (total, idle)
            if total > before[0]:
                share = 1 - (idle - before[1]) / (total - before[0])
                readings[series(names.CPU_UTILIZATION, cpu__logical_number=str(index))] = min(max(share, 0.0), 1.0)
        self._cores = cores
        return readings

    def _load(self) -> Readings:
        try:
            loads = self._psutil.getloadavg()
        except (AttributeError, OSError):  # not on every platform
            return {}
        return {
            series(names.CPU_LOAD, otel_train__window=window): load for window, load in zip(WINDOWS, loads, strict=True)
        }


def by_mode(times: Any) -> dict[str, float]:
    """Seconds by ``cpu.mode``: the fields that this platform has."""
    modes: dict[str, float] = {}
    for field, mode in MODES.items():
        seconds = getattr(times, field, None)
        if seconds is not None:
            modes[mode] = modes.get(mode, 0.0) + seconds
    return modes


def usable_cpus() -> Readings:
    """How many CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return {(names.CPU_LOGICAL_COUNT, ()): len(os.sched_getaffinity(0))}
    count = os.cpu_count()
    return {} if count is None else {(names.CPU_LOGICAL_COUNT, ()): count}
