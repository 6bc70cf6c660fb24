"""What was profiled."""

from dataclasses import dataclass

from otel_train.runlog.layout import MISSING


@dataclass
class Window:
    """Steps under the profiler, or a block of the script's."""

    first: int | None
    """The step, or the first of several; of a block the one that it is in, None between steps."""
    reason: str
    left: int
    """Steps to come."""
    name: str | None = None
    """The block's."""
    epoch: int = MISSING
    began_ns: int = 0
    ended_ns: int = 0
    cost_ns: int = 0
    """What starting and stopping took."""
    steps: int = 0
    """Steps seen."""
    spans: bool = False
    """Whether its outermost operators become spans."""
