"""``Optimizer.zero_grad``: seldom worth a word, but with many or large gradients it is a part of the step."""

from collections.abc import Callable
from typing import Any

from otel_train.hooks.patching import replace
from otel_train.names import ZERO_GRAD
from otel_train.recorder.scopes import phase
from otel_train.recorder.signals import signals

MATTERS_NS = 500_000
"""From this long on it is a phase; shorter, it stays in the step's rest."""


TRIALS = 50
"""After so many calls of which none mattered the hook takes itself off."""


def install(torch: Any) -> Callable[[], None]:
    """Time each ``zero_grad()`` and tell of those that matter; returns the undo. About 0.5 µs a call, at first."""
    zeroing = phase(ZERO_GRAD)
    zero_grad, is_compiling = torch.optim.Optimizer.zero_grad, torch.compiler.is_dynamo_compiling
    left = TRIALS

    def timed_zero_grad(self: Any, set_to_none: bool = True) -> None:
        nonlocal left
        if is_compiling():
            zero_grad(self, set_to_none)
            return
        start_ns = signals.clock()
        zero_grad(self, set_to_none)
        end_ns = signals.clock()
        if end_ns - start_ns > MATTERS_NS:
            left = -1
            signals.took(zeroing, start_ns, end_ns)
        elif left > 0:
            left -= 1
            if not left:
                undo()

    undo = replace(torch.optim.Optimizer, "zero_grad", timed_zero_grad)
    return undo
