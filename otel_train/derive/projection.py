"""How long a run takes to a goal, and what that costs, told from its course so far.

The pace is that of the whole time, with the checkpoints, evaluations and gaps between steps in it, of the steady part:
without the first steps, and from the last change of level on where enough of the run follows it. Where samples, tokens
and steps are all known there are three paces; the one whose cost in time varies least is the one to trust.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from otel_train.derive.bootstrap import Column, block_length, deviations, interval
from otel_train.derive.changes import STEP_TIME, THROUGHPUT
from otel_train.derive.energy import energy_j, gpu_count
from otel_train.derive.goal import EPOCHS, SAMPLES, STEPS, TOKENS, Goal
from otel_train.derive.summary import RunSummary, Summary

LEAST_PARTS = 20
"""So many parts of the run make a pace; only where as many follow a change is what was before it left out."""

CLEARLY = 0.8
"""Another count than the goal's own is trusted where its cost varies by less than this part of the own one's."""

AGREE = 0.01


@dataclass(frozen=True)
class Effort:
    """What a stretch of the run takes. ``gpu_hours`` and what follows are None without GPUs, or where not known."""

    time_s: float
    gpu_hours: float | None
    energy_j: float | None
    cost: float | None


@dataclass(frozen=True)
class Pace:
    """The time left by one count. ``left`` is in that unit: by the run's mean samples a token, and the like."""

    unit: str
    per_s: float
    left: float
    left_s: float
    low_s: float | None
    high_s: float | None
    """95 in 100 such runs end between them; None where too little of the run is there to say."""
    spread: float
    """By how much its cost in time varies from part to part: 1.4826 median absolute deviations over the median."""


@dataclass(frozen=True)
class Projection:
    """To one goal. What is not known is None, and ``why`` says what is missing."""

    goal: Goal
    done: float | None
    """In the goal's unit."""
    reached: bool
    paces: list[Pace]
    trusted: str | None
    """The unit of the pace to trust."""
    why: str
    left: Effort | None
    total: Effort | None
    """From the first step on: what passed already, and what is left."""
    low_s: float | None
    high_s: float | None
    """Of the total time."""
    from_step: int | None
    """The step from which on the pace was taken."""
    notes: tuple[str, ...]


@dataclass
class _Pace:
    """The parts of the run that make the pace, of all ranks: time on the calendar, time inside steps, and amounts."""

    walls: Column
    stepping: Column
    amounts: dict[str, Column]
    parts: int
    """Of the whole run."""
    from_step: int
    notes: list[str] = field(default_factory=list)


def project(run: RunSummary, goal: Goal, price_per_gpu_hour: float | None = None) -> Projection:
    """Project a run to a goal. ``price_per_gpu_hour`` is in whatever money."""
    goal_in_steps = _in_steps(run.merged, goal)
    done, pace = _done(run, goal_in_steps), _pace(run)
    notes = tuple(_notes(run, goal, price_per_gpu_hour is not None) + (pace.notes if pace else []))
    if goal_in_steps is None or done is None or pace is None or goal_in_steps.unit not in pace.amounts:
        why = f"no projection: {_missing(run, goal)}"
        return Projection(goal, done, False, [], None, why, None, None, None, None, None, notes)
    told = done if goal.unit != EPOCHS else done * goal.amount / goal_in_steps.amount
    span = run.merged.span
    assert span is not None  # there is a pace
    if done >= goal_in_steps.amount:
        passed = _effort(run, _when_reached(run, goal_in_steps.amount / done), price_per_gpu_hour)
        nothing = _effort(run, 0.0, price_per_gpu_hour)
        return Projection(
            goal, told, True, [], None, "the goal is reached", nothing, passed, None, None, pace.from_step, notes
        )
    paces = [_by(unit, goal_in_steps, done, pace, run.merged) for unit in pace.amounts]
    trusted, why = _trusted(paces, goal_in_steps.unit, pace)
    left, so_far = trusted.left_s, span.wall_s
    return Projection(
        goal, told, False, paces, trusted.unit, why, _effort(run, left, price_per_gpu_hour),
        _effort(run, so_far + left, price_per_gpu_hour),
        None if trusted.low_s is None else so_far + trusted.low_s,
        None if trusted.high_s is None else so_far + trusted.high_s, pace.from_step, notes,
    )  # fmt: skip


