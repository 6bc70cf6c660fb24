"""What the tests of checkpoint hooks share: a run with the hooks in place, and models and files to save."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import torch

from otel_train import instrumentation
from otel_train.names import GC_PAUSE
from otel_train.testing import Recording, record

MIB = 1 << 20
FLOATS_PER_MIB = MIB // 4


@contextlib.contextmanager
def hooked(**settings: Any) -> Iterator[Recording]:
    """A run in memory, under the hooks."""
    instrumentation.instrument()
    try:
        with record(**settings) as run:
            yield run
    finally:
        instrumentation.uninstrument()


def told(run: Recording) -> list[Any]:
    """The events so far, but for pauses of the garbage collector: they come when they like."""
    return [event for event in run.events if event.kind != GC_PAUSE]


def checkpoints(run: Recording) -> list[Any]:
    """The checkpoints so far."""
    return [event for event in run.events if event.kind == "checkpoint"]


def stages(run: Recording) -> list[Any]:
    """The stages of checkpoints so far."""
    return [event for event in run.events if event.kind == "checkpoint.stage"]


def stage_names(run: Recording) -> list[str]:
    """Their names, in the order of their ends."""
    return [event.attributes["dl.checkpoint.stage"] for event in stages(run)]


def about(mib: float) -> "torch.Tensor":
    """A tensor of so many MiB."""
    return torch.arange(int(mib * FLOATS_PER_MIB), dtype=torch.float32)


def left_out(run: Recording) -> int:
    """What the run's last word on itself says was no checkpoint."""
    health = [event for event, _ in run.log.events() if event.kind == "health"]
    count: int = health[-1].attributes.get("otel_train.checkpoints.left_out", 0)
    return count


class SlowToPickle:
    """Takes so long to pickle, at least."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __reduce__(self) -> Any:
        time.sleep(self.seconds)
        return (float, (self.seconds,))


class SlowFile:
    """A file in memory whose first write takes so long, at least."""

    def __init__(self, seconds: float) -> None:
        self.content = bytearray()
        self.seconds = seconds

    def write(self, data: Any) -> int:
        time.sleep(self.seconds)
        self.seconds = 0.0
        self.content += bytes(data)
        return len(data)

    def tell(self) -> int:
        return len(self.content)

    def flush(self) -> None:
        pass
