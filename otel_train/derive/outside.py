"""What goes on between steps: the time between them, divided among what kept the training thread from the next one."""

from collections.abc import Mapping, Sequence

import numpy as np

from otel_train.derive.steps import Column, StepScan

REST = "outside"
"""Between steps, and nothing recorded says why."""


def outside_times(
    steps: StepScan, blocking: Mapping[str, Sequence[tuple[int, int]]], skip: int = 0
) -> dict[str, float]:
    """Seconds between a rank's steps, from step ``skip`` to the last: of each kind of interval, and ``outside``.

    The intervals of ``blocking`` are start and end in ns on the rank's clock. What of one lies inside steps does not
    count; of nested intervals the outermost counts (a checkpoint saved during an evaluation is evaluation).
    """
    starts, durations = steps.starts_ns[skip:], steps.durations_ns[skip:]
    if not len(starts):
        return {}
    first, last = int(starts[0]), int((starts + durations).max())
    left_ns = max(last - first - int(durations.sum()), 0)
    times: dict[str, float] = {}
    gaps_before = _GapTime(starts, durations)
    for what, intervals in outermost(blocking).items():
        edges = np.clip(np.array(intervals, np.int64).reshape(-1, 2), first, last)
        inside_ns = min(max(int((gaps_before(edges[:, 1]) - gaps_before(edges[:, 0])).sum()), 0), left_ns)
        times[what] = inside_ns / 1e9
        left_ns -= inside_ns
    times[REST] = left_ns / 1e9
    return times


def outermost(blocking: Mapping[str, Sequence[tuple[int, int]]]) -> dict[str, list[tuple[int, int]]]:
    """The intervals that do not begin inside an earlier one."""
    kept: dict[str, list[tuple[int, int]]] = {}
    covered_until: int | None = None
    ordered = sorted((start, -end, what) for what, intervals in blocking.items() for start, end in intervals)
    for start, minus_end, what in ordered:
        if covered_until is None or start >= covered_until:
            covered_until = -minus_end
            kept.setdefault(what, []).append((start, covered_until))
    return kept


def overlap_ns(intervals: Sequence[tuple[int, int]], first: int, last: int) -> int:
    """How much of some intervals, which do not overlap each other, lies between two moments."""
    return sum(max(min(end, last) - max(start, first), 0) for start, end in intervals)


class _GapTime:
    """The time between steps that has passed before a moment, ns."""

    def __init__(self, starts: Column, durations: Column) -> None:
        self._starts, self._durations = starts, durations
        self._stepped = np.concatenate(([0], np.cumsum(durations)))

    def __call__(self, moments: Column) -> Column:
        latest = np.searchsorted(self._starts, moments, side="right") - 1
        inside = np.minimum(moments - self._starts[latest], self._durations[latest])
        gaps: Column = moments - self._stepped[latest] - inside
        return gaps
