"""Where one interval of a run ends and the next begins: at a checkpoint, at an epoch's end, after ten minutes.

The first interval is the start-up: it ends where the first step begins. Times are ns on the rank's monotonic clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from otel_train import names
from otel_train.runlog.events import Event

LONGEST_NS = 600_000_000_000
START_UP = 0
"""The index of the start-up."""
SAVE = "save"


@dataclass(frozen=True)
class Closed:
    """An interval that is over: its place in the run, when it was, and how many steps ended in it."""

    index: int
    start_ns: int
    end_ns: int
    steps: int
    suppressed: int
    """Slow steps that did not become traces because there were too many."""


@dataclass
class Interval:
    """The interval that is going on. Its state is what an export must remember to go on elsewhere."""

    index: int
    start_ns: int
    used: bool = False
    """Whether anything happened in it: an empty one leaves no trace."""
    steps: int = 0
    suppressed: int = 0

    def is_too_long(self, now_ns: int) -> bool:
        """Did it last longer than an interval may?"""
        return now_ns - self.start_ns > LONGEST_NS

    def pass_time(self, now_ns: int) -> Iterator[Closed]:
        """Time has passed until ``now_ns``: close the interval if it got too long. The next begins where it ended."""
        if self.is_too_long(now_ns):
            yield from self.close(self.start_ns + LONGEST_NS)
            self.start_ns = max(self.start_ns, now_ns - LONGEST_NS)

    def close(self, end_ns: int) -> Iterator[Closed]:
        """End it now, if anything happened in it."""
        end_ns = max(end_ns, self.start_ns)
        if self.used:
            yield Closed(self.index, self.start_ns, end_ns, self.steps, self.suppressed)
            self.index += 1
        self.start_ns, self.used, self.steps, self.suppressed = end_ns, False, 0, 0

    def leave_start_up(self, first_step_ns: int) -> Iterator[Closed]:
        """The first step begins."""
        if self.index == START_UP:
            self.used = True
            yield from self.close(first_step_ns)


def is_boundary(event: Event) -> bool:
    """Does an interval end with this event?"""
    if event.duration_ns is None:
        return False
    if event.kind == names.CHECKPOINT:
        goes_on = event.attributes.get(names.CHECKPOINT_MODE) == names.STAGING and event.error is None
        return bool(event.attributes.get(names.CHECKPOINT_KIND, SAVE) == SAVE) and not goes_on
    return event.kind == names.EPOCH
