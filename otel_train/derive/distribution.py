"""How the times of steps are distributed: a histogram of at most ``MOST_BINS`` bins that shows the bulk of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from otel_train.derive.steps import Column, StepScan

MOST_BINS = 50
LINEAR, LOGARITHMIC = "linear", "logarithmic"

LOGARITHMIC_FROM = 10.0
"""Where the longest step shown is so many times the shortest one, bins grow by a factor."""

FENCE = 4.0
"""What lies further than so many interquartile ranges (of the logarithms) from the quartiles is no part of the bulk."""

MOST_OUTSIDE = 1.0
"""At most so many per cent of the steps lie beyond either end."""


@dataclass(frozen=True)
class Distribution:
    """Steps by their time. Bin ``i`` holds ``[edges_s[i], edges_s[i + 1])``, the last one its upper edge too."""

    scale: str
    """``linear``, or ``logarithmic``: which bins are of equal width."""
    edges_s: list[float]
    counts: list[int]
    shorter: int
    longer: int
    """Steps below the first edge and above the last one; ``step_time`` has the extremes."""


def distribution(scans: Sequence[StepScan]) -> Distribution | None:
    """The times of the training steps of all ranks; None without one. ``sqrt(steps)`` bins, at most ``MOST_BINS``."""
    columns = [scan.durations_ns for scan in scans if scan.count]
    if not columns:
        return None
    durations = (np.concatenate(columns) if len(columns) > 1 else columns[0]) / 1e9
    low, high = _bulk(durations)
    shorter, longer = int(np.count_nonzero(durations < low)), int(np.count_nonzero(durations > high))
    if low == high:
        return Distribution(LINEAR, [low, high], [len(durations) - shorter - longer], shorter, longer)
    bins = min(max(int(len(durations) ** 0.5), 1), MOST_BINS)
    scale = LOGARITHMIC if low > 0 and high / low > LOGARITHMIC_FROM else LINEAR
    edges = np.geomspace(low, high, bins + 1) if scale == LOGARITHMIC else np.linspace(low, high, bins + 1)
    edges[0], edges[-1] = low, high  # geomspace rounds
    return Distribution(scale, edges.tolist(), np.histogram(durations, edges)[0].tolist(), shorter, longer)


def _bulk(durations_s: Column) -> tuple[float, float]:
    """The range that is shown: to the fences, or to the outermost of them that has the most outside it."""
    shortest, first, lower, upper, last, longest = np.percentile(
        durations_s, (0, MOST_OUTSIDE, 25, 75, 100 - MOST_OUTSIDE, 100)
    ).tolist()
    if lower <= 0:
        return shortest, longest
    factor = (upper / lower) ** FENCE
    return max(shortest, min(first, lower / factor)), min(longest, max(last, upper * factor))
