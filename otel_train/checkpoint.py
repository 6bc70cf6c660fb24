"""Checkpoints: an event for each one saved or loaded, and one for each part of it that is known apart."""

import os
import stat
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from otel_train.event_scope import EventScope
from otel_train.names import (
    BACKGROUND,
    CHECKPOINT,
    CHECKPOINT_KIND,
    CHECKPOINT_MODE,
    CHECKPOINT_PATH,
    CHECKPOINT_RATE,
    CHECKPOINT_SIZE,
    CHECKPOINT_STAGE,
    CHECKPOINT_STAGE_KIND,
    FUNCTION_NAME,
    STAGING,
)

if TYPE_CHECKING:
    from otel_train.recorder.hot_path import Recorder

UNNAMED_STAGE = "checkpoint"
"""The stage that a ``trace_checkpoint`` inside another one is."""

LONGEST_LOOK_S = 0.5
"""How long a folder is looked at for its size: the training waits, and a shared file system may be slow to tell."""

_thread = threading.local()


class Checkpoint(EventScope):
    """A checkpoint written or read. Inside another one of the same thread it is a stage of that one, and no second.

    ``path`` is None where it is not known (yet), ``call`` what writes or reads it. A failed one has an error, and
    neither size nor rate.
    """

    kind = CHECKPOINT

    def __init__(self, path: "str | os.PathLike[str] | None", kind: str, call: str | None = None) -> None:
        super().__init__({CHECKPOINT_KIND: kind})
        self.path = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else None
        self.staging = False
        """The writing goes on elsewhere when this is over, and is an event of its own."""
        self._call = call
        self._outer: Checkpoint | None = None
        self._failed = self._goes_on = False
        self._size_of_stages = 0

    def __enter__(self) -> "Checkpoint":
        super().__enter__()
        if self._recorder is not None:
            _open_here().append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        here = _open_here()
        if self in here:
            while (inner := here.pop()) is not self:  # a stage that nobody said was over: an exception left it
                inner.__exit__(kind, error, trace)
        self._failed = error is not None
        super().__exit__(kind, error, trace)

    def begun(self, recorder: "Recorder") -> None:
        self._size_of_stages = 0
        self._goes_on = self.staging
        open_ones = (each for each in reversed(_open_here()) if each._recorder is recorder)
        self._outer = next(open_ones, None)
        self.kind = CHECKPOINT if self._outer is None else CHECKPOINT_STAGE_KIND

    def ended(self, recorder: "Recorder", duration_ns: int) -> dict[str, Any] | None:
        size = None if self._failed or self._goes_on else self.size()
        if size is None and self._size_of_stages and not (self._failed or self._goes_on):
            size = self._size_of_stages
        attributes = self._role(recorder)
        path = self.path or (self._outer.path if self._outer is not None else None)
        if path is not None:
            attributes[CHECKPOINT_PATH] = path
        if size is None:
            return attributes
        if self._outer is not None:
            self._outer._size_of_stages += size
        rate = {CHECKPOINT_RATE: size / (duration_ns / 1e9)} if duration_ns else {}
        return {**attributes, CHECKPOINT_SIZE: size, **rate}

    def size(self) -> int | None:
        """Bytes, now that it is over; None where that is not known, then what its stages wrote stands in."""
        return None if self.path is None else size_of(self.path)

    def _role(self, recorder: "Recorder") -> dict[str, Any]:
        if self._outer is not None:
            self._outer._goes_on |= self._goes_on
            return {CHECKPOINT_KIND: self._outermost_kind(), CHECKPOINT_STAGE: self._call or UNNAMED_STAGE}
        attributes = {} if self._call is None else {FUNCTION_NAME: self._call}
        if self._goes_on:
            attributes[CHECKPOINT_MODE] = STAGING
        elif recorder.sidelines.foreign_thread_name() is not None:
            attributes[CHECKPOINT_MODE] = BACKGROUND
        return attributes

    def _outermost_kind(self) -> str:
        """A stage is of its checkpoint's kind: what a save reads again, to check it, is part of the save."""
        outermost = self
        while outermost._outer is not None:
            outermost = outermost._outer
        return str(outermost.attributes[CHECKPOINT_KIND])


class Parts(Checkpoint):
    """One whose size is that of its stages: what lies at its path may be more, or less."""

    def size(self) -> int | None:
        return None


def _open_here() -> list[Checkpoint]:
    """The checkpoints that the calling thread is in, outermost first."""
    try:
        here: list[Checkpoint] = _thread.open
    except AttributeError:
        here = _thread.open = []
    return here


def size_of(path: "str | os.PathLike[str]") -> int | None:
    """Bytes of a file, or of all files in a folder; None where there is neither, or too much to look at."""
    try:
        status = os.stat(path)
        return _size_of_folder(path) if stat.S_ISDIR(status.st_mode) else status.st_size
    except OSError:
        return None


def _size_of_folder(path: "str | os.PathLike[str]") -> int | None:
    deadline_s = time.monotonic() + LONGEST_LOOK_S
    total = 0
    for at, _, names in os.walk(path):
        for name in names:
            total += os.stat(os.path.join(at, name)).st_size
            if time.monotonic() > deadline_s:
                return None
    return total
