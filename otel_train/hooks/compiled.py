"""How a hook stays out of ``torch.compile``'s graphs."""

from collections.abc import Callable
from typing import Any


def skip_in_compiled_code(function: Callable[..., Any]) -> None:
    """Let dynamo run ``function`` as it is when it meets it, instead of tracing into it.

    With this a whole-step ``torch.compile`` makes the same graphs as without the hook, and the hook is still called; a
    check of ``is_compiling()`` in the function would cost the calls, and one graph break more. ``torch._C`` has it, so
    dynamo itself is not imported. An older torch has not: dynamo then takes the hook for any other function.
    """
    try:
        from torch._C._dynamo.eval_frame import _FrameAction, _FrameExecStrategy, set_code_exec_strategy
    except ImportError:
        return
    function._torchdynamo_disable = True  # type: ignore[attr-defined]  # else it tries to inline it first, and warns
    set_code_exec_strategy(function.__code__, _FrameExecStrategy(_FrameAction.SKIP, _FrameAction.DEFAULT))
