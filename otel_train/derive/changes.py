"""What changed during a run: levels of the step time and of the throughput, and what was set differently.

Judged are the steady steps: the first ones are left out, evaluation steps are none, and what is judged of each part of
the run is its median, so that single long steps and checkpoints change nothing.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from otel_train.derive.change_point import Column, change_points, effect
from otel_train.derive.course import Course
from otel_train.derive.scan import RankScan
from otel_train.derive.steps import StepScan

STEP_TIME, THROUGHPUT, LEVEL, LOADER, RESTART = "step_time", "throughput", "level", "loader", "restart"

SMALLEST = 0.05
"""A smaller change is not told: on a shared machine step times wander by that."""

MOSTLY = 0.5
"""The phase that makes up so much of a change is where it mostly is."""

BESIDE = 3
"""Changes so many parts of the run apart are one."""

RESTARTED = re.compile(r"(?:run|job)-.+\.(\d+)")
"""A run id that ``identity`` found by itself, of a launch that the launcher repeated."""


@dataclass(frozen=True)
class Change:
    """One change, and the first step that it holds for."""

    kind: str
    """``step_time``, ``throughput``, ``level`` (of what otel_train records), ``loader`` or ``restart``."""
    step: int
    unix_s: float
    """When that step began."""
    before: float | None
    after: float | None
    """The median step in s, or samples a second (tokens, steps, where samples are not known); None where the change
    is no number."""
    effect: float | None
    """``after / before - 1``."""
    phase: str | None
    """Where a change of the step time mostly lies; None where no phase makes up half of it."""
    phase_s: float | None
    """What that phase takes longer a step, below 0 shorter."""
    ranks: tuple[int, ...]
    sentence: str


def changes(scan: RankScan) -> list[Change]:
    """The changes of one rank in the order of time."""
    course = scan.steps.course
    if course is None:
        return []
    told = [*_step_time(scan.steps, course)]
    told += _throughput(scan.steps, course, [change.step for change in told])
    return sorted([*_restart(scan), *told, *_settings(scan)], key=lambda change: change.unix_s)


def merged_changes(ranks: Sequence[Sequence[Change]], longest_part: int) -> list[Change]:
    """Those of several ranks in the order of time; what several tell alike is told once. ``longest_part`` is how many
    steps a part of the run has: changes a few parts apart are one."""
    kept: list[Change] = []
    for change in sorted((change for found in ranks for change in found), key=lambda change: change.unix_s):
        twin = next((index for index, other in enumerate(kept) if _alike(other, change, BESIDE * longest_part)), None)
        if twin is None:
            kept.append(change)
        else:
            kept[twin] = replace(kept[twin], ranks=tuple(sorted({*kept[twin].ranks, *change.ranks})))
    return kept


def _alike(one: Change, other: Change, apart: int) -> bool:
    """Several ranks tell the same: at about the same step, in the same direction."""
    if one.kind != other.kind or set(one.ranks) & set(other.ranks):
        return False
    if one.effect is None or other.effect is None:
        return one.sentence.partition(",")[2] == other.sentence.partition(",")[2]
    return one.effect * other.effect > 0 and abs(one.step - other.step) <= apart


def _step_time(steps: StepScan, course: Course) -> Iterator[Change]:
    first = course.steady
    medians = course.p50_s[first:]
    if not len(medians) or np.min(medians) <= 0:
        return
    edges = [first, *(first + at for at in change_points(medians, SMALLEST)), len(course)]
    for begin, at, end in zip(edges, edges[1:], edges[2:], strict=False):
        before, after = float(np.median(course.p50_s[begin:at])), float(np.median(course.p50_s[at:end]))
        ratio = effect(course.p50_s[begin:at], course.p50_s[at:end])
        index = _first_index(steps, course, at, before * 1e9, after * 1e9)
        phase, phase_s, where = _phase_of(course, begin, at, end, after - before)
        amount = _amount_sentence(course, begin, at, end)
        sentence = (
            f"from step {_number(course, index):,} on, steps take {_percent(ratio, 'longer', 'shorter')}{where}{amount}"
        )
        yield _change(steps, course, STEP_TIME, index, before, after, phase, phase_s, sentence)


def _first_index(steps: StepScan, course: Course, at: int, before_ns: float, after_ns: float) -> int:
    """The training step in the parts around the change that divides them best, by absolute distances to both levels."""
    edges = np.concatenate(([0], np.cumsum(course.steps)))
    begin, end = int(edges[at - 1]), int(edges[min(at + 1, len(course))])
    durations = steps.durations_ns[begin:end]
    nearer_after = np.abs(durations - before_ns) - np.abs(durations - after_ns)
    gain = np.cumsum(nearer_after[::-1])[::-1]
    return begin + int(np.argmax(gain))


def _phase_of(course: Course, begin: int, at: int, end: int, change_s: float) -> tuple[str | None, float | None, str]:
    """The phase that makes up most of a change of the step time, by how much, and how a sentence goes on."""
    means = {name: spent / course.steps for name, spent in course.phases_s.items()}
    by_phase = {name: float(np.median(mean[at:end]) - np.median(mean[begin:at])) for name, mean in means.items()}
    most = max(by_phase, key=lambda name: by_phase[name] / change_s if change_s else 0.0)
    if not change_s or by_phase[most] / change_s < MOSTLY:
        return None, None, ", spread over its phases"
    if set(by_phase) == {"other"}:
        return None, None, ""
    return most, by_phase[most], f", mostly in {most}" if most != "other" else ", mostly in no phase"


def _throughput(steps: StepScan, course: Course, told: Sequence[int]) -> Iterator[Change]:
    """Changes of what passes a second that no change of the step time explains: those of the time that a sample takes,
    over that of the median step."""
    first = course.steady
    unit, amounts = _amounts(course)
    if np.min(course.p50_s) <= 0 or np.min(course.walls_s) <= 0:
        return
    rates = amounts / course.walls_s
    edges = [first, *(first + at for at in change_points((1 / rates / course.p50_s)[first:], SMALLEST)), len(course)]
    known = np.searchsorted(course.first_steps, np.array(told), "right") - 1
    for begin, at, end in zip(edges, edges[1:], edges[2:], strict=False):
        before, after = float(np.median(rates[begin:at])), float(np.median(rates[at:end]))
        ratio = after / before - 1
        if abs(ratio) < SMALLEST or (np.abs(known - at) <= BESIDE).any():
            continue
        index = int(course.steps[:at].sum())
        why = _amount_sentence(course, begin, at, end) or _outside_sentence(course, begin, at, end)
        more = _percent(ratio, "more", "fewer")
        sentence = f"from step {_number(course, index):,} on, {more} {unit} pass a second{why}"
        yield _change(steps, course, THROUGHPUT, index, before, after, None, None, sentence)


def _amounts(course: Course) -> tuple[str, Column]:
    for unit, amounts in (("samples", course.samples), ("tokens", course.tokens)):
        if np.isfinite(amounts).all() and (amounts > 0).all():
            return unit, amounts
    return "steps", course.steps


def _amount_sentence(course: Course, begin: int, at: int, end: int) -> str:
    """How a sentence goes on where a step now has another number of samples or tokens."""
    unit, amounts = _amounts(course)
    a_step = amounts / course.steps
    ratio = effect(a_step[begin:at], a_step[at:end])
    return f"; a step has {_percent(ratio, 'more', 'fewer')} {unit}" if abs(ratio) >= SMALLEST else ""


def _outside_sentence(course: Course, begin: int, at: int, end: int) -> str:
    shares = 1 - course.stepping_s / course.walls_s
    before, after = float(np.median(shares[begin:at])), float(np.median(shares[at:end]))
    if abs(after - before) < SMALLEST / 2:
        return ""
    return f"; {after:.0%} of the time passes between steps, {before:.0%} before".replace("%", " %")


def _settings(scan: RankScan) -> Iterator[Change]:
    """What events tell: another level of recording, another loader for the training."""
    for time_ns, kind, what in scan.events.settings:
        index = int(np.searchsorted(scan.steps.starts_ns, time_ns))
        if 0 < index < scan.steps.count and scan.steps.course:
            sentence = f"from step {_number(scan.steps.course, index):,} on, {what}"
            yield _change(scan.steps, scan.steps.course, kind, index, None, None, None, None, sentence)


def _restart(scan: RankScan) -> Iterator[Change]:
    found = RESTARTED.fullmatch(str(scan.identity.get("run_id", "")))
    if found and scan.steps.course:
        sentence = f"from step {_number(scan.steps.course, 0):,} on, this is the launcher's restart {found[1]}"
        yield _change(scan.steps, scan.steps.course, RESTART, 0, None, None, None, None, sentence)


def _change(
    steps: StepScan, course: Course, kind: str, index: int, before: float | None, after: float | None,
    phase: str | None, phase_s: float | None, sentence: str,
) -> Change:  # fmt: skip
    ratio = None if before is None or after is None else after / before - 1
    unix_s = steps.anchor.to_unix_ns(int(steps.starts_ns[index])) / 1e9
    number = _number(course, index)
    return Change(kind, number, unix_s, before, after, ratio, phase, phase_s, (steps.rank,), sentence)


def _number(course: Course, index: int) -> int:
    """The number of a training step, of which a course knows those that its parts begin with."""
    edges = np.cumsum(course.steps)
    part = int(np.searchsorted(edges, index, "right"))
    return int(course.first_steps[part]) + index - int(edges[part] - course.steps[part])


def _percent(ratio: float, above: str, below: str) -> str:
    return f"{abs(ratio) * 100:.0f} % {above if ratio > 0 else below}"


def sentences(found: Iterable[Change], ranks: int) -> list[str]:
    """The changes for a person; which ranks tell of one, where not all do."""
    return [
        change.sentence
        + ("" if len(change.ranks) == ranks else f" (rank{'s' * (len(change.ranks) > 1)} {_list(change.ranks)})")
        for change in found
    ]


MOST_RANKS_NAMED = 8


def _list(ranks: Sequence[int]) -> str:
    shown = ", ".join(str(rank) for rank in ranks[:MOST_RANKS_NAMED])
    return shown + (f" and {len(ranks) - MOST_RANKS_NAMED} more" if len(ranks) > MOST_RANKS_NAMED else "")
