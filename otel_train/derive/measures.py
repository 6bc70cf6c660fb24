"""Measures of training steps, of one rank or of several read as one: throughput, step time, phases, starvation.

Each takes the scans of all ranks. Rates and counts are summed over ranks, times of steps are pooled. Monotonic clocks
of two ranks are never compared: what places a rank on the calendar is its own anchor.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from otel_train.derive.phases import OTHER, PhaseTotal, PhaseTotals
from otel_train.derive.scalar_totals import CURVE_POINTS
from otel_train.derive.steps import AmountTotal, StepScan

PhaseTable = dict[tuple[int, str | None, str], PhaseTotal]
"""By depth, name of the phase around it, and name."""


@dataclass(frozen=True)
class Rate:
    """Something a second: over the whole time from the first step to the last, and over the time inside steps."""

    wall: float | None
    stepping: float | None


@dataclass(frozen=True)
class StepTime:
    """Times of steps in s. Percentiles are exact, linear between the two nearest steps."""

    mean_s: float
    min_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    max_s: float


@dataclass(frozen=True)
class PhaseShare:
    """One phase: time over all steps and ranks, its share of the step time, and its mean over all steps.

    ``parent`` is the phase around it, None for a step's own phases. The one named ``other`` with a count of None is
    what lay in no phase.
    """

    name: str
    parent: str | None
    depth: int
    time_s: float
    share: float
    per_step_s: float
    count: int | None


@dataclass(frozen=True)
class Starvation:
    """Waiting for data: its time, its share of the step time, and the steps that waited more than half their time."""

    data_wait_s: float
    share: float
    starved_steps: int
    starved_share: float
    mean_s: float
    p95_s: float
    """Of a step's wait, over all steps, those included that waited for none."""


@dataclass(frozen=True)
class Span:
    """When a run's steps took place. ``wall_s`` is on the calendar; the rest is summed over ranks."""

    first_unix_s: float
    last_unix_s: float
    wall_s: float
    stepping_s: float
    outside_s: float
    outside_share: float
    """Of the ranks' time from their first step to their last."""


def span(scans: Sequence[StepScan]) -> Span | None:
    """When the training steps took place; None without one."""
    bounds = [(scan, scan.bounds_ns) for scan in scans]
    placed = [(scan, found) for scan, found in bounds if found]
    if not placed:
        return None
    first = min(scan.anchor.to_unix_ns(start) for scan, (start, _) in placed)
    last = max(scan.anchor.to_unix_ns(end) for scan, (_, end) in placed)
    ranks_ns = sum(end - start for _, (start, end) in placed)
    stepping_ns = sum(scan.stepping_ns for scan, _ in placed)
    outside_ns = max(ranks_ns - stepping_ns, 0)
    return Span(
        first / 1e9,
        last / 1e9,
        (last - first) / 1e9,
        stepping_ns / 1e9,
        outside_ns / 1e9,
        outside_ns / ranks_ns if ranks_ns else 0.0,
    )


def step_rate(scans: Sequence[StepScan]) -> Rate:
    """Steps a second: the mean of the ranks, which all take the same steps."""
    rates = [_rate(AmountTotal(scan.count, scan.count, scan.stepping_ns), scan) for scan in scans if scan.count]
    return Rate(_mean(rate.wall for rate in rates), _mean(rate.stepping for rate in rates))


def amount_rate(scans: Sequence[StepScan], amount: Callable[[StepScan], AmountTotal]) -> Rate:
    """Samples or tokens a second, summed over ranks; None when a rank with steps knows none of its own."""
    rates = [_rate(amount(scan), scan) for scan in scans if scan.count]
    return Rate(_sum(rate.wall for rate in rates), _sum(rate.stepping for rate in rates))


def _rate(amount: AmountTotal, scan: StepScan) -> Rate:
    """Steps whose count is missing are taken to be like the others."""
    if not amount.steps or not amount.time_ns or scan.bounds_ns is None:
        return Rate(None, None)
    start, end = scan.bounds_ns
    stepping = amount.total / (amount.time_ns / 1e9)
    return Rate(stepping * scan.stepping_ns / (end - start), stepping)


