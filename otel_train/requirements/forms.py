"""Requirements that need more than a measure's name: a goal that a run is projected to, a run that it is compared with.

Each is a mapping of a few fields::

    projected_time: {samples: 6_000_000, max: 10h}
    scaling_efficiency: {baseline: RUN, min: "80 %"}
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from otel_train.derive.agreement import HARDWARE, run_disagreements
from otel_train.derive.catalogue import SECOND, SHARE
from otel_train.derive.goal import UNITS as GOALS
from otel_train.derive.goal import Goal
from otel_train.derive.projection import project
from otel_train.derive.scaling import scaling_efficiency
from otel_train.derive.summary import RunSummary
from otel_train.errors import OtelTrainError, RequirementError
from otel_train.requirements.conditions import Condition, can_hold
from otel_train.requirements.requirement import Found, Place, Requirement
from otel_train.requirements.units import Quantity, read_quantity, told

BOUNDS = {"min": ">=", "max": "<="}

SCALING_EFFICIENCY, PROJECTED_TIME = "scaling_efficiency", "projected_time"
ESTIMATE, UPPER = "estimate", "upper"
"""What of a projection is judged: the time that it takes, or the upper end of its interval."""


@dataclass(frozen=True)
class Field:
    """A field of a form: what is written, and where."""

    text: str
    place: Place


Fields = Mapping[str, Field]


@dataclass(frozen=True)
class Form:
    """What the fields may be, what they look like, and how they are read."""

    fields: tuple[str, ...]
    example: str
    read: Callable[[str, Place, Fields], Requirement]


def read_form(name: str, place: Place, fields: Fields) -> Requirement:
    """Read one of ``FORMS``. Raises ``RequirementError``."""
    form = FORMS[name]
    for key, field in fields.items():
        if key not in form.fields:
            allowed = ", ".join(form.fields)
            raise RequirementError(f"{field.place}: {name}: got {key!r}; allowed are {allowed}: {form.example}")
    return form.read(name, place, fields)


def with_baselines(requirements: Iterable[Requirement], summary_of: Callable[[str], RunSummary]) -> list[Requirement]:
    """The requirements with the runs that they compare with, each read once. Raises ``RequirementError``."""
    runs: dict[str, RunSummary] = {}
    bound = []
    for requirement in requirements:
        wanted = requirement.baseline
        if wanted is None:
            bound.append(requirement)
            continue
        try:
            runs[wanted] = runs.get(wanted) or summary_of(wanted)
        except OtelTrainError as error:
            raise RequirementError(f"{requirement.place}: {requirement.name}: baseline: {error}") from error
        bound.append(_compared(requirement, runs[wanted]))
    return bound


def _compared(requirement: Requirement, baseline: RunSummary) -> Requirement:
    return replace(requirement, of=lambda run: _efficiency(baseline, run))


def _efficiency(baseline: RunSummary, run: RunSummary) -> Found:
    told = {one.path: list(one.identities.values()) for one in (baseline, run)}
    other_hardware = [said for fact, said in run_disagreements(told).items() if fact in HARDWARE]
    if other_hardware:
        return Found(None, " ".join(other_hardware))
    for one in (baseline, run):
        if one.mean_step is None:
            return Found(None, f"run {one.run_id} has no training step on record")
    value = scaling_efficiency(baseline, run)
    return Found(value, "neither samples nor tokens are known of both runs" if value is None else "")


def _read_scaling(name: str, place: Place, fields: Fields) -> Requirement:
    if "baseline" not in fields or not fields["baseline"].text:
        raise RequirementError(f"{place}: {name} has no baseline; allowed is {FORMS[name].example}")
    baseline = fields["baseline"].text
    conditions = _bounds(name, place, fields, SHARE)
    expected = f"{_written(fields)} of {baseline}"
    unread = Found(None, f"the baseline {baseline} was not read")
    return Requirement(name, expected, place, SHARE, conditions, lambda run: unread, baseline=baseline)


def _read_projection(name: str, place: Place, fields: Fields) -> Requirement:
    given = [unit for unit in GOALS if unit in fields]
    if len(given) != 1:
        raise RequirementError(f"{place}: {name} needs one of {', '.join(GOALS)}; allowed is {FORMS[name].example}")
    goal = Goal(_amount(name, given[0], fields[given[0]]), given[0])
    by = fields["by"].text if "by" in fields else ESTIMATE
    if by not in (ESTIMATE, UPPER):
        raise RequirementError(f"{fields['by'].place}: {name}: got by: {by!r}; allowed are {ESTIMATE} and {UPPER}")
    conditions = _bounds(name, place, fields, SECOND)
    expected = f"{_written(fields)} to {fields[given[0]].text} {goal.unit}" + (f" by {UPPER}" if by == UPPER else "")
    like = conditions[0].bound
    return Requirement(name, expected, place, SECOND, conditions, lambda run: _projected(run, goal, by, like))


def _projected(run: RunSummary, goal: Goal, by: str, like: Quantity) -> Found:
    """The time from the first step to the goal. What it says beside: the interval, in the bound's unit."""
    projection = project(run, goal)
    if projection.total is None:
        return Found(None, projection.why)
    if projection.reached:
        return Found(projection.total.time_s, "the goal is reached")
    low_s, high_s = projection.low_s, projection.high_s
    if low_s is None or high_s is None:
        said = "too little of the run is there for an interval"
        return Found(None, said) if by == UPPER else Found(projection.total.time_s, said)
    said = f"95 % between {told(low_s, like)} and {told(high_s, like)}, by {projection.trusted}"
    return Found(high_s if by == UPPER else projection.total.time_s, said)


def _amount(name: str, unit: str, field: Field) -> float:
    try:
        amount = read_quantity(field.text, f"{{{unit.removesuffix('s')}}}").value
    except ValueError as error:
        raise RequirementError(f"{field.place}: {name}: {unit}: {error}") from error
    if not amount > 0:
        raise RequirementError(f"{field.place}: {name}: {unit}: got {field.text}; allowed is more than 0")
    return amount


def _bounds(name: str, place: Place, fields: Fields, ucum: str) -> tuple[Condition, ...]:
    """What ``min`` and ``max`` say."""
    found = []
    for key in (key for key in BOUNDS if key in fields):
        try:
            bound = read_quantity(fields[key].text, ucum)
        except ValueError as error:
            raise RequirementError(f"{fields[key].place}: {name}: {key}: {error}") from error
        if bound.value < 0:
            raise RequirementError(f"{fields[key].place}: {name}: {key}: got {bound}; allowed are bounds from 0 on")
        found.append(Condition(BOUNDS[key], bound))
    if not found:
        raise RequirementError(f"{place}: {name} has neither min nor max; allowed is {FORMS[name].example}")
    if not can_hold(found):
        raise RequirementError(f"{place}: {name}: min is above max, which no value meets")
    return tuple(found)


def _written(fields: Fields) -> str:
    return ", ".join(f"{BOUNDS[key]} {fields[key].text}" for key in BOUNDS if key in fields)


FORMS = {
    PROJECTED_TIME: Form((*GOALS, *BOUNDS, "by"), "projected_time: {samples: 6_000_000, max: 10h}", _read_projection),
    SCALING_EFFICIENCY: Form(("baseline", *BOUNDS), 'scaling_efficiency: {baseline: RUN, min: "80 %"}', _read_scaling),
}
"""By name."""


__all__ = ["FORMS", "Field", "read_form", "with_baselines"]
