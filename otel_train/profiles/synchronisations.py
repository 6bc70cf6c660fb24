"""Where the host waited for the GPU: which call, in which operator, and on which line where stacks were recorded."""

from dataclasses import dataclass

import numpy as np

from otel_train.profiles.device import WAITS
from otel_train.profiles.trace import OPERATOR, PYTHON, RUNTIME, Column, Trace

FOREIGN = ("torch/", "<", "nn.Module", "site-packages", "dist-packages", "lib/python")
"""What a frame that is not the user's own begins with, or holds."""


@dataclass(frozen=True)
class Wait:
    """Calls of one kind from one place."""

    call: str
    operator: str | None
    """The outermost operator around it: ``aten::item``; None where Python called it directly."""
    line: str | None
    """``train.py(42): step``; None where no stacks were recorded."""
    calls: int
    waited_s: float


def waits(trace: Trace, start_ns: int, end_ns: int) -> list[Wait]:
    """Of a window, the longest first."""
    calls = trace.of(RUNTIME)
    calls = calls[(trace.end_ns[calls] > start_ns) & (trace.start_ns[calls] < end_ns)]
    found: dict[tuple[str, str | None, str | None], list[int]] = {}
    for call in calls:
        if WAITS.search(trace.named(call)):
            around = _around(trace, call)
            frames = [trace.named(index) for index in around if trace.kind[index] == PYTHON]
            operators = [trace.named(index) for index in around if trace.kind[index] == OPERATOR]
            own = [frame for frame in frames if not any(part in frame for part in FOREIGN)]
            key = trace.named(call), operators[0] if operators else None, own[-1] if own else None
            found.setdefault(key, []).append(int(trace.end_ns[call] - trace.start_ns[call]))
    rows = [Wait(*key, len(took), sum(took) / 1e9) for key, took in found.items()]
    return sorted(rows, key=lambda wait: (-wait.waited_s, wait.call))


def _around(trace: Trace, index: int) -> Column:
    """The events of the same thread that hold it, the outermost first."""
    holding: Column = np.flatnonzero(
        (trace.thread == trace.thread[index])
        & (trace.device < 0)
        & (trace.start_ns <= trace.start_ns[index])
        & (trace.end_ns >= trace.end_ns[index])
    )
    others: Column = holding[holding != index]
    return others
