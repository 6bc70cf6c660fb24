"""Which GPU this process trains on, as torch can say without being asked for anything that it has not done."""

import sys
from collections.abc import Mapping
from typing import Any

from otel_train.samplers.visible_devices import Visible, named


def own_gpu(visible: Visible, environ: Mapping[str, str]) -> str | None:
    """The UUID of the device that the process trains on; None before CUDA is in use, or where it cannot be told.

    Never starts CUDA and never synchronises: it asks torch only when the training has initialised CUDA. About 25 µs a
    device.
    """
    torch: Any = sys.modules.get("torch")
    cuda: Any = getattr(torch, "cuda", None)  # another thread may be half-way through importing torch
    if not getattr(cuda, "is_initialized", bool)():
        return None
    number = training_device(cuda, environ)
    if number is None:
        return None
    uuid = getattr(cuda.get_device_properties(number), "uuid", None)  # torch 2.4 on
    if uuid is not None and (device := named(visible.devices, str(uuid))):
        return device.uuid
    if visible.ordered and number < len(visible.devices):
        return visible.devices[number].uuid
    return None


def training_device(cuda: Any, environ: Mapping[str, str]) -> int | None:
    """torch's number of the device on which its allocator holds most; else the launcher's ``LOCAL_RANK``.

    Not the current device: that is a thread's own, and on the sampling thread it is 0.
    """
    count = cuda.device_count()
    reserved = [_reserved(cuda, number) for number in range(count)]
    if any(reserved):
        return reserved.index(max(reserved))
    local_rank = environ.get("LOCAL_RANK", "")
    if local_rank.isdecimal() and int(local_rank) < count:
        return int(local_rank)
    return 0 if count == 1 else None


def _reserved(cuda: Any, number: int) -> int:
    """Bytes; 0 where the allocator was not used, or keeps no statistics (``cudaMallocAsync``, a pluggable one)."""
    try:
        statistics = cuda.memory_stats_as_nested_dict(number)
    except RuntimeError:
        return 0
    return int(statistics.get("reserved_bytes", {}).get("all", {}).get("current", 0))
