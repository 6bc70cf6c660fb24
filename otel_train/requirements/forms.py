"""Requirements that need more than a measure's name: a goal that a run is projected to, a run that it is compared with.

Each is a mapping of a few fields::

    scaling_efficiency: {baseline: RUN, min: "80 %"}
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from otel_train.derive.agreement import HARDWARE, run_disagreements
from otel_train.derive.catalogue import SHARE
from otel_train.derive.scaling import scaling_efficiency
from otel_train.derive.summary import RunSummary
from otel_train.errors import OtelTrainError, RequirementError
from otel_train.requirements.conditions import Condition, can_hold
from otel_train.requirements.requirement import Place, Requirement
from otel_train.requirements.units import read_quantity

BOUNDS = {"min": ">=", "max": "<="}

SCALING_EFFICIENCY = "scaling_efficiency"


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
    return replace(
        requirement,
        of=lambda run: None if _other_hardware(baseline, run) else scaling_efficiency(baseline, run),
        why_not=lambda run: _other_hardware(baseline, run) or _nothing_in_common(baseline, run),
    )


def _other_hardware(baseline: RunSummary, run: RunSummary) -> str:
    """Why the speeds of two runs say nothing of scaling; empty where they do."""
    told = {one.path: list(one.identities.values()) for one in (baseline, run)}
    return " ".join(sentence for fact, sentence in run_disagreements(told).items() if fact in HARDWARE)


def _nothing_in_common(baseline: RunSummary, run: RunSummary) -> str:
    for one in (baseline, run):
        if one.steady is None:
            return f"run {one.run_id} has no training step on record"
    return "neither samples nor tokens are known of both runs"


def _read_scaling(name: str, place: Place, fields: Fields) -> Requirement:
    if "baseline" not in fields or not fields["baseline"].text:
        raise RequirementError(f"{place}: {name} has no baseline; allowed is {FORMS[name].example}")
    baseline = fields["baseline"].text
    conditions = _bounds(name, place, fields, SHARE)
    expected = f"{_written(fields)} of {baseline}"
    return Requirement(name, expected, place, SHARE, conditions, lambda run: None, baseline=baseline)


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
    SCALING_EFFICIENCY: Form(("baseline", *BOUNDS), 'scaling_efficiency: {baseline: RUN, min: "80 %"}', _read_scaling),
}
"""By name."""


__all__ = ["FORMS", "Field", "read_form", "with_baselines"]
