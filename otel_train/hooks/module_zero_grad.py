"""``torch.nn.Module.zero_grad``: what shows a loop that updates its parameters without an optimizer."""

from collections.abc import Callable
from typing import Any

from otel_train.hooks.patching import replace
from otel_train.recorder.signals import signals


def install(torch: Any) -> Callable[[], None]:
    """Tell of each ``zero_grad`` of a module; returns the undo. About 0.3 µs a call."""
    zero_grad, is_compiling = torch.nn.Module.zero_grad, torch.compiler.is_dynamo_compiling

    def traced_zero_grad(self: Any, *args: Any, **kwargs: Any) -> Any:
        if is_compiling():
            return zero_grad(self, *args, **kwargs)
        signals.gradients_cleared()
        return zero_grad(self, *args, **kwargs)

    return replace(torch.nn.Module, "zero_grad", traced_zero_grad)
