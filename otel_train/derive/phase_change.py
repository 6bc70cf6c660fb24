"""What each phase adds to the difference of two sides of runs, and whether that is more than chance and the machine.

With one run a side it is not known how much equal runs differ: a machine that is shared, hot or differently placed
makes a whole run slower, all phases alike. What it makes alike is the **pace**; what a phase takes beyond it is the
run's own.
``docs/compare.md`` has what that was worth on real runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from otel_train.derive.difference import FASTER, MEAN, NO_DIFFERENCE, SLOWER, Series, t_quantile
from otel_train.derive.fingerprint import UNDISTURBED, Fingerprint

EQUAL_RUNS = {UNDISTURBED: 0.005, MEAN: 0.02}
"""Standard deviation of a phase's time beyond the pace between equal runs, as a part of the step: what the study in
``docs/compare.md`` found on a busy machine."""
WORTH = 20
"""It counts as much as so many degrees of freedom of the runs themselves: a moderated variance (G. K. Smyth, "Linear
models and empirical Bayes methods", 2004)."""
AS_IT_IS = 0.25
"""So much of what a phase takes beyond the pace it must take more as it is, whatever the pace."""

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
    reach: dict[str, float]
    """How large that must be to be shown."""

    @property
    def shown(self) -> float:
        """The largest change that is shown, in parts of a step; 0 without one."""
        beyond = [self.own[name] for name in self.own if abs(self.own[name]) > self.reach[name]]
        return max(beyond, key=abs, default=0.0)

    @property
    def verdict(self) -> str:
        """``slower``, ``faster`` or ``no difference shown``."""
        return SLOWER if self.shown > 0 else FASTER if self.shown < 0 else NO_DIFFERENCE


def pace_of(before: Series, after: Series) -> float:
    """The logarithm of how much longer phases take alike: the median of theirs, each with the weight of its time."""
    both = (before > 0) & (after > 0)
    if not both.any():
        return 0.0
    logs, weights = np.log(after[both] / before[both]), before[both]
    order = np.argsort(logs)
    passed = np.cumsum(weights[order])
    return float(logs[order][np.searchsorted(passed, passed[-1] / 2)])


def beyond_pace(before: Series, after: Series, pace: float | None = None) -> Series:
    """What each phase takes more than the pace explains, in parts of the step before."""
    pace = pace_of(before, after) if pace is None else pace
    own: Series = (after * math.exp(-pace) - before) / before.sum()
    return own


def phase_changes(sides: Sides, confidence: float) -> tuple[tuple[PhaseChange, ...], float | None]:
    """The phases, those that are shown to differ first, then by what they add; and the pace, in parts of one.

    Nothing is shown, and there is no pace, where steps have no two phases (``other`` is one).
    """
    names = list(dict.fromkeys(name for side in sides for run in side for name in run.phases))
    before, after = (np.mean([_times(run, names, MEAN) for run in side], axis=0) for side in sides)
    own, reach, pace = _beyond_chance(sides, names, confidence)
    total = float(after.sum() - before.sum())
    found = []
    for index, name in enumerate(names):
        change = PhaseChange(
            name,
            float(before[index]),
            float(after[index]),
            float(after[index] - before[index]) / total if total else None,
            {key: float(values[index]) for key, values in own.items()},
            {key: float(values[index]) for key, values in reach.items()},
        )
        found.append(change)
    ordered = sorted(found, key=lambda phase: (-abs(phase.shown), -abs(phase.after_s - phase.before_s)))
    return tuple(ordered), pace


def are_alike(sides: Sides, phases: Sequence[PhaseChange]) -> bool:
    """Do all phases change by the pace alone, by their undisturbed times? Then nothing says whose doing it is."""
    names = [phase.name for phase in phases]
    before, after = (_profile(side, names, UNDISTURBED) for side in sides)
    reach = [phase.reach.get(UNDISTURBED, math.inf) for phase in phases]
    return bool((np.abs(beyond_pace(before, after)) < reach).all())


def _beyond_chance(
    sides: Sides, names: Sequence[str], confidence: float
) -> tuple[dict[str, Series], dict[str, Series], float | None]:
    """By statistic what each phase takes of its own and how much that must be, so that all of them hold together; and
    the pace."""
    profiles = {name: (_profile(sides[0], names, name), _profile(sides[1], names, name)) for name in EQUAL_RUNS}
    if np.count_nonzero(sum(profiles[MEAN]) > 0) < 2:
        return {}, {}, None
    each = 1 - (1 - confidence) / (len(names) * len(EQUAL_RUNS))
    limit = _varying_pace(sides)
    own = {name: _own(*profiles[name], limit) for name in EQUAL_RUNS}
    reach = {name: _reach(sides, names, name, each) for name in EQUAL_RUNS}
    return own, reach, math.expm1(pace_of(*profiles[UNDISTURBED]))


def _profile(side: Sequence[Fingerprint], names: Sequence[str], statistic: str) -> Series:
    """The phases of a side: the mean of its runs at the pace of the fastest, which the machine held up least."""
    runs = [np.array(_times(run, names, statistic)) for run in side]
    fastest = min(runs, key=lambda times: float(times.sum()))
    profile: Series = np.mean([times * math.exp(-pace_of(fastest, times)) for times in runs], axis=0)
    return profile


def _times(run: Fingerprint, names: Sequence[str], statistic: str, stretch: int | None = None) -> list[float]:
    if stretch is None:
        return [run.phases[name].times_s[statistic] if name in run.phases else 0.0 for name in names]
    return [run.phases[name].stretches_s[statistic][stretch] if name in run.phases else 0.0 for name in names]


def _own(before: Series, after: Series, limit: float) -> Series:
    """What each phase takes more, or less, beyond the pace; as it is, where no machine makes such a pace (``limit``).

    0 where most of that is the pace's doing: a phase is not slower because all others became faster.
    """
    pace = pace_of(before, after)
    own = beyond_pace(before, after, pace if abs(pace) <= limit else 0.0)
    plain = (after - before) / before.sum()
    kept: Series = np.where(plain * own >= AS_IT_IS * own**2, own, 0.0)
    return kept


def _varying_pace(sides: Sides) -> float:
    """How far the machine's pace may differ between runs, as a logarithm: twice as far as within one of them."""
    quantiles = [run.quantiles_s for side in sides for run in side]
    return 2 * max(math.log(each["p75"] / each["p5"]) if each["p5"] > 0 else math.inf for each in quantiles)


def _reach(sides: Sides, names: Sequence[str], statistic: str, confidence: float) -> Series:
    """How far equal sides' phases would be apart: by their runs, by the stretches of each, and by ``EQUAL_RUNS``."""
    squares, freedom = np.zeros(len(names)), 0
    within = []
    for side in sides:
        runs = np.array([_times(run, names, statistic) for run in side])
        squares += sum(beyond_pace(_profile(side, names, statistic), run) ** 2 for run in runs)
        freedom += len(side) - 1
        within.append(np.mean([_within(run, names, statistic) for run in side], axis=0) / len(side))
    variance = (WORTH * EQUAL_RUNS[statistic] ** 2 + squares) / (WORTH + freedom)
    between = variance * sum(1 / len(side) for side in sides)
    reach: Series = t_quantile(WORTH + freedom, confidence) * np.sqrt(np.maximum(between, sum(within)))
    return reach


def _within(run: Fingerprint, names: Sequence[str], statistic: str) -> Series:
    """The variance of a run's phases beyond the pace, by how much those of its stretches vary."""
    whole = np.array(_times(run, names, statistic))
    count = min(len(run.phases[name].stretches_s[statistic]) for name in names if name in run.phases)
    if count < 2 or not whole.sum():
        return np.full(len(names), np.inf)
    parts = [beyond_pace(whole, np.array(_times(run, names, statistic, stretch))) for stretch in range(count)]
    variance: Series = np.var(parts, axis=0, ddof=1) / count
    return variance
