"""``torch.nn.Module.zero_grad``: what shows a loop that updates its parameters without an optimizer."""

from collections.abc import Callable
from typing import Any

from otel_train.hooks.compiled import skip_in_compiled_code
from otel_train.hooks.patching import replace
from otel_train.recorder.signals import signals


def install(torch: Any) -> Callable[[], None]:
    """Tell of each ``zero_grad`` of a module; returns the undo. About 0.3 µs a call."""
    zero_grad = torch.nn.Module.zero_grad

    def traced_zero_grad(self: Any, *args: Any, **kwargs: Any) -> Any:
        signals.gradients_cleared()
        return zero_grad(self, *args, **kwargs)

    skip_in_compiled_code(traced_zero_grad)
    return replace(torch.nn.Module, "zero_grad", traced_zero_grad)