def _in_steps(summary: Summary, goal: Goal) -> Goal | None:
    """A goal of epochs as one of steps; None where no epoch was complete."""
    if goal.unit != EPOCHS:
        return goal
    return Goal(goal.amount * summary.epoch_steps, STEPS) if summary.epoch_steps else None


def _done(run: RunSummary, goal: Goal | None) -> float | None:
    """What of the goal's unit there is already. Samples and tokens of steps that are no longer on disk, or whose count
    is missing, are taken to be as many as the others have."""
    counts = run.merged.counts
    if goal is None or counts.last_step is None or counts.first_step is None:
        return None
    if goal.unit == STEPS:
        return counts.last_step + 1 - (1 if counts.first_step == 1 and not counts.lost else 0)
    known = counts.samples if goal.unit == SAMPLES else counts.tokens
    total = sum(_total(summary, goal.unit) for summary in run.ranks if summary.course)
    if known is None or not np.isfinite(total):
        return None
    return float(total * (1 + counts.lost / counts.training))


def _total(summary: Summary, unit: str) -> float:
    """Over a rank's course; not-a-number where it is not known."""
    assert summary.course is not None
    return float((summary.course.samples if unit == SAMPLES else summary.course.tokens).sum())


def _pace(run: RunSummary) -> _Pace | None:
    """The steady part of the run. Ranks that took the same steps are added up part by part; where they did not, the
    rank with most steps stands for all."""
    courses = [(summary, summary.course) for summary in run.ranks if summary.course is not None]
    if not courses:
        return None
    longest, course = max(courses, key=lambda each: each[0].counts.training)
    alike = [each for _, each in courses if np.array_equal(each.steps, course.steps)]
    first, notes = _first_part(longest, len(course), course.steady, course.first_steps)
    each_rank = len(courses) / len(alike)
    amounts: dict[str, Column] = {
        SAMPLES: np.sum([each.samples for each in alike], axis=0) * each_rank,
        TOKENS: np.sum([each.tokens for each in alike], axis=0) * each_rank,
        STEPS: course.steps.astype(float),
    }
    walls: Column = np.mean([each.walls_s for each in alike], axis=0)
    stepping: Column = np.mean([each.stepping_s for each in alike], axis=0)
    known = {unit: column[first:] for unit, column in amounts.items() if np.all(column > 0)}
    if not walls[first:].sum() > 0:
        return None
    return _Pace(walls[first:], stepping[first:], known, len(course), int(course.first_steps[first]), notes)


def _first_part(summary: Summary, parts: int, steady: int, first_steps: Column) -> tuple[int, list[str]]:
    """Where the pace is taken from: the last change of level that enough of the run follows, or else the warm start."""
    for change in reversed(summary.changes):
        if change.kind in (STEP_TIME, THROUGHPUT):
            at = int(np.searchsorted(first_steps, change.step, "left"))
            if parts - at >= LEAST_PARTS:
                return max(at, steady), [f"The pace is that since the last change: {change.sentence}."]
            return steady, [f"The pace is that of the whole run, though {change.sentence}: too little follows it."]
    return min(steady, parts - 1), []


def _by(unit: str, goal: Goal, done: float, pace: _Pace, merged: Summary) -> Pace:
    """The time left by one count."""
    own = pace.amounts[goal.unit]
    amounts = pace.amounts[unit]
    left = goal.amount - done
    left_here = left * _each(merged, unit, goal.unit, pace)
    per_s = float(amounts.sum()) / float(pace.walls.sum())
    left_s = left_here / per_s
    low_s, high_s = _interval(pace, amounts, own, left / float(own.mean()), left_s)
    costs = pace.stepping / amounts
    middle = float(np.median(costs))
    spread = 1.4826 * float(np.median(np.abs(costs - middle))) / middle if middle else 0.0
    return Pace(unit, per_s, left_here, left_s, low_s, high_s, spread)


