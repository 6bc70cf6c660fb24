"""What the work of a step is counted in, how much of it a run does, and whether runs divide it or add to it."""

from collections.abc import Sequence

from otel_train.derive.mean_step import MeanStep
from otel_train.derive.scaling_law import STRONG, WEAK

SAMPLES, TOKENS, STEPS, RANK_STEPS = "samples", "tokens", "steps", "rank-steps"
"""What work is counted in. Where the law is given: steps of the whole run (strong), or of each rank (weak)."""

NEITHER = "neither"

SAME = 1.05
"""Batches up to this ratio are the same: the last one of an epoch may be smaller."""


def common_unit(runs: Sequence[MeanStep]) -> str | None:
    """What work can be counted in: samples, else tokens; None where neither is known of all runs."""
    known = (unit for unit in (SAMPLES, TOKENS) if all(getattr(each, unit) for each in runs))
    return next(known, None)


def work_of(run: MeanStep, unit: str) -> float:
    """What a mean step of all ranks does."""
    if unit in (STEPS, RANK_STEPS):
        return 1.0 if unit == STEPS else float(run.workers)
    return float(getattr(run, unit))


def rate_of(run: MeanStep, unit: str) -> float:
    """Work a second, of all ranks."""
    return work_of(run, unit) / run.step_s


def rate_of_a_rank(run: MeanStep, unit: str) -> float:
    """Work a second and rank."""
    return rate_of(run, unit) / run.workers


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:,.4g}" if high <= SAME * low else f"{low:,.4g} to {high:,.4g}"


def kind_of(runs: Sequence[MeanStep], unit: str) -> tuple[str, str]:
    """``strong``, ``weak`` or ``neither``, by the work of a step, and why."""
    totals = [work_of(each, unit) for each in runs]
    shares = [work_of(each, unit) / each.workers for each in runs]
    if max(totals) <= SAME * min(totals):
        return STRONG, f"Every run has the same {unit} in a step of all ranks ({_range(totals)}): strong scaling."
    if max(shares) <= SAME * min(shares):
        return WEAK, f"Every run has the same {unit} in a step of each rank ({_range(shares)}): weak scaling."
    return NEITHER, (
        f"Neither strong nor weak scaling: the {unit} of a step differ in all ({_range(totals)}) and for each rank "
        f"({_range(shares)}). Compared by {unit} a second; no law is fitted."
    )
