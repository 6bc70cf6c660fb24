"""``torch.distributed.checkpoint``: save, asynchronous save and load with their stages, as torch's own logger tells.

Nothing is patched for it, but for a save by another process: a handler hears the start, end and failure of each
function. ``async_save`` is the part that the training waits for; ``save``, on the executor's thread, is the writing.
"""

import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

from otel_train import guard
from otel_train.checkpoint import Checkpoint, Parts
from otel_train.hooks.patching import replace

CALLS = {"save": "save", "async_save": "save", "load": "load"}
"""The functions that a script calls, and what kind of checkpoint each is."""


class Listener(logging.Handler):
    """Hears what torch says on its logger for checkpoints. Any thread; without a lock, so that none waits here."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._thread = threading.local()

    def handle(self, record: logging.LogRecord) -> bool:
        with guard.guarded("torch.distributed.checkpoint"):
            if isinstance(record.msg, dict):
                self._hear(record.msg)
        return True

    def _hear(self, message: dict[str, Any]) -> None:
        if message.get("event") == "start":
            self._begin(message)
        else:
            self._end(message, sys.exc_info()[1] if message.get("event") == "exception" else None)

    def _begin(self, message: dict[str, Any]) -> None:
        here = self._open_here()
        name, path = str(message.get("func_name")), message.get("checkpoint_id")
        if name in CALLS:
            scope: Checkpoint = Checkpoint(path, CALLS[name], f"dcp.{name}")
            scope.staging = name == "async_save"
        elif here and "." not in name:  # one for each key of the state dict has a dot
            scope = Parts(None, CALLS[here[0][1]], name.lstrip("_"))
            if here[0][2].path is None:
                here[0][2].path = path
        else:
            return
        scope.__enter__()
        here.append((str(message.get("uuid")), name, scope))

    def _end(self, message: dict[str, Any], error: BaseException | None) -> None:
        """The scope ends those left open inside it: torch does not tell of each stage that it failed."""
        here = self._open_here()
        for index, (uuid, _, scope) in enumerate(here):
            if uuid == message.get("uuid"):
                del here[index:]
                scope.__exit__(type(error) if error else None, error, None)
                return

    def _open_here(self) -> list[tuple[str, str, Checkpoint]]:
        try:
            here: list[tuple[str, str, Checkpoint]] = self._thread.open
        except AttributeError:
            here = self._thread.open = []
        return here


def install(module: Any) -> Callable[[], None]:
    """Hear of distributed checkpoints; returns the undo. About 30 µs a stage."""
    from torch.distributed.checkpoint.logger import _dcp_logger

    listener = Listener()
    _dcp_logger.addHandler(listener)
    undo_process = _trace_process()

    def undo() -> None:
        _dcp_logger.removeHandler(listener)
        listener.close()
        undo_process()

    return undo


def _trace_process() -> Callable[[], None]:
    """A save that a process beside the training writes: what a thread of ours waits for is the writing."""
    try:
        from torch.distributed.checkpoint._async_process_executor import _AsyncCheckpointProcess
    except ImportError:  # torch before 2.7
        return lambda: None
    save = _AsyncCheckpointProcess.save

    def traced_save(self: Any, *args: Any, **kwargs: Any) -> Any:
        path = kwargs.get("checkpoint_id") or getattr(kwargs.get("storage_writer"), "checkpoint_id", None)
        with Checkpoint(path, "save", "dcp.save"):
            return save(self, *args, **kwargs)

    return replace(_AsyncCheckpointProcess, "save", traced_save)
