"""What torch's CUDA allocator holds, by its nested statistics (23 µs; the flat ones cost 120)."""

import sys
from typing import Any

from otel_train import resource_names as names
from otel_train.samplers.sampler import Readings
from otel_train.samplers.totals import Totals

SIZES = {
    names.ALLOCATOR_ALLOCATED: ("allocated_bytes", "current"),
    names.ALLOCATOR_RESERVED: ("reserved_bytes", "current"),
    names.ALLOCATOR_PEAK: ("allocated_bytes", "peak"),
}
COUNTS = {names.ALLOCATOR_RETRIES: "num_alloc_retries", names.ALLOCATOR_OOMS: "num_ooms"}


class AllocatorSampler:
    """The sum over the devices that the process uses, one for most ranks.

    Nothing before the training has used CUDA: asking would make a context.
    """

    def __init__(self) -> None:
        self._totals = Totals()

    def sample(self) -> Readings:
        """In bytes, and how often the allocator had to free its cache, or had no memory left."""
        torch: Any = sys.modules.get("torch")
        cuda = getattr(torch, "cuda", None)  # another thread may be half-way through importing torch
        if not getattr(cuda, "is_initialized", bool)():
            return {}
        readings: Readings = {}
        for device in range(torch.cuda.device_count()):  # the current device is a thread's own: here it would be 0
            statistics = torch.cuda.memory_stats_as_nested_dict(device)
            if not statistics:
                continue
            for name, (kind, which) in SIZES.items():
                readings[name, ()] = readings.get((name, ()), 0) + int(statistics[kind]["all"][which])
            for name, field in COUNTS.items():
                if field in statistics:
                    readings[name, ()] = readings.get((name, ()), 0) + int(statistics[field])
        if not readings.get((names.ALLOCATOR_RESERVED, ())):
            return {}
        for name in COUNTS:
            if (name, ()) in readings:
                readings[name, ()] = self._totals.since_first(name, readings[name, ()])
        return readings
