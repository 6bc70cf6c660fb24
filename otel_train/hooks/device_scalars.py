"""Values of ``log()`` that live on a device: copied aside at once, read when they have arrived, never waited for."""

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from otel_train import guard

LARGEST_BACKLOG = 256
"""Values under way at most; more are dropped and counted. A copy takes microseconds of the device's time."""

Sink = Callable[[int, int, int, float], None]
"""Takes step number, monotonic ns, name id and value."""


def is_tensor(value: object) -> bool:
    """Is it a tensor of torch, told without importing torch?"""
    kind = getattr(sys.modules.get("torch"), "Tensor", None)
    return kind is not None and isinstance(value, kind)


class DeviceScalars:
    """0-d tensors on their way to the host. All calls are the training thread's: no event is queried elsewhere."""

    def __init__(self, sink: Sink, after_step: list[Callable[[], None]]) -> None:
        """``after_step`` is the recorder's: it calls after each step what is in it, ``resolve`` while it is needed."""
        self._sink = sink
        self._after_step = after_step
        self.under_way: deque[Any] = deque()
        self._free: dict[tuple[Any, Any], list[tuple[Any, Any]]] = {}
        self.dropped = 0

    def take(self, tensor: Any, step: int, time_ns: int, name: int) -> None:
        """Record the tensor's value: at once from the host's memory, later from a device's.

        Raises ``ValueError`` unless it has exactly one element. During CUDA graph capture nothing is copied (a copy
        would become part of the graph): the value is dropped and counted.
        """
        if tensor.numel() != 1:
            raise ValueError(f"got a tensor of shape {tuple(tensor.shape)}, a scalar is allowed: log(loss=loss.mean())")
        if tensor.device.type == "cpu":
            self._sink(step, time_ns, name, float(tensor.detach().item()))
            return
        if len(self.under_way) >= LARGEST_BACKLOG or _is_capturing():
            self.dropped += 1
            return
        host, arrived = slot = self._free_slot(tensor)
        host.copy_(tensor.detach().reshape(()), non_blocking=True)
        arrived.record()
        if self._resolve_after_step not in self._after_step:
            self._after_step.append(self._resolve_after_step)
        self.under_way.append((slot, tensor.dtype, tensor.device, step, time_ns, name))

    def _free_slot(self, tensor: Any) -> tuple[Any, Any]:
        """A pinned scalar of the tensor's type and an event of its device: used again, making them costs 30 µs."""
        free = self._free.get((tensor.dtype, tensor.device))
        if free:
            return free.pop()
        import torch

        host = torch.empty((), dtype=tensor.dtype, pin_memory=tensor.device.type == "cuda")
        return host, torch.Event(device=tensor.device)

    def resolve(self) -> None:
        """Record the values that have arrived, in their order; cheap when none is under way."""
        under_way = self.under_way
        if not under_way or _is_capturing():
            return
        while under_way and under_way[0][0][1].query():
            slot, dtype, device, step, time_ns, name = under_way.popleft()
            self._sink(step, time_ns, name, float(slot[0]))
            self._free.setdefault((dtype, device), []).append(slot)

    def _resolve_after_step(self) -> None:
        self.resolve()
        if not self.under_way:
            self._after_step.remove(self._resolve_after_step)

    def finish(self) -> None:
        """At shutdown: wait for what is under way. The training is over, so nothing is held up."""
        with guard.guarded("device scalars"):
            for (_, arrived), *_ in self.under_way:
                arrived.synchronize()
            self.resolve()


def _is_capturing() -> bool:
    cuda = sys.modules["torch"].cuda
    return bool(cuda.is_initialized() and cuda.is_current_stream_capturing())
