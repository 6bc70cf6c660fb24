"""``torch.nn.utils.clip_grad_norm_`` and ``clip_grad_value_``, which frameworks call too."""

from collections.abc import Callable
from typing import Any

from otel_train.hooks.patching import all_of, replace
from otel_train.names import CLIPPING
from otel_train.recorder.scopes import phase

FUNCTIONS = ("clip_grad_norm_", "clip_grad_value_")


def install(torch: Any) -> Callable[[], None]:
    """Time gradient clipping; returns the undo. In a compiled function it stays part of the graph, untimed."""
    from torch.nn.utils import clip_grad

    clipping, is_compiling = phase(CLIPPING), torch.compiler.is_dynamo_compiling

    def timed(clip: Callable[..., Any]) -> Callable[..., Any]:
        def timed_clip(*args: Any, **kwargs: Any) -> Any:
            if is_compiling():
                return clip(*args, **kwargs)
            with clipping:
                return clip(*args, **kwargs)

        return timed_clip

    undo = []
    for name in FUNCTIONS:
        function = timed(getattr(clip_grad, name))
        undo += [replace(place, name, function) for place in (clip_grad, torch.nn.utils)]
    return all_of(undo)
