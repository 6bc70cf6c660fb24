"""``torch.amp.GradScaler``: a step in which it found infinities has no optimizer step, yet it is a step."""

from collections.abc import Callable
from typing import Any

from otel_train.hooks.patching import replace
from otel_train.recorder.signals import signals


def install(torch: Any) -> Callable[[], None]:
    """Time a scaler's step as the optimizer's, and mark the steps that it skips; returns the undo.

    Whether it skips is on the device; what tells is that the optimizer's own hook was not called.
    """
    step = torch.amp.GradScaler.step

    def traced_step(self: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        taken = signals.optimizer_steps
        signals.optimizer_began(optimizer)
        try:
            result = step(self, optimizer, *args, **kwargs)
            if signals.optimizer_steps == taken:
                signals.optimizer_skipped()
            return result
        finally:
            signals.optimizer_ended(optimizer)

    return replace(torch.amp.GradScaler, "step", traced_step)
