"""Two sides of runs compared: is the second slower, where, by how much, and what else is different.

The step as a whole is compared by its median and mean: with several runs a side their spread says how much equal runs
differ (``difference``). With one run a side only what a phase takes beyond the others is shown (``phase_change``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from otel_train.derive.difference import (
    CONFIDENCE,
    FASTER,
    FEWEST,
    MEAN,
    MEDIAN,
    NO_DIFFERENCE,
    SLOWER,
    TOO_LITTLE,
    Difference,
    difference_of,
)
from otel_train.derive.fingerprint import UNDISTURBED, Fingerprint
from otel_train.derive.pace import TOO_LARGE
from otel_train.derive.phase_change import PhaseChange, Sides, are_alike, phase_changes
from otel_train.derive.side_changes import Change, changes
from otel_train.errors import ComparisonError

ALIKE = 0.025
"""One run a side: a pace that differs by more is said to be something that more runs would have to tell."""


IN_TURNS = "More runs of each, recorded in turns, can tell."


@dataclass(frozen=True)
class Comparison:
    """The second side beside the first."""

    first: tuple[Fingerprint, ...]
    second: tuple[Fingerprint, ...]
    median: Difference
    mean: Difference
    throughput: float | None
    """Change of samples (or else tokens, or steps) a second inside steady steps."""
    pace: float | None
    """By how much all phases alike are slower, by their undisturbed times; None where there are no two phases."""
    phases: tuple[PhaseChange, ...]
    """Those that explain most first."""
    on_gpu: bool
    """Are these the phases as the GPU took them? Else as the host did."""
    changes: tuple[Change, ...]
    verdict: str
    sentence: str

    @property
    def sees(self) -> float | None:
        """The smallest change of one phase that would have been shown, in parts of a step; None where none would."""
        reaches = [phase.reach[UNDISTURBED] for phase in self.phases if UNDISTURBED in phase.reach]
        return max(reaches, default=None)

    @property
    def several(self) -> bool:
        """Do runs of both sides say how much equal runs differ? A single one may have met a machine unlike theirs."""
        return min(len(self.first), len(self.second)) > 1

    @property
    def change(self) -> float | None:
        """The best estimate of how much longer a step takes: of the median or mean where that is shown to change, else
        of the phases that are; of the median where nothing is shown."""
        if self.several:
            for step in (self.median, self.mean):
                if step.verdict in (SLOWER, FASTER):
                    return step.change
        return _net(self.phases) if self.verdict in (SLOWER, FASTER) else self.median.change


def compare(
    first: Sequence[Fingerprint], second: Sequence[Fingerprint], across_hardware: bool = False,
    confidence: float = CONFIDENCE,
) -> Comparison:  # fmt: skip
    """Compare two sides. Raises ``ComparisonError`` for different hardware, unless that is what is asked for."""
    if not across_hardware:
        _refuse_other_hardware(first, second)
    sides = tuple(first), tuple(second)
    each = 1 - (1 - confidence) / 4  # half of what may go wrong is for the step, in two tests; half for its phases
    median, mean = (_step(sides, name, each) for name in (MEDIAN, MEAN))
    told = min(run.steps for side in sides for run in side) >= FEWEST
    on_gpu = all(run.on_gpu for side in sides for run in side)
    timed = (_by_the_gpu(first), _by_the_gpu(second)) if on_gpu else sides
    phases, pace = phase_changes(timed, 1 - (1 - confidence) / 2) if told else ((), None)
    verdict, sentence = _judged(timed, median, mean, phases, pace)
    return Comparison(
        *sides, median, mean, _throughput(sides), pace, phases, on_gpu, tuple(changes(*sides)), verdict, sentence
    )


def keeps(found: Comparison, most: float) -> tuple[bool | None, str]:
    """Is the second side slower by no more than ``most``, a part of one? None cannot be told; and why, in a sentence.

    Not kept is a limit only when slower is shown, and the best estimate is above it.
    """
    limit = f"{most * 100:g} %"
    if found.verdict == TOO_LITTLE:
        return None, f"it cannot be told whether it is slower by more than {limit}: {found.sentence}"
    if found.verdict == SLOWER and found.change is not None and found.change > most:
        return False, f"slower by {_signed(found.change)}, and {limit} is the limit."
    if found.verdict == NO_DIFFERENCE and not _would_see(found, most):
        return None, f"a change of {limit} would not be seen. Several runs a side, in turns, show smaller ones."
    return True, f"{found.verdict}; {limit} is the limit."


def _would_see(found: Comparison, most: float) -> bool:
    """Would a change of that size have been shown?"""
    by_phase = found.sees is not None and found.sees <= most
    median = found.median
    by_step = found.several and median.high is not None and median.high <= most
    return by_phase or by_step


def _by_the_gpu(side: Sequence[Fingerprint]) -> tuple[Fingerprint, ...]:
    return tuple(run.by_the_gpu() for run in side)


def _refuse_other_hardware(first: Sequence[Fingerprint], second: Sequence[Fingerprint]) -> None:
    for run in (*first[1:], *second):
        known, other = first[0].facts["hardware"], run.facts["hardware"]
        for key in known.keys() & other.keys():
            if known[key] != other[key]:
                raise ComparisonError(
                    f"runs {first[0].run_id} and {run.run_id} had different hardware ({key}: {known[key]}; "
                    f"{other[key]}): their times say nothing about the code. Compare them anyway with --across-hardware"
                )


def _step(sides: Sides, name: str, confidence: float) -> Difference:
    before, after = ([run.estimates[name] for run in side if name in run.estimates] for side in sides)
    return difference_of(before, after, confidence)


def _throughput(sides: Sides) -> float | None:
    for name in ("samples_per_s", "tokens_per_s"):
        rates = [[getattr(run, name) for run in side] for side in sides]
        if all(rate for side in rates for rate in side):
            return float(np.mean(rates[1]) / np.mean(rates[0])) - 1
    means = [[run.estimates[MEAN].value for run in side if run.estimates] for side in sides]
    return float(np.mean(means[0]) / np.mean(means[1])) - 1 if all(means) else None


def _judged(
    sides: Sides, median: Difference, mean: Difference, phases: Sequence[PhaseChange], pace: float | None
) -> tuple[str, str]:
    """The verdict, and the sentence that says what it rests on."""
    fewest = min(run.steps for side in sides for run in side)
    if fewest < FEWEST or median.low is None:
        return TOO_LITTLE, f"a run has {fewest} steady steps, and fewer than {FEWEST} tell nothing."
    several = min(map(len, sides)) > 1
    step = next((each.verdict for each in (median, mean) if each.verdict != NO_DIFFERENCE), NO_DIFFERENCE)
    shown = [phase for phase in phases if phase.verdict != NO_DIFFERENCE]
    where = "; ".join(f"{phase.name} {_signed(phase.shown)} of a step" for phase in shown)
    if several and step != NO_DIFFERENCE:
        which = f"the median step changes by {_signed(median.change)}, the mean by {_signed(mean.change)}"
        return step, f"{which}{': ' + where if where else ', no phase more than the others'}."
    alone = not several and (pace is None or abs(pace) > ALIKE) and are_alike(sides, phases)
    shorter_s = min(sum(phase.before_s for phase in phases), sum(phase.after_s for phase in phases))
    alone = alone and not any(abs(phase.after_s - phase.before_s) > TOO_LARGE * shorter_s for phase in shown)
    if shown and not alone and not shown[0].is_its_own:
        return TOO_LITTLE, f"{where} beside the other phases, but the step as a whole changes the other way. {IN_TURNS}"
    if shown and not alone:
        verdict = SLOWER if _net(shown) > 0 else FASTER
        return verdict, f"{where}; the other phases differ by no more than the machine does."
    if not several and (pace is None or abs(pace) > ALIKE):
        return TOO_LITTLE, _alike(median, pace)
    return NO_DIFFERENCE, f"the median step changes by {_signed(median.change)}, which equal runs do too."


def _net(phases: Sequence[PhaseChange]) -> float:
    """What those that changed by themselves make together, in parts of a step."""
    return sum(phase.shown for phase in phases if phase.shown and phase.is_its_own)


def _alike(median: Difference, pace: float | None) -> str:
    if pace is None:
        step = _signed(median.change)
        return f"the median step changes by {step}, which can be the machine: a side has one run. {IN_TURNS}"
    return f"all phases change alike, by {_signed(pace)}, which can be the machine: a side has one run. {IN_TURNS}"


def _signed(change: float | None) -> str:
    return "?" if change is None else f"{change * 100:+.1f} %"
