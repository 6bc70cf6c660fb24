"""``torch.autograd.backward``: what ``Tensor.backward`` and every framework calls."""

from collections.abc import Callable
from typing import Any

from otel_train.hooks.compiled import skip_in_compiled_code
from otel_train.hooks.patching import replace
from otel_train.recorder.signals import signals


def install(torch: Any) -> Callable[[], None]:
    """Time each backward of the training; returns the undo. About 0.8 µs a call.

    ``Tensor.backward`` looks the function up when it is called, so patching it once is enough.
    """
    backward = torch.autograd.backward

    def traced_backward(*args: Any, **kwargs: Any) -> Any:
        if not signals.backward_began():
            return backward(*args, **kwargs)
        try:
            return backward(*args, **kwargs)
        finally:
            signals.backward_ended()

    skip_in_compiled_code(traced_backward)
    return replace(torch.autograd, "backward", traced_backward)
