"""The host's memory and swap. In a container the control group's figures are the truth: ``cgroup``."""

from typing import Any

from otel_train import resource_names as names
from otel_train.resource_names import series
from otel_train.samplers.sampler import Readings, load_psutil
from otel_train.samplers.totals import Totals

STATES = ("used", "free", "buffers", "cached")


class HostMemorySampler:
    """0.1 ms."""

    def __init__(self, psutil: Any = None) -> None:
        self._psutil = psutil or load_psutil()
        self._totals = Totals()

    def sample(self) -> Readings:
        """In bytes and as ratios. Fields that the platform has not are absent."""
        memory = self._psutil.virtual_memory()
        readings: Readings = {
            series(names.MEMORY_USAGE, system__memory__state=state): getattr(memory, state)
            for state in STATES
            if hasattr(memory, state)
        }
        readings[names.MEMORY_LIMIT, ()] = memory.total
        readings[names.MEMORY_AVAILABLE, ()] = memory.available
        if memory.total:
            readings[names.MEMORY_UTILIZATION, ()] = 1 - memory.available / memory.total
        if hasattr(memory, "shared"):
            readings[names.MEMORY_SHARED, ()] = memory.shared
        return {**readings, **self._swap()}

    def _swap(self) -> Readings:
        try:
            swap = self._psutil.swap_memory()
        except (OSError, RuntimeError):  # no /proc/vmstat in some containers
            return {}
        readings: Readings = {
            series(names.PAGING_USAGE, system__paging__state="used"): swap.used,
            series(names.PAGING_USAGE, system__paging__state="free"): swap.free,
        }
        if swap.total:
            readings[names.PAGING_UTILIZATION, ()] = swap.used / swap.total
        for direction, total in (("in", swap.sin), ("out", swap.sout)):
            key = series(names.PAGING_IO, system__paging__direction=direction)
            readings[key] = self._totals.since_first(key, total)
        return readings
