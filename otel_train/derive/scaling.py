"""Runs at several world sizes side by side: what more ranks brought, and what the next doubling would bring.

Everything is of the steady state (``mean_step``) and by the work that was done: samples, or tokens where those are not
known (``work``). Where the time went that more ranks did not bring: ``lost_time``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from otel_train.derive.agreement import HARDWARE, missing_ranks, run_disagreements
from otel_train.derive.lost_time import lost_time
from otel_train.derive.mean_step import MeanStep, pooled
from otel_train.derive.scaling_law import STRONG, WEAK, Fit, Interval, fit
from otel_train.derive.steps import FEW_STEPS
from otel_train.derive.summary import RunSummary
from otel_train.derive.work import (
    NEITHER,
    RANK_STEPS,
    SAME,
    STEPS,
    common_unit,
    kind_of,
    rate_of,
    rate_of_a_rank,
    work_of,
)
from otel_train.errors import ComparisonError

NO_WORK = (
    "neither samples nor tokens are known of all runs, so what their steps did is not. Record them "
    "(trace_step(samples=...)), or say what the runs are: --law strong (a step of all ranks is the same work) or "
    "--law weak (a step of each rank is)"
)

NOTHING = 1e-6
"""Of a step: what is less was not lost."""


@dataclass(frozen=True)
class Point:
    """The runs at one world size as one. Times are s a step of the slowest rank, unless they say otherwise."""

    workers: int
    runs: tuple[str, ...]
    rate: float
    """Work a second, of all ranks."""
    spread: tuple[float, float] | None
    """The lowest and highest rate of its runs; None for one."""
    work: float
    """Of a step."""
    step_s: float
    speedup: float
    efficiency: float
    ideal_step_s: float
    """What the step would take if each rank did as much a second as the baseline's."""
    lost_s: dict[str, float]
    """Where ``overhead_s`` went, by part; they add up to it. Below 0 is gained; a part that is not there is not known
    (it is in ``other``)."""
    steps: float
    """How many steps of a rank were judged, over its runs."""

    @property
    def time_s(self) -> float:
        """All judged steps of its runs."""
        return self.steps * self.step_s

    @property
    def lost_most(self) -> str | None:
        """The part that most of the overhead went to; None where nothing was lost."""
        most = max(self.lost_s, key=lambda part: self.lost_s[part])
        return most if self.overhead_s > NOTHING * self.step_s else None

    @property
    def overhead_s(self) -> float:
        """What a step takes longer than ideal; below 0 where it takes less."""
        return self.step_s - self.ideal_step_s


@dataclass(frozen=True)
class Doubling:
    """What twice the ranks of the largest run would bring, as the fitted law has it."""

    workers: int
    rate: Interval
    speedup: Interval
    efficiency: Interval
    gain: float
    """Its rate over that of the largest run."""


@dataclass(frozen=True)
class Scaling:
    """What more ranks brought. The first point, of the fewest ranks, is the baseline."""

    kind: str
    """``strong``, ``weak`` or ``neither``."""
    why: str
    """What the runs did that makes it so, as a sentence."""
    unit: str
    points: tuple[Point, ...]
    law: Fit | None
    """None where the kind is neither."""
    doubling: Doubling | None
    notes: tuple[str, ...]
    """What weakens the figures, as sentences."""


def scaling_efficiency(baseline: RunSummary, run: RunSummary) -> float | None:
    """The rate of work of each rank over that of each of the baseline's ranks: 1 where more ranks cost nothing.

    Rates are of the steady state: samples of a mean step (tokens, where samples are not known) over its time by the
    slowest rank. None where either run has no step, or neither amount is known of both.
    """
    if baseline.mean_step is None or run.mean_step is None:
        return None
    unit = common_unit([baseline.mean_step, run.mean_step])
    return None if unit is None else rate_of_a_rank(run.mean_step, unit) / rate_of_a_rank(baseline.mean_step, unit)


def scaling(runs: Sequence[RunSummary], law: str | None = None, across_hardware: bool = False) -> Scaling:
    """Compare runs. ``law`` says that a step of all ranks is the same work in every run (``strong``), or a step of
    each (``weak``), whatever amounts are recorded.

    Raises ``ComparisonError``: fewer than two world sizes, no steps, no known work, or different hardware.
    """
    named = _by_name(runs)
    states = {name: _state_of(run) for name, run in named.items()}
    differing = run_disagreements({name: list(run.identities.values()) for name, run in named.items()})
    if any(name in differing for name in HARDWARE) and not across_hardware:
        said = " ".join(sentence for name, sentence in differing.items() if name in HARDWARE)
        raise ComparisonError(f"{said} Their speeds say nothing of scaling; --force compares them all the same")
    known, groups = list(states.values()), _by_workers(states)
    unit = _unit_of(law) if law else common_unit(known)
    if unit is None:
        raise ComparisonError(NO_WORK)
    kind, why = (law, f"Taken as {law} scaling, as asked: by {unit}.") if law else kind_of(known, unit)
    baseline = pooled(list(groups[0].values()))
    points = tuple(_point(baseline, group, unit) for group in groups)
    fitted = None if kind == NEITHER else fit(kind, [s.workers for s in known], [rate_of(s, unit) for s in known])
    notes = (*differing.values(), *_whole_work(kind, runs), *_notes(named, states, points))
    return Scaling(kind, why, unit, points, fitted, _doubling(fitted, points), notes)


