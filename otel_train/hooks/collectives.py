"""Collectives that Python code calls in ``torch.distributed``: FSDP's, and the script's own.

Each is host time: with NCCL, or ``async_op``, it is the launch. DDP reduces gradients in C++, which is not seen here.
"""

import inspect
from collections.abc import Callable
from threading import get_ident
from types import ModuleType
from typing import Any

from otel_train import active, guard
from otel_train.hooks.patching import all_of, replace
from otel_train.names import COLLECTIVE, COLLECTIVE_TOTALS, COLLECTIVES
from otel_train.recorder.scopes import phase
from otel_train.recorder.signals import signals
from otel_train.runlog.events import Event

PAYLOAD = {
    "all_reduce": 0,
    "broadcast": 0,
    "reduce": 0,
    "gather": 0,
    "scatter": 1,
    "send": 0,
    "recv": None,
    "all_gather": 1,
    "all_gather_into_tensor": 1,
    "all_gather_single": 1,
    "reduce_scatter": 1,
    "reduce_scatter_tensor": 1,
    "reduce_scatter_single": 1,
    "all_to_all": 1,
    "all_to_all_single": 1,
    "barrier": None,
    "monitored_barrier": None,
    "batch_isend_irecv": None,
    "all_gather_object": None,
    "gather_object": None,
    "broadcast_object_list": None,
    "scatter_object_list": None,
}
"""By function, which of its arguments is the input: what is counted as its bytes. None: it has no tensor to count.

Not ``isend`` and ``irecv``: torch tells a ``P2POp`` by them, and one imported earlier would no longer be the same.
"""

INPUTS = ("tensor", "input", "input_tensor", "input_list", "input_tensor_list", "scatter_list")


class _Collectives:
    """The running totals of the process, by operation and size of the group."""

    def __init__(self, distributed: Any) -> None:
        self._world_size = distributed.get_world_size
        self._totals: dict[tuple[str, int], list[int]] = {}
        self._told: dict[tuple[str, int], list[int]] = {}
        self._inside = False

    def timed(self, torch: Any, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed where the training thread calls it. About 1.5 µs a call."""
        collective, index, group_of = phase(COLLECTIVE), PAYLOAD[name], _group_finder(function)

        def timed_collective(*args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_dynamo_compiling():
                return function(*args, **kwargs)
            recorder = active.recorder
            if recorder is None or self._inside or get_ident() != recorder.state.thread:
                return function(*args, **kwargs)
            self._inside = True
            start_ns = recorder.clock()
            try:
                return function(*args, **kwargs)
            finally:
                end_ns = recorder.clock()
                self._inside = False
                with guard.guarded("collectives"):
                    signals.took(collective, start_ns, end_ns)
                    self._add(name, group_of(args, kwargs), _bytes(index, args, kwargs), end_ns - start_ns)

        return timed_collective

    def _add(self, name: str, group: Any, size: int, duration_ns: int) -> None:
        try:
            ranks = int(self._world_size(group))
        except (RuntimeError, ValueError):  # the call itself failed: there is no such group
            return
        if ranks < 1:  # a group that this rank is not in: the call did nothing
            return
        total = self._totals.setdefault((name, ranks), [0, 0, 0])
        total[0] += 1
        total[1] += size
        total[2] += duration_ns

    def report(self) -> None:
        """Write the totals so far, where there are new ones."""
        recorder, totals = active.recorder, {key: list(total) for key, total in list(self._totals.items())}
        if recorder is None or totals == self._told:
            return
        self._told = totals
        rows = [[name, size, calls, io, time_ns / 1e9] for (name, size), (calls, io, time_ns) in totals.items()]
        recorder.sidelines.event(Event(COLLECTIVES, recorder.clock(), attributes={COLLECTIVE_TOTALS: rows}))


def _group_finder(function: Callable[..., Any]) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    """Finds the process group among a call's arguments, by name or by place; None is the default group."""
    parameters = list(inspect.signature(function).parameters)
    place = parameters.index("group") if "group" in parameters else len(parameters)

    def group_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args[place] if len(args) > place else kwargs.get("group")

    return group_of


def _bytes(index: int | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    if index is None:
        return 0
    payload = args[index] if len(args) > index else next((kwargs[name] for name in INPUTS if name in kwargs), ())
    tensors = payload if isinstance(payload, list | tuple) else (payload,)  # None where this rank gives nothing
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if hasattr(tensor, "element_size"))


def install(distributed: ModuleType) -> Callable[[], None]:
    """Time the collectives in both places where torch has them; returns the undo.

    Called while torch itself is still being imported: most of it is not there yet.
    """
    import torch

    places = [distributed, getattr(distributed, "distributed_c10d", None)]
    if places[1] is None:  # a torch without torch.distributed
        return lambda: None
    collectives = _Collectives(distributed)
    undo = []
    for name in PAYLOAD:
        function = places[1].__dict__.get(name)
        if function is None:
            continue
        timed = collectives.timed(torch, name, function)
        undo += [replace(place, name, timed) for place in places if place.__dict__.get(name) is function]
    signals.reports.append(collectives.report)
    return all_of([lambda: signals.reports.remove(collectives.report), *undo])
