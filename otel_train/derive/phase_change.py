"""What each phase adds to the difference of two sides of runs, and whether that is more than chance and the machine.

With one run a side it is not known how much equal runs differ: a machine that is shared, hot or differently placed
makes a whole run slower, all phases alike. What it makes alike is the **pace**; what a phase takes beyond it is the
run's own. A wait for data that changes far more than all else has no say in the pace: a queue ran empty, or filled.
Six runs or more, of both sides, say how far the pace wanders: then a machine that was faster hides no slower phase.
``docs/compare.md`` has what that was worth on real runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from otel_train.derive.difference import FASTER, MEAN, NO_DIFFERENCE, SLOWER, Series, t_quantile
from otel_train.derive.fingerprint import UNDISTURBED, Fingerprint
from otel_train.derive.pace import MODEL, beyond_pace, own_of, pace_of, paces_of, telling_of

EQUAL_RUNS = {UNDISTURBED: 0.004, MEAN: 0.012}
"""Standard deviation of a phase's time beyond the pace between equal runs, as a part of the step: as found on two cores
that other programs used, too."""
WORTH = 20
"""It counts as much as so many degrees of freedom of the runs themselves: a moderated variance (G. K. Smyth, "Linear
models and empirical Bayes methods", 2004)."""
UNLIKE = 0.08
"""Standard deviation of how much more, or less, than the others a phase feels the machine's pace. Over equal runs on
two cores the slope of a phase's time with the step's, as logarithms, was 0.93 to 1.10 for the large phases, and 0.89
and 1.21 for the wait for data: 0.07 from 1 without that, 0.10 with it."""
LARGE = 1.0
"""The variance of a run that has no stretches: nothing it has is shown."""
USUAL, WANDERS, FEWEST_FREEDOM = 0.95, 0.9975, 4
"""Of equal sides so many have paces that differ by no more than is usual, and by no more than the machine wanders; with
fewer degrees of freedom it is not known what is."""

Sides = tuple[tuple[Fingerprint, ...], tuple[Fingerprint, ...]]


@dataclass(frozen=True)
class PhaseChange:
    """One phase. Times in s a step; the rest in parts of the first side's step."""

    name: str
    before_s: float
    after_s: float
    """Means: what a phase adds to the difference of the mean step is ``after_s - before_s``; all add up to it."""
    explained: float | None
    """The part of the mean steps' difference that it makes; None where there is none."""
    own: dict[str, float]
    """By ``undisturbed`` and ``mean`` time: what it takes more beyond the pace."""
    whole: dict[str, float]
    """By how much the step as a whole is longer by these times; the same for all phases."""
    alone: dict[str, bool]
    """Is it shown with the model's phases as one, too, while the paces of the sides differ by no more than those of the
    runs of a side do? Then it does not matter whether the step as a whole became faster or slower."""
    reach: dict[str, float]
    """How large that must be to be shown; the same for all phases."""

    @property
    def shown(self) -> float:
        """The largest change that is shown, in parts of a step; 0 without one."""
        beyond = [self.own[name] for name in self.own if abs(self.own[name]) > self.reach[name]]
        return max(beyond, key=abs, default=0.0)

    @property
    def is_its_own(self) -> bool:
        """Is it this phase that changed, and not all others the other way? So where the step as a whole changes the way
        in which this phase does, or what the others do is usual for the machine."""
        by = [name for name in self.own if abs(self.own[name]) > self.reach[name]]
        return any(self.own[name] * self.whole[name] > 0 or self.alone[name] for name in by)

    @property
    def verdict(self) -> str:
        """``slower``, ``faster`` or ``no difference shown``."""
        return SLOWER if self.shown > 0 else FASTER if self.shown < 0 else NO_DIFFERENCE


def phase_changes(sides: Sides, confidence: float) -> tuple[tuple[PhaseChange, ...], float | None]:
    """The phases, those that are shown to differ first, then by what they add; and the pace, in parts of one.

    Nothing is shown, and there is no pace, where steps have no two phases (``other`` is one).
    """
    names = list(dict.fromkeys(name for side in sides for run in side for name in run.phases))
    before, after = (np.mean([_times(run, names, MEAN) for run in side], axis=0) for side in sides)
    seen = _beyond_chance(sides, names, confidence)
    total = float(after.sum() - before.sum())
    found = [
        PhaseChange(
            name,
            float(before[index]),
            float(after[index]),
            float(after[index] - before[index]) / total if total else None,
            {key: float(each.own[index]) for key, each in seen.items()},
            {key: each.whole for key, each in seen.items()},
            {key: each.alone[index] for key, each in seen.items()},
            {key: each.reach for key, each in seen.items()},
        )
        for index, name in enumerate(names)
    ]
    ordered = sorted(found, key=lambda phase: (-abs(phase.shown), -abs(phase.after_s - phase.before_s)))
    return tuple(ordered), math.expm1(seen[UNDISTURBED].pace) if seen else None


def are_alike(sides: Sides, phases: Sequence[PhaseChange]) -> bool:
    """Do all phases change by the pace alone, by their undisturbed times? Then nothing says whose doing it is.

    On GPUs by either pace: the backward, most of a step, is not alone taken for all phases.
    """
    names = [phase.name for phase in phases]
    before, after = (_side(side, names, UNDISTURBED).times_s for side in sides)
    reach = [phase.reach.get(UNDISTURBED, math.inf) for phase in phases]
    paces = paces_of(before, after) if _by_gpus(sides) else [pace_of(before, after)]
    return all(bool((np.abs(beyond_pace(before, after, pace)) < reach).all()) for pace in paces)


@dataclass(frozen=True)
class _Seen:
    """The phases by one statistic, in their order; what ``PhaseChange`` has of each, and the pace as a logarithm."""

    own: Series
    alone: Sequence[bool]
    reach: float
    whole: float
    pace: float


def _beyond_chance(sides: Sides, names: Sequence[str], confidence: float) -> dict[str, _Seen]:
    """By statistic, so that all of it holds together; nothing where there are no two phases."""
    if np.count_nonzero(np.sum([_times(run, names, MEAN) for side in sides for run in side], axis=0)) < 2:
        return {}
    each = 1 - (1 - confidence) / (len(names) * len(EQUAL_RUNS))
    return {statistic: _seen(sides, names, statistic, each) for statistic in EQUAL_RUNS}


def _seen(sides: Sides, names: Sequence[str], statistic: str, confidence: float) -> _Seen:
    first, second = (_side(side, names, statistic) for side in sides)
    before, after = first.times_s, second.times_s
    limit, voters = _varying_pace(sides, names, statistic), [MODEL[0] if name in MODEL else name for name in names]
    reach = _reach(first, second, EQUAL_RUNS[statistic], _felt(names, before, after), confidence)
    paces = _paces(sides, names, statistic)
    alone = np.abs(own_of(names, before, after, limit, voters)) > reach
    return _Seen(
        own_of(names, before, after, limit),
        (alone & (paces.freedom >= FEWEST_FREEDOM) & (paces.apart <= paces.likely(USUAL))).tolist(),
        reach,
        float(after.sum()) / float(before.sum()) - 1 if before.any() else 0.0,
        pace_of(before, after),
    )


@dataclass(frozen=True)
class _Side:
    """The phases of a side at the pace of its fastest run, which the machine held up least."""

    times_s: Series
    within: list[float]
    """The variance of each run by its stretches, in parts of a step."""
    squares: float
    """How far its runs are apart, beyond what is within them."""


def _side(runs: Sequence[Fingerprint], names: Sequence[str], statistic: str) -> _Side:
    """The mean of the runs, in which one that varies more counts for less."""
    times = [np.array(_times(run, names, statistic)) for run in runs]
    fastest = min(times, key=lambda each: float(each.sum()))
    at_pace = np.array([each * math.exp(-pace_of(fastest, each)) for each in times])
    within = [_within(run, names, statistic) for run in runs]
    known = EQUAL_RUNS[statistic] ** 2
    weights = np.array([known / (known + variance) for variance in within])
    mean = weights @ at_pace / weights.sum() if weights.any() else at_pace.mean(axis=0)
    apart = ((at_pace - mean) / mean.sum()) ** 2 if mean.sum() else np.zeros_like(at_pace)
    return _Side(mean, within, float((weights @ apart).max()))


def _times(run: Fingerprint, names: Sequence[str], statistic: str, stretch: int | None = None) -> list[float]:
    if stretch is None:
        return [run.phases[name].times_s[statistic] if name in run.phases else 0.0 for name in names]
    return [run.phases[name].stretches_s[statistic][stretch] if name in run.phases else 0.0 for name in names]


def _varying_pace(sides: Sides, names: Sequence[str], statistic: str) -> float:
    """How far the machine's pace may differ between runs, as a logarithm: twice as far as within one of them, or as far
    as the runs of a side say.

    A GPU has one pace for its kernels, and what makes steps longer there is a host that is late: its undisturbed times
    differ by no more than within the steadiest run of a side.
    """
    if statistic == UNDISTURBED and _by_gpus(sides):
        return 2 * max(min(run.undisturbed_varies for run in side) for side in sides)
    within = 2 * max(run.pace_varies for side in sides for run in side)
    return max(within, _paces(sides, names, statistic).likely(WANDERS))


@dataclass(frozen=True)
class _Paces:
    """By how much the second side's mean pace differs from the first's, as a logarithm; and its standard error, by the
    spread of the runs of a side."""

    apart: float
    error: float
    freedom: int

    def likely(self, confidence: float) -> float:
        """So far equal sides are apart at most; 0 where there are too few runs to tell."""
        return t_quantile(self.freedom, confidence) * self.error if self.freedom >= FEWEST_FREEDOM else 0.0


def _paces(sides: Sides, names: Sequence[str], statistic: str) -> _Paces:
    times = [[np.array(_times(run, names, statistic)) for run in side] for side in sides]
    fastest = min((each for side in times for each in side), key=lambda each: float(each.sum()))
    before, after = ([pace_of(fastest, each) for each in side] for side in times)
    freedom = len(before) + len(after) - 2
    squares = sum(float(np.var(side)) * len(side) for side in (before, after))
    error = math.sqrt(squares / max(freedom, 1) * (1 / len(before) + 1 / len(after)))
    return _Paces(abs(float(np.mean(after) - np.mean(before))), error, freedom)


def _by_gpus(sides: Sides) -> bool:
    return all(run.is_by_the_gpu for side in sides for run in side)


def _felt(names: Sequence[str], before: Series, after: Series) -> float:
    """Standard deviation of what the largest phase makes of the pace otherwise than the others, in parts of a step."""
    telling = telling_of(names, before, after)
    largest = float(before[telling].max(initial=0.0) / before.sum()) if before.any() else 0.0
    return UNLIKE * abs(pace_of(before[telling], after[telling])) * largest


def _reach(before: _Side, after: _Side, equal_runs: float, felt: float, confidence: float) -> float:
    """How far equal sides' phases would be apart: by ``EQUAL_RUNS``, by their runs, and by the stretches of each.

    One for all phases, of the one that varies most: what it has of its own, the pace takes from the others. The more
    the pace differs, the less is known: no phase feels it just as the others do.
    """
    freedom = WORTH + len(before.within) + len(after.within) - 2
    between = (WORTH * equal_runs**2 + before.squares + after.squares) / freedom
    variance = sum(1 / sum(1 / (between + own) for own in side.within) for side in (before, after))
    return t_quantile(freedom, confidence) * math.sqrt(variance + felt**2)


def _within(run: Fingerprint, names: Sequence[str], statistic: str) -> float:
    """The variance of a run's phases beyond the pace, by how much those of its stretches vary: of the largest."""
    whole = np.array(_times(run, names, statistic))
    count = min(len(run.phases[name].stretches_s[statistic]) for name in names if name in run.phases)
    if count < 2 or not whole.sum():
        return LARGE
    parts = [beyond_pace(whole, np.array(_times(run, names, statistic, stretch))) for stretch in range(count)]
    return float(np.max(np.var(parts, axis=0, ddof=1))) / count
