"""Which clock: durations from the monotonic clock, placed on the calendar by one anchor a process.

Monotonic times of two hosts are never subtracted; each rank's anchor turns its own into Unix time.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], int]
"""Monotonic nanoseconds. ``time.perf_counter_ns``, or ``otel_train.testing.FakeClock``."""


@dataclass(frozen=True)
class Anchor:
    """The same instant on both clocks, in ns."""

    unix_ns: int
    monotonic_ns: int

    @classmethod
    def now(cls, clock: Clock = time.perf_counter_ns) -> "Anchor":
        """Read both clocks; of three tries, the one in which the reads lie closest together."""
        tries = []
        for _ in range(3):
            before = clock()
            unix_ns = time.time_ns()
            after = clock()
            tries.append((after - before, unix_ns, (before + after) // 2))
        _, unix_ns, monotonic_ns = min(tries)
        return cls(unix_ns, monotonic_ns)

    def to_unix_ns(self, monotonic_ns: int) -> int:
        """Place a monotonic time of the same process on the calendar."""
        return self.unix_ns + int(monotonic_ns) - self.monotonic_ns

    def to_monotonic_ns(self, unix_ns: float) -> int:
        """The inverse, for what the same process wrote down with the calendar's time."""
        return self.monotonic_ns + int(unix_ns) - self.unix_ns
