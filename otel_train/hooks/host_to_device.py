"""Copies from the host to a device: ``Tensor.to`` and ``Tensor.cuda``, which frameworks and scripts move batches by."""

from collections.abc import Callable
from typing import Any

from otel_train.hooks.patching import all_of
from otel_train.names import HOST_TO_DEVICE
from otel_train.recorder.scopes import phase
from otel_train.recorder.signals import signals

METHODS = ("to", "cuda")


def install(torch: Any) -> Callable[[], None]:
    """Time each copy of a tensor from the host to a device; returns the undo. About 0.3 µs for any other ``to()``.

    Host time: a copy from pinned memory with ``non_blocking`` takes the host microseconds, whatever it takes the
    device. In compiled code the methods are never called.
    """
    copying = phase(HOST_TO_DEVICE)

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def timed_method(self: Any, *args: Any, **kwargs: Any) -> Any:
            start_ns = signals.clock()
            moved = method(self, *args, **kwargs)
            if moved.is_cuda and not self.is_cuda:
                signals.took(copying, start_ns, signals.clock())
            return moved

        timed_method.__name__ = method.__name__
        timed_method.__doc__ = method.__doc__
        return timed_method

    return all_of([_shadow(torch.Tensor, name, timed(getattr(torch.Tensor, name))) for name in METHODS])


def _shadow(owner: Any, name: str, function: Callable[..., Any]) -> Callable[[], None]:
    """Set a method that ``owner`` has from its base; the undo takes it off again."""
    setattr(owner, name, function)

    def undo() -> None:
        if owner.__dict__.get(name) is function:
            delattr(owner, name)

    return undo
