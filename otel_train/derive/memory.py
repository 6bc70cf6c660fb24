"""Where memory went: the training's own process, its workers, the page cache, the host, the container, the GPU."""

from collections.abc import Mapping
from dataclasses import dataclass

from otel_train import resource_names as names
from otel_train.derive.gpu import GpuTotals
from otel_train.derive.resource_totals import ResourceTotal, together


@dataclass(frozen=True)
class Memory:
    """Bytes; of several ranks the highest one's, and the mean of all their samples while they trained. None is not
    known."""

    process_mean: float | None
    process_max: float | None
    """Resident memory of a rank's own process; ``max`` by the kernel's own peak where that is higher."""
    workers_mean: float | None
    workers_max: float | None
    """Of its child processes together, without files."""
    page_cache_mean: float | None
    page_cache_max: float | None
    """Files that the host keeps in memory: it gives them back when memory is short."""
    available_min: float | None
    """The least that could be had on the host without swapping."""
    host_limit: float | None
    cgroup_max: float | None
    cgroup_limit: float | None
    swap_max: float | None
    gpu_peak: float | None
    gpu_reserved: float | None
    """The most that tensors held of a GPU, and that torch's allocator did."""


def memory(resources: Mapping[str, ResourceTotal], gpu: GpuTotals | None) -> Memory:
    """From the samples, and from what steps told of the allocator."""

    def of(metric: str, **wanted: str) -> ResourceTotal | None:
        pairs = set(names.series(metric, **wanted)[1])
        return together(
            total
            for column, total in resources.items()
            if (series := names.series_of(column))[0] == metric and pairs <= set(series[1])
        )

    process, peak = of(names.PROCESS_MEMORY_USAGE), of(names.PROCESS_MEMORY_PEAK)
    workers = of(names.CHILDREN_MEMORY_USAGE)
    cache = of(names.MEMORY_USAGE, system__memory__state="cached")
    available, swap = of(names.MEMORY_AVAILABLE), of(names.PAGING_USAGE, system__paging__state="used")
    allocated, reserved = of(names.ALLOCATOR_PEAK), of(names.ALLOCATOR_RESERVED)
    return Memory(
        process.mean if process else None, _most(_max(process), _max(peak)),
        workers.mean if workers else None, _max(workers),
        cache.mean if cache else None, _max(cache),
        available.min if available else None, _max(of(names.MEMORY_LIMIT)),
        _max(of(names.CGROUP_MEMORY_USAGE)), _max(of(names.CGROUP_MEMORY_LIMIT)), _max(swap),
        _most(gpu.peak_bytes if gpu else None, _max(allocated)),
        _most(gpu.reserved_bytes if gpu else None, _max(reserved)),
    )  # fmt: skip


def _max(total: ResourceTotal | None) -> float | None:
    return total.max if total else None


def _most(*values: float | None) -> float | None:
    return max((value for value in values if value is not None), default=None)
