"""Interleaved rounds: off, on, off. What ``on`` costs is its time less the mean of the two around it."""

import gc
import statistics
import time
from collections.abc import Callable

Loop = Callable[[int], object]


def added_cost_ns(off: Loop, on: Loop, steps: int, rounds: int) -> list[float]:
    """Nanoseconds a step that ``on`` adds to ``off``, one value a round."""
    costs = []
    for _ in range(rounds):
        gc.collect()
        before, during, after = (_time_ns(loop, steps) for loop in (off, on, off))
        costs.append((during - (before + after) / 2) / steps)
    return costs


def row(name: str, costs_ns: list[float]) -> str:
    """A line of the table: minimum and median in µs."""
    return f"{name:44}{min(costs_ns) / 1000:10.2f}{statistics.median(costs_ns) / 1000:10.2f}"


def _time_ns(loop: Loop, steps: int) -> int:
    start = time.perf_counter_ns()
    loop(steps)
    return time.perf_counter_ns() - start