def _each(merged: Summary, unit: str, of: str, pace: _Pace) -> float:
    """How many of one unit go with one of another, over the whole record: longer than the pace, so known better."""
    if unit == of:
        return 1.0
    steps = max(merged.counts.training / len(merged.ranks), 1)
    totals = {SAMPLES: merged.counts.samples, TOKENS: merged.counts.tokens, STEPS: steps}
    here, there = totals[unit], totals[of]
    if here is None or not there:
        return float(pace.amounts[unit].sum()) / float(pace.amounts[of].sum())
    return here / there


def _interval(
    pace: _Pace, amounts: Column, own: Column, parts_left: float, left_s: float
) -> tuple[float | None, float | None]:
    """95 in 100: what is not known of the mean pace, and what will vary on the way; the latter weighs less the more is
    left. Counting in another unit than the goal's, what is not known of one per other is in it too."""
    count = len(pace.walls)
    length = block_length(pace.walls / amounts)
    past, ahead = (deviations(pace.walls, amounts, length, stream) for stream in (0, 1))
    if past is None or ahead is None:
        return None, None
    relative = past + ahead * (count / parts_left) ** 0.5
    if own is not amounts:
        others = deviations(amounts, own, length, 0)
        relative = relative + (others if others is not None else 0) * (count / pace.parts) ** 0.5
    low, high = interval(left_s * (1 + relative))
    return max(low, 0.0), high


def _trusted(paces: Sequence[Pace], own_unit: str, pace: _Pace) -> tuple[Pace, str]:
    """The goal's own count, unless another one's cost varies clearly less."""
    own = next(each for each in paces if each.unit == own_unit)
    best = min(paces, key=lambda each: each.spread)
    if best is own or best.spread >= CLEARLY * own.spread:
        apart = max(abs(each.left_s / own.left_s - 1) for each in paces)
        others = "the others agree within 1 %" if apart <= AGREE else f"the others differ by up to {apart * 100:.0f} %"
        why = f"by {own.unit}, the goal's own count: no other one's time varies clearly less"
        return own, f"{why}; {others}" if len(paces) > 1 else f"by {own.unit}, the only count that is known"
    ratios = pace.amounts[best.unit] / pace.amounts[own.unit]
    varies = float(ratios.std()) / float(ratios.mean())
    return best, (
        f"by {best.unit}: the {best.unit} of a {own.unit[:-1]} vary by {_percent(varies)} from part to part, and a "
        f"{best.unit[:-1]}'s time varies less ({_percent(best.spread)}) than a {own.unit[:-1]}'s "
        f"({_percent(own.spread)})"
    )


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _effort(run: RunSummary, time_s: float, price: float | None) -> Effort:
    gpus = gpu_count(run)
    if not gpus:
        return Effort(time_s, None, None, None)
    hours = gpus * time_s / 3600
    return Effort(time_s, hours, energy_j(run, time_s), hours * price if price is not None else None)


def _when_reached(run: RunSummary, share: float) -> float:
    """Seconds from the first step to the moment at which a share of what was done was there, on the longest rank."""
    courses = [summary.course for summary in run.ranks if summary.course is not None]
    course = max(courses, key=lambda each: int(each.steps.sum()))
    done = np.concatenate(([0], np.cumsum(course.steps))) / course.steps.sum()
    ends = np.append(course.starts_s, course.starts_s[-1] + course.walls_s[-1])
    return float(np.interp(share, done, ends))


def _notes(run: RunSummary, goal: Goal, priced: bool) -> list[str]:
    counts, notes = run.merged.counts, []
    if counts.lost:
        notes.append(f"{counts.lost:,} older steps are no longer on disk: they are taken to be like the others.")
    if counts.first_step is not None and counts.first_step > 1 and not counts.lost and goal.unit != STEPS:
        notes.append(f"The record begins at step {counts.first_step:,}: what came before does not count here.")
    if priced and not gpu_count(run):
        notes.append("No GPU is recorded, so there is no price.")
    if run.state in ("failed", "died"):
        notes.append(f"The run {run.state}: this is what it would take if it went on as it was.")
    return notes


def _missing(run: RunSummary, goal: Goal) -> str:
    if run.merged.span is None:
        return "the run has no training step"
    if goal.unit == EPOCHS:
        return "no epoch is complete, so how many steps one has is not known"
    return f"the run's {goal.unit} are not known of all its parts"
