"""A run in its steady state: what a mean step takes and does, and where its time goes, over all ranks.

Left out are the first steps, which warm up, checkpoints and evaluations. The clock is the slowest rank's; every rank's
time a step is divided among the same classes, so that with what it waits for others they make up the whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from otel_train import names
from otel_train.derive.evidence import CHECKPOINT, COMMUNICATION, COMPUTE, EVALUATION, Evidence, gather
from otel_train.derive.imbalance import Imbalance
from otel_train.derive.measures import phase_table
from otel_train.derive.scan import RankScan
from otel_train.derive.steps import AmountTotal

IMBALANCE = "imbalance"
"""Waiting of a rank for slower ones."""

LEFT_OUT = (CHECKPOINT, EVALUATION)


@dataclass(frozen=True)
class Steady:
    """The mean step after the warm-up. Times are s a step; amounts are of all ranks, those without a record too."""

    workers: int
    """The world size; how many ranks are recorded, where none says it."""
    ranks: int
    """How many ranks with steps are recorded; the others are taken to be like them."""
    steps: float
    """The steps of a rank that were judged, the mean of the ranks."""
    step_s: float
    """By the clock of the slowest rank."""
    samples: float | None
    tokens: float | None
    """None where a rank knows none of its own."""
    times_s: dict[str, float]
    """By class, as the evidence has them, and ``imbalance``: the mean of the ranks. They add up to ``step_s``."""
    forward_s: float | None
    """The part of ``compute`` that is not backward; None where forward or backward is not known."""
    left_out_s: float
    """Checkpoints and evaluations, of the rank that spent most on them: over the run, not a step."""


def steady(scans: Sequence[RankScan], waiting: Imbalance | None = None) -> Steady | None:
    """The steady state of a run from all its ranks; None without a step.

    What a rank waited for another's checkpoint is no imbalance: it is taken off as far as waiting was measured.
    """
    judged = [scan for scan in scans if scan.steps.count]
    if not judged:
        return None
    evidence = [gather([scan]) for scan in judged]
    left_out = [sum(each.times_s.get(what, 0.0) for what in LEFT_OUT) for each in evidence]
    times = []
    for scan, each, own in zip(judged, evidence, left_out, strict=True):
        wait = waiting.waits_s.get(scan.rank, 0.0) if waiting else 0.0
        times.append(rank_times(each, wait, (max(left_out) - own) / each.steps))
    step_s = max(sum(each.values()) for each in times)
    for rank in times:
        rank[IMBALANCE] += step_s - sum(rank.values())
    workers = world_size(judged)
    return Steady(
        workers,
        len(judged),
        sum(each.steps for each in evidence) / len(judged),
        step_s,
        _amount([scan.steps.samples for scan in judged], workers),
        _amount([scan.steps.tokens for scan in judged], workers),
        {what: sum(rank.get(what, 0.0) for rank in times) / len(times) for what in _classes(times)},
        _forward(judged, evidence),
        max(left_out),
    )


def rank_times(evidence: Evidence, wait_s: float, excused_s: float) -> dict[str, float]:
    """One rank's mean step by class. Of ``wait_s``, which lies in communication or else in computing, ``excused_s``
    (another rank's checkpoint) is left out, and the rest is imbalance."""
    times = {what: seconds / evidence.steps for what, seconds in evidence.times_s.items() if what not in LEFT_OUT}
    for what in (COMMUNICATION, COMPUTE):
        taken = min(wait_s, times.get(what, 0.0))
        if taken:
            times[what] -= taken
            times[IMBALANCE] = times.get(IMBALANCE, 0.0) + taken
            wait_s -= taken
    times[IMBALANCE] = max(times.get(IMBALANCE, 0.0) - excused_s, 0.0)
    return times


def forward_share(scan: RankScan) -> float | None:
    """The part of the model's own time that is not backward: on the GPU, where it was timed there."""
    seconds = _phase_seconds(scan)
    forward, backward = seconds.get(names.FORWARD, 0.0), seconds.get(names.BACKWARD, 0.0)
    forward += seconds.get(names.LOSS_PHASE, 0.0)
    return forward / (forward + backward) if forward and backward else None


def _forward(scans: Sequence[RankScan], evidence: Sequence[Evidence]) -> float | None:
    shares = [forward_share(scan) for scan in scans]
    times = [
        share * each.times_s.get(COMPUTE, 0.0) / each.steps
        for share, each in zip(shares, evidence, strict=True)
        if share is not None
    ]
    return sum(times) / len(times) if len(times) == len(scans) else None


def world_size(scans: Sequence[RankScan]) -> int:
    """The largest world size that a rank tells, and no less than the ranks that there are."""
    return max(len(scans), *(int(scan.identity.get("world_size") or 1) for scan in scans))


def _phase_seconds(scan: RankScan) -> Mapping[str, float]:
    if scan.gpu.steps:
        return scan.gpu.times_s
    table = phase_table([scan.steps], lambda steps: steps.phases)
    if scan.steps.warmed_up:
        for place, total in phase_table([scan.steps], lambda steps: steps.warm_up).items():
            table[place].merge(total, sign=-1)
    return {name: total.time_s for (depth, _, name), total in table.items() if depth == 0}


def _amount(amounts: Sequence[AmountTotal], workers: int) -> float | None:
    if not all(amount.steps for amount in amounts):
        return None
    return sum(amount.total / amount.steps for amount in amounts) * workers / len(amounts)


def _classes(ranks: Sequence[Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(what for rank in ranks for what in rank))
