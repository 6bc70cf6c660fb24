"""``torch.compile``: each compilation, and each recompilation, is an event on the step that waited for it."""

import threading
from collections.abc import Callable
from typing import Any

from otel_train import active, guard
from otel_train.names import COMPILATION, COMPILATION_ID, COMPILATION_TRIGGER, RECOMPILATION
from otel_train.recorder.signals import signals


def install(callback: Any) -> Callable[[], None]:
    """Listen to dynamo's own callbacks (``torch._dynamo.callback``); returns the undo. Free while nothing compiles."""
    handler, under_way = callback.callback_handler, threading.local()

    def began(*arguments: Any) -> None:
        if not hasattr(under_way, "starts"):
            under_way.starts = []
        if not under_way.starts:  # on whatever thread: the training waits for autograd's to compile the backward
            active.going_on.append(handler)
        under_way.starts.append(signals.clock())

    def ended(*arguments: Any) -> None:
        recorder, starts = active.recorder, getattr(under_way, "starts", None)
        if not starts:
            return
        start_ns = starts.pop()
        if not starts and handler in active.going_on:
            active.going_on.remove(handler)
        if recorder is not None:
            with guard.guarded("compilation"):
                now = recorder.clock()
                recorder.sidelines.span(COMPILATION, start_ns, now - start_ns, None, _described(*arguments))

    handler.register_start_callback(began)
    handler.register_end_callback(ended)

    def undo() -> None:
        while handler in active.going_on:
            active.going_on.remove(handler)
        for callbacks, ours in ((handler.start_callbacks, began), (handler.end_callbacks, ended)):
            if ours in callbacks:  # torch._dynamo.reset() takes every callback off
                callbacks.remove(ours)

    return undo


def _described(told: Any = None, *_: Any) -> dict[str, Any]:
    """What dynamo says of it: id (frame/attempt), what triggered it, whether the frame was compiled before."""
    identity, trigger = getattr(told, "compile_id", None), getattr(told, "callback_trigger", None)
    described: dict[str, Any] = {}
    if identity is not None:
        attempt = str(identity).rpartition("/")[2].partition("_")[0]
        described = {COMPILATION_ID: str(identity), RECOMPILATION: attempt.isdecimal() and int(attempt) > 0}
    if trigger is not None:
        described[COMPILATION_TRIGGER] = getattr(trigger, "name", str(trigger)).lower()
    return described
