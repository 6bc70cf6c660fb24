"""CUDA out of memory: what was asked for, and what the allocator held at that moment."""

from collections.abc import Callable
from typing import Any

from otel_train import active, guard
from otel_train.names import (
    OOM_ALLOCATED,
    OOM_DEVICE,
    OOM_FREE,
    OOM_PEAK,
    OOM_REQUESTED,
    OOM_RESERVED,
    OOM_RETRIES,
    OOM_TOTAL,
    OUT_OF_MEMORY,
)
from otel_train.runlog.events import Event

_wanted = False
_attached = False


def install(torch: Any) -> Callable[[], None]:
    """Record each time the allocator has run out, from CUDA's first use in the process on; returns the undo.

    torch has no way to take an observer off again: it is attached once a process, and does nothing after the undo.
    """
    global _wanted, _attached
    _wanted = True
    if not _attached:
        torch.cuda._lazy_call(lambda: _attach(torch))  # now, or when CUDA is initialised: before, there is no allocator
        _attached = True

    def undo() -> None:
        global _wanted
        _wanted = False

    return undo


def _attach(torch: Any) -> None:
    with guard.guarded("out of memory"):
        torch._C._cuda_attach_out_of_memory_observer(lambda *told: _observe(torch, *told))


def _observe(torch: Any, device: int, requested: int, total: int, free: int) -> None:
    recorder = active.recorder
    if recorder is None or not _wanted:
        return
    with guard.guarded("out of memory"):
        held = torch.cuda.memory_stats_as_nested_dict(device)
        attributes = {
            OOM_DEVICE: device,
            OOM_REQUESTED: requested,
            OOM_TOTAL: total,
            OOM_FREE: free,
            OOM_ALLOCATED: held["allocated_bytes"]["all"]["current"],
            OOM_RESERVED: held["reserved_bytes"]["all"]["current"],
            OOM_PEAK: held["allocated_bytes"]["all"]["peak"],
            OOM_RETRIES: held["num_alloc_retries"],
        }
        step = recorder.sidelines.last_step
        recorder.sidelines.event(Event(OUT_OF_MEMORY, recorder.clock(), step=step, attributes=attributes))
