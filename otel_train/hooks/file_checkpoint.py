"""Which of the calls that write and read tensors are checkpoints: the one rule for ``torch.save`` and the like.

They are also how small things and data sets are kept, thousands a second at times. So these are no checkpoints:

- what torch itself saves and loads: pickling a tensor does, and each part of a distributed checkpoint;
- what is loaded by a data loader, in the training's process (its workers record nothing anyway);
- what is loaded, or saved in memory, under 1 MiB and in less than 10 ms;
- what happens more than once a second, beyond the first hundred, and takes less than a second.

All but the first are counted (``otel_train.checkpoints.left_out``). A save that fails is always recorded.
"""

import io
import os
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from otel_train import active, guard
from otel_train.checkpoint import Checkpoint, size_of
from otel_train.hooks.compiled import skip_in_compiled_code

if TYPE_CHECKING:
    from otel_train.recorder.hot_path import Recorder

SMALL_BYTES = 1 << 20
SHORT_NS = 10_000_000
LONG_NS = 1_000_000_000
BURST = 100

UNTOLD = (AttributeError, OSError, ValueError, TypeError, NotImplementedError)
"""What a thing raises that is no file, is closed, or does not know."""

DATA_READERS = ("torch.utils.data.", "torchdata.", "otel_train.traced_loader")


class Pace:
    """A burst, and then one a second: a checkpoint is not made more often for long."""

    def __init__(self) -> None:
        self._left = float(BURST)
        self._seen_s = time.monotonic()

    def allows(self) -> bool:
        """Would one more be within it?"""
        now_s = time.monotonic()
        self._left = min(self._left + now_s - self._seen_s, BURST)
        self._seen_s = now_s
        return self._left >= 1

    def take(self) -> None:
        """There was one more."""
        self._left -= 1


class FileCheckpoint(Checkpoint):
    """One call that writes to, or reads from, ``file``: a path or something open."""

    def __init__(self, file: Any, kind: str, call: str, pace: Pace, is_data: bool = False) -> None:
        super().__init__(path_of(file), kind, call)
        self._file = file
        self._pace = pace
        self._is_data = is_data
        self._is_load = kind == "load"
        self._before = size_to_load(file) if self._is_load else position_of(file)
        is_small_load = self._is_load and self._before is not None and self._before < SMALL_BYTES
        self.ends_step = not is_data and not is_small_load and pace.allows()

    def size(self) -> int | None:
        """Bytes of the file, or written to it, by how far the place to write has moved."""
        if self._is_load:
            return self._before
        after = position_of(self._file)
        if after is None or self._before is None:
            return super().size()
        return after - self._before

    def ended(self, recorder: "Recorder", duration_ns: int) -> dict[str, Any] | None:
        if self._is_left_out(duration_ns):
            recorder.sidelines.leave_out()
            return None
        self._pace.take()
        return super().ended(recorder, duration_ns)

    def _is_left_out(self, duration_ns: int) -> bool:
        if self._is_data:
            return True
        if self._failed and not self._is_load:
            return False
        if duration_ns < SHORT_NS and (self._is_load or self.path is None) and (self.size() or 0) < SMALL_BYTES:
            return True
        return duration_ns < LONG_NS and not self._pace.allows()


def traced(function: Callable[..., Any], kind: str, call: str, place: int, name: str, pace: Pace) -> Callable[..., Any]:
    """``function``, each call of it a checkpoint. The file is its argument ``place``, or ``name``."""

    def traced_call(*args: Any, **kwargs: Any) -> Any:
        if active.recorder is None:
            return function(*args, **kwargs)
        scope = None
        with guard.guarded(call):
            file = args[place] if len(args) > place else kwargs.get(name)
            scope = _scope(file, kind, call, pace, sys._getframe(1))
        if scope is None:
            return function(*args, **kwargs)
        with scope:
            return function(*args, **kwargs)

    skip_in_compiled_code(traced_call)
    traced_call.__dict__["_torchdynamo_disable"] = True  # dynamo calls it, as torch.save itself, and traces nothing
    return traced_call


def _scope(file: Any, kind: str, call: str, pace: Pace, caller: FrameType) -> FileCheckpoint | None:
    module = caller.f_globals.get("__name__") or ""
    if module.startswith("torch.") and module != "torch.hub":
        return None
    return FileCheckpoint(file, kind, call, pace, kind == "load" and _reads_data(caller))


def _reads_data(frame: FrameType | None) -> bool:
    """Is a loader waiting for this? About 50 ns a frame."""
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith(DATA_READERS):
            return True
        frame = frame.f_back
    return False


def path_of(file: Any) -> str | None:
    """Where a file is, also one that is open; None for what is only in memory."""
    if not isinstance(file, (str, bytes, os.PathLike)):
        file = getattr(file, "name", None)
    return os.fsdecode(file) if isinstance(file, (str, bytes, os.PathLike)) else None


def size_to_load(file: Any) -> int | None:
    """Bytes of what is about to be read; None where only reading would tell."""
    try:
        if isinstance(file, io.BytesIO):
            return file.getbuffer().nbytes
        return os.fstat(file.fileno()).st_size
    except UNTOLD:  # a path, or something that is open elsewhere
        path = path_of(file)
        return None if path is None else size_of(path)


def position_of(file: Any) -> int | None:
    """Where the next byte is written in an open file; None for a path, and for what does not tell."""
    if isinstance(file, (str, bytes, os.PathLike)):
        return None
    try:
        return int(file.tell())
    except UNTOLD:  # a pipe, say
        return None
