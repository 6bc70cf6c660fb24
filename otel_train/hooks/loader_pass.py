"""``DataLoader.__iter__``: a new pass over data begins, which with workers takes 20 ms and more."""

from collections.abc import Callable
from typing import Any

from otel_train.hooks.patching import replace
from otel_train.recorder.signals import signals


def install(torch: Any) -> Callable[[], None]:
    """End the step that has stepped before its workers start, not with the first batch; returns the undo.

    About 0.3 µs a pass.
    """
    from torch.utils.data import DataLoader

    begin = DataLoader.__iter__

    def traced_iter(self: Any) -> Any:
        signals.between_steps()
        return begin(self)

    return replace(DataLoader, "__iter__", traced_iter)
