"""Runs at several world sizes side by side: what more ranks brought, and where the time went that they did not bring.

Everything is of the steady state (``steady``) and per unit of work: a sample, or a token where samples are not known.
``p`` ranks of a run spend ``p * step_s`` rank-seconds on the work of a step. What they spend on a unit of it more than
the ranks of the baseline is lost; since the same classes make up both, each class's difference is its part of the loss.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from otel_train.derive.agreement import HARDWARE, missing_ranks, run_disagreements
from otel_train.derive.evidence import COMMUNICATION, COMPUTE, INPUT, LAUNCH, OPTIMIZER
from otel_train.derive.scaling_law import STRONG, WEAK, Fit, Interval, fit
from otel_train.derive.steady import IMBALANCE, Steady
from otel_train.derive.steps import FEW_STEPS
from otel_train.derive.summary import RunSummary
from otel_train.errors import NotComparable

SAMPLES, TOKENS, STEPS, RANK_STEPS = "samples", "tokens", "steps", "rank-steps"
"""What work is counted in. Where neither samples nor tokens are known and the law is given: steps of the whole run
(strong), or of each rank (weak)."""

NEITHER = "neither"

DATA, OTHER = "data", "other"
PARTS = {INPUT: DATA, COMMUNICATION: COMMUNICATION, IMBALANCE: IMBALANCE, LAUNCH: LAUNCH, COMPUTE: COMPUTE,
         OPTIMIZER: OPTIMIZER}  # fmt: skip
"""Parts of the lost time by class; all other classes are ``other``."""

SAME = 1.05
"""Batches up to this ratio are the same: the last one of an epoch may be smaller."""


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
    """Where ``overhead_s`` went, by part; they add up to it. Below 0 is gained."""
    steps: float
    """How many steps of a rank were judged, over its runs."""

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
    if baseline.steady is None or run.steady is None:
        return None
    unit = common_unit([baseline.steady, run.steady])
    return None if unit is None else _per_rank(run.steady, unit) / _per_rank(baseline.steady, unit)


def scaling(runs: Sequence[RunSummary], law: str | None = None, across_hardware: bool = False) -> Scaling:
    """Compare runs. ``law`` (``strong``, ``weak``) says the kind where the runs do not show it.

    Raises ``NotComparable``: fewer than two world sizes, no steps, no known work, or different hardware.
    """
    named = _by_name(runs)
    states = {name: _state_of(run) for name, run in named.items()}
    differing = run_disagreements({name: list(run.identities.values()) for name, run in named.items()})
    if any(name in differing for name in HARDWARE) and not across_hardware:
        said = " ".join(sentence for name, sentence in differing.items() if name in HARDWARE)
        raise NotComparable(f"{said} Their speeds say nothing of scaling; --force compares them all the same")
    known, groups = list(states.values()), _by_workers(states)
    unit = common_unit(known) or _unit_of(law)
    kind, why = (law, f"Taken as {law} scaling, as asked.") if law else kind_of(known, unit)
    baseline = pooled(list(groups[0].values()))
    points = tuple(_point(baseline, group, unit) for group in groups)
    fitted = None if kind == NEITHER else fit(kind, [s.workers for s in known], [_rate(s, unit) for s in known])
    notes = (*differing.values(), *_notes(named, states, points))
    return Scaling(kind, why, unit, points, fitted, _doubling(fitted, points), notes)


def kind_of(runs: Sequence[Steady], unit: str) -> tuple[str, str]:
    """``strong``, ``weak`` or ``neither``, by the work of a step, and why."""
    totals = [_work(each, unit) for each in runs]
    shares = [_work(each, unit) / each.workers for each in runs]
    if max(totals) <= SAME * min(totals):
        return STRONG, f"Every run has the same {unit} in a step of all ranks ({_range(totals)}): strong scaling."
    if max(shares) <= SAME * min(shares):
        return WEAK, f"Every run has the same {unit} in a step of each rank ({_range(shares)}): weak scaling."
    return NEITHER, (
        f"Neither strong nor weak scaling: the {unit} of a step differ in all ({_range(totals)}) and for each rank "
        f"({_range(shares)}). Compared by {unit} a second; no law is fitted."
    )


def common_unit(runs: Sequence[Steady]) -> str | None:
    """What work can be counted in: samples, else tokens; None where neither is known of all runs."""
    known = (unit for unit in (SAMPLES, TOKENS) if all(getattr(each, unit) for each in runs))
    return next(known, None)


def pooled(runs: Sequence[Steady]) -> Steady:
    """Several runs at one world size as one: their mean step, each step counted alike."""
    steps = sum(each.steps for each in runs)

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value * each.steps for value, each in zip(values, runs, strict=True) if value is not None]
        return sum(known) / steps if len(known) == len(runs) else None

    classes = dict.fromkeys(what for each in runs for what in each.times_s)
    return Steady(
        runs[0].workers,
        min(each.ranks for each in runs),
        steps,
        mean([each.step_s for each in runs]) or 0.0,
        mean([each.samples for each in runs]),
        mean([each.tokens for each in runs]),
        {what: mean([each.times_s.get(what, 0.0) for each in runs]) or 0.0 for what in classes},
        mean([each.forward_s for each in runs]),
        sum(each.left_out_s for each in runs),
    )


def lost_time(baseline: Steady, run: Steady, unit: str) -> dict[str, float]:
    """Where a step of the run loses time against the baseline, in s of each rank; the parts add up to all of it.

    DDP reduces gradients inside ``backward``. What backward takes longer than forward's change explains (in both runs
    the model is the same, so is its ratio) is counted as communication.
    """
    share = _work(run, unit) / run.workers / (_work(baseline, unit) / baseline.workers)
    differences = {
        what: run.times_s.get(what, 0.0) - share * baseline.times_s.get(what, 0.0)
        for what in (*baseline.times_s, *run.times_s)
    }
    parts = {name: differences.get(what, 0.0) for what, name in PARTS.items()}
    hidden = _hidden_communication(baseline, run)
    parts[COMPUTE] -= hidden
    parts[COMMUNICATION] += hidden
    parts[OTHER] = run.step_s - share * baseline.step_s - math.fsum(parts.values())
    return parts


def _hidden_communication(baseline: Steady, run: Steady) -> float:
    if run.workers <= baseline.workers or not baseline.forward_s or not run.forward_s:
        return 0.0
    ratio = (baseline.times_s.get(COMPUTE, 0.0) - baseline.forward_s) / baseline.forward_s
    return max(run.times_s.get(COMPUTE, 0.0) - run.forward_s * (1 + ratio), 0.0)


def _point(baseline: Steady, group: Mapping[str, Steady], unit: str) -> Point:
    whole = pooled(list(group.values()))
    rates = [_rate(each, unit) for each in group.values()]
    speedup = _rate(whole, unit) / _rate(baseline, unit)
    efficiency = speedup * baseline.workers / whole.workers
    return Point(
        whole.workers, tuple(group), _rate(whole, unit), (min(rates), max(rates)) if len(rates) > 1 else None,
        _work(whole, unit), whole.step_s, speedup, efficiency, whole.step_s * efficiency,
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


def _state_of(run: RunSummary) -> Steady:
    if run.steady is None:
        raise NotComparable(f"run {run.run_id} has no training step: there is nothing to compare. Leave it out")
    return run.steady


def _unit_of(law: str | None) -> str:
    if law is None:
        raise NotComparable(
            "neither samples nor tokens are known of all runs, so what their steps did is not. Record them "
            "(trace_step(samples=...)), or say what the runs are: --law strong (a step of all ranks is the same work) "
            "or --law weak (a step of each rank is)"
        )
    return STEPS if law == STRONG else RANK_STEPS


def _by_workers(states: Mapping[str, Steady]) -> list[dict[str, Steady]]:
    sizes = sorted({each.workers for each in states.values()})
    if len(sizes) < 2:
        raise NotComparable(
            f"got {len(states)} run{'' if len(states) == 1 else 's'} at one world size ({', '.join(map(str, sizes))}); "
            "scaling needs runs at two sizes or more"
        )
    return [{run: each for run, each in states.items() if each.workers == size} for size in sizes]


def _work(run: Steady, unit: str) -> float:
    if unit in (STEPS, RANK_STEPS):
        return 1.0 if unit == STEPS else float(run.workers)
    return float(getattr(run, unit))


def _rate(run: Steady, unit: str) -> float:
    return _work(run, unit) / run.step_s


def _per_rank(run: Steady, unit: str) -> float:
    return _rate(run, unit) / run.workers


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:,.4g}" if high <= SAME * low else f"{low:,.4g} to {high:,.4g}"


def _notes(runs: Mapping[str, RunSummary], states: Mapping[str, Steady], points: Sequence[Point]) -> list[str]:
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
            notes.append(f"Run {name} has {state.steps:.0f} steps only, the first ones included.")
        if state.left_out_s:
            notes.append(f"Run {name}: {state.left_out_s:.3g} s of checkpoints and evaluations are left out.")
    if any(state.workers > 1 and state.forward_s is None for state in states.values()):
        notes.append("Forward and backward are not recorded of all runs: communication inside backward is not seen.")
    return notes