def _point(baseline: MeanStep, group: Mapping[str, MeanStep], unit: str) -> Point:
    whole = pooled(list(group.values()))
    rates = [rate_of(each, unit) for each in group.values()]
    speedup = rate_of(whole, unit) / rate_of(baseline, unit)
    efficiency = speedup * baseline.workers / whole.workers
    return Point(
        whole.workers, tuple(group), rate_of(whole, unit), (min(rates), max(rates)) if len(rates) > 1 else None,
        work_of(whole, unit), whole.step_s, speedup, efficiency, whole.step_s * efficiency,
        lost_time(baseline, whole, unit), whole.steps,
    )  # fmt: skip


def _doubling(law: Fit | None, points: Sequence[Point]) -> Doubling | None:
    if law is None:
        return None
    first, last = points[0], points[-1]
    workers = 2 * last.workers
    rate = law.rate(workers)
    if not rate.value > 0:
        return None
    efficiency = _scaled(rate, first.workers / workers / first.rate)
    return Doubling(workers, rate, _scaled(rate, 1 / first.rate), efficiency, rate.value / last.rate)


def _scaled(interval: Interval, factor: float) -> Interval:
    low, high = (None if bound is None else bound * factor for bound in (interval.low, interval.high))
    return Interval(interval.value * factor, low, high)


def _by_name(runs: Sequence[RunSummary]) -> dict[str, RunSummary]:
    """By id; by path, where two runs have one id. A run given twice is there once."""
    paths = {run.path: run for run in runs}
    ids = [run.run_id for run in paths.values()]
    return {run.run_id if ids.count(run.run_id) == 1 else path: run for path, run in paths.items()}


def _state_of(run: RunSummary) -> MeanStep:
    if run.mean_step is None:
        raise ComparisonError(f"run {run.run_id} has no training step: there is nothing to compare. Leave it out")
    return run.mean_step


def _unit_of(law: str) -> str:
    return STEPS if law == STRONG else RANK_STEPS


def _by_workers(states: Mapping[str, MeanStep]) -> list[dict[str, MeanStep]]:
    sizes = sorted({each.workers for each in states.values()})
    if len(sizes) < 2:
        raise ComparisonError(
            f"got {len(states)} run{'' if len(states) == 1 else 's'} at one world size ({', '.join(map(str, sizes))}); "
            "scaling needs runs at two sizes or more"
        )
    return [{run: each for run, each in states.items() if each.workers == size} for size in sizes]


def _whole_work(kind: str, runs: Sequence[RunSummary]) -> list[str]:
    totals = [run.merged.counts.samples for run in runs]
    known = [total for total in totals if total]
    if kind != WEAK or len(known) < len(totals) or max(known) > SAME * min(known):
        return []
    return [f"All runs trained {max(known):,} samples, so the speed-up is that of the whole training, too."]


def _notes(runs: Mapping[str, RunSummary], states: Mapping[str, MeanStep], points: Sequence[Point]) -> list[str]:
    notes = []
    if points[0].workers > 1:
        notes.append(f"The baseline has {points[0].workers} ranks: what these lose already is not seen.")
    for name, run in runs.items():
        state, missing = states[name], missing_ranks(run.identities)
        if missing:
            notes.append(f"Run {name} lacks the record of {len(missing)} of its ranks: taken to be like the rest.")
        if run.state in ("failed", "died"):
            notes.append(f"Run {name} {run.state}: its steps until then are compared.")
        if state.steps <= FEW_STEPS:
            notes.append(
                f"Run {name} has few steps ({state.steps:.0f}): its first ones, which often are slower, are included."
            )
        if state.left_out_s:
            notes.append(f"Run {name}: {state.left_out_s:.3g} s of checkpoints and evaluations are left out.")
    if any(state.workers > 1 and state.forward_s is None for state in states.values()):
        notes.append("Forward and backward are not recorded of all runs: communication inside backward is not seen.")
    return notes