def step_time(scans: Sequence[StepScan]) -> StepTime | None:
    """Mean, extremes and percentiles over the steps of all ranks; None without a step."""
    columns = [scan.durations_ns for scan in scans if scan.count]
    if not columns:
        return None
    durations = columns[0] if len(columns) == 1 else np.concatenate(columns)
    p50, p95, p99 = (np.percentile(durations, (50, 95, 99)) / 1e9).tolist()
    mean, low, high = float(durations.mean()) / 1e9, int(durations.min()) / 1e9, int(durations.max()) / 1e9
    return StepTime(mean, low, p50, p95, p99, high)


def step_time_curve(scan: StepScan) -> list[float]:
    """The mean step time, in s, of up to ``CURVE_POINTS`` parts of a rank's run with equal numbers of steps."""
    points = min(CURVE_POINTS, scan.count)
    if not points:
        return []
    starts = np.arange(points) * scan.count // points
    totals = np.add.reduceat(scan.durations_ns, starts)
    means: list[float] = (totals / np.diff(np.append(starts, scan.count)) / 1e9).tolist()
    return means


def phase_table(scans: Sequence[StepScan], choose: Callable[[StepScan], PhaseTotals]) -> PhaseTable:
    """The phases of all ranks by their names, added up."""
    table: PhaseTable = {}
    for scan in scans:
        for place, total in choose(scan).by_name(scan.phase_names).items():
            table.setdefault(place, PhaseTotal()).merge(total)
    return table


def phase_shares(scans: Sequence[StepScan]) -> list[PhaseShare]:
    """Every phase, outer ones first and the longest of each depth first; ``other`` is the last of depth 0."""
    step_s = sum(scan.stepping_ns for scan in scans) / 1e9
    steps = sum(scan.count for scan in scans)
    if not steps or not step_s:
        return []
    table = phase_table(scans, lambda scan: scan.phases)
    unfit = table.pop((0, None, OTHER), PhaseTotal()).time_s
    inside_s = sum(total.time_s for (depth, _, _), total in table.items() if depth == 0)
    other_s = max(step_s - inside_s, unfit, 0.0)
    shares = [
        PhaseShare(name, parent, depth, total.time_s, total.time_s / step_s, total.time_s / steps, total.count)
        for (depth, parent, name), total in table.items()
    ]
    shares.append(PhaseShare(OTHER, None, 0, other_s, other_s / step_s, other_s / steps, None))
    return sorted(shares, key=lambda share: (share.depth, share.count is None, -share.time_s, share.name))


def starvation(scans: Sequence[StepScan]) -> Starvation | None:
    """How much the steps waited for data; None where no wait is recorded, which is not the same as no wait."""
    if not any(scan.waits_ns.any() for scan in scans):
        return None
    steps = sum(scan.count for scan in scans)
    waited_s = sum(float(scan.waits_ns.sum(dtype=np.float64)) for scan in scans) / 1e9
    stepping_s = sum(scan.stepping_ns for scan in scans) / 1e9
    starved = sum(int(np.count_nonzero(scan.waits_ns * 2.0 > scan.durations_ns)) for scan in scans)
    waits = np.concatenate([scan.waits_ns for scan in scans]) if len(scans) > 1 else scans[0].waits_ns
    p95_s = float(np.percentile(waits, 95)) / 1e9
    return Starvation(waited_s, waited_s / stepping_s, starved, starved / steps, waited_s / steps, p95_s)


def known_total(scans: Sequence[StepScan], amount: Callable[[StepScan], AmountTotal]) -> int | None:
    """The sum over the steps where the amount is known; None when it is known of none."""
    known = [amount(scan) for scan in scans if amount(scan).steps]
    return sum(total.total for total in known) if known else None


def _sum(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if not known or None in known else float(sum(value for value in known if value is not None))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
