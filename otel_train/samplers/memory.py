"""Memory of the process and of torch's CUDA allocator: one row of ``resources.csv`` a sample."""

import sys
from collections.abc import Mapping
from typing import Any

PROCESS_USAGE = "process.memory.usage"
PROCESS_PEAK = "process.memory.peak"
ALLOCATOR = ("torch.cuda.memory.allocated", "torch.cuda.memory.reserved", "torch.cuda.memory.peak")

COLUMNS = (PROCESS_USAGE, PROCESS_PEAK, *ALLOCATOR)
"""All in bytes. The allocator's are the sum over the devices that this process uses, one for most ranks."""


def sample() -> dict[str, int]:
    """The columns that can be read now."""
    return {**process_memory(), **allocator_memory()}


def process_memory() -> dict[str, int]:
    """Resident memory now, and at its highest."""
    import psutil

    memory = psutil.Process().memory_info()
    read = {PROCESS_USAGE: int(memory.rss)}
    if sys.platform != "win32":
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        read[PROCESS_PEAK] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return read


def allocator_memory() -> dict[str, int]:
    """What torch's allocator holds of its device, by the nested statistics (23 µs; the flat ones cost 120).

    Nothing before the training has used CUDA: asking would make a context.
    """
    torch: Any = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)  # another thread may be half-way through importing torch
    if not getattr(cuda, "is_initialized", bool)():
        return {}
    totals = [0, 0, 0]
    for device in range(torch.cuda.device_count()):  # the current device is a thread's own: here it would be 0
        statistics = torch.cuda.memory_stats_as_nested_dict(device)
        if statistics:
            allocated: Mapping[str, int] = statistics["allocated_bytes"]["all"]
            reserved: Mapping[str, int] = statistics["reserved_bytes"]["all"]
            values = allocated["current"], reserved["current"], allocated["peak"]
            totals = [total + int(value) for total, value in zip(totals, values, strict=True)]
    return dict(zip(ALLOCATOR, totals, strict=True)) if totals[1] else {}
