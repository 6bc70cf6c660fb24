"""A file of requirements, read: YAML, a measure's name and what it has to be on each line.

Everything that can be known to be wrong without a run is refused here, with file, line and column: a name that no
measure has, a unit of something else, a bound that cannot be reached, a name given twice.
"""

import re
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from otel_train.derive import catalogue
from otel_train.errors import RequirementError, UnknownMeasure
from otel_train.requirements.conditions import read_conditions
from otel_train.requirements.forms import FORMS, Field, read_form
from otel_train.requirements.requirement import Found, Place, Requirement
from otel_train.resource_names import RESOURCES, attributes_of, series_of

if TYPE_CHECKING:
    from yaml.nodes import Node

MOST_BYTES = 128 << 10
"""Of a file: two thousand lines, and a second or two of reading."""
MOST_REQUIREMENTS = 500

EXAMPLE = 'a mapping of measures: tokens_per_second: ">= 50000"'


def read_requirements(at: Path) -> list[Requirement]:
    """Read a file. Raises ``RequirementError``, which says the place; names of rules are left to ``check_rules``."""
    with at.expanduser().open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise RequirementError(f"{at} is larger than {MOST_BYTES >> 10} KiB, which is the most that is read")
    try:
        return parse(content.decode("utf-8-sig"), str(at))
    except UnicodeDecodeError as error:
        raise RequirementError(f"{at} is no text in UTF-8: {error}") from error


def parse(text: str, at: str) -> list[Requirement]:
    """The requirements in a text; ``at`` is what it is called in errors."""
    found: dict[str, Requirement] = {}
    for key, value in _entries(text, at):
        place, name = _place(key, at), _scalar(key, at)
        if name in found:
            raise RequirementError(f"{place}: {name!r} is there already, in line {found[name].place.line}")
        found[name] = _requirement(name, place, value, at)
    if len(found) > MOST_REQUIREMENTS:
        raise RequirementError(f"{at} has {len(found)} requirements; allowed are {MOST_REQUIREMENTS}")
    return list(found.values())


def check_rules(requirements: Collection[Requirement], rules: Collection[str]) -> None:
    """Refuse ``alert.<rule>`` of a rule that is not among these: it could never fail. Raises ``RequirementError``."""
    for requirement in requirements:
        rule = requirement.name.removeprefix("alert.")
        if rule != requirement.name and rule not in rules:
            near = get_close_matches(rule, rules, 5, 0.4) or sorted(rules)
            raise RequirementError(
                f"{requirement.place}: there is no rule {rule!r}, built in, in OTEL_TRAIN_ALERTS or in the run's "
                f"record; there are {', '.join(near)}. All built-in ones: otel-train alerts list"
            )


def _entries(text: str, at: str) -> "list[tuple[Node, Node]]":
    """The pairs of the mapping that the text is."""
    import yaml

    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise RequirementError(_no_yaml(error, text, at)) from error
    except RecursionError as error:
        raise RequirementError(f"{at} is nested too deep; allowed is {EXAMPLE}") from error
    if root is None:
        raise RequirementError(f"{at} holds no requirement; allowed is {EXAMPLE}")
    if not isinstance(root, yaml.MappingNode):
        raise RequirementError(f"{_place(root, at)}: got a {_what(root)}; allowed is {EXAMPLE}")
    if not root.value:
        raise RequirementError(f"{_place(root, at)}: there is no requirement; allowed is {EXAMPLE}")
    pairs: list[tuple[Node, Node]] = root.value
    return pairs


def _no_yaml(error: Exception, text: str, at: str) -> str:
    """``>= 5`` without quotes begins a folded text in YAML: the mistake that everyone makes once."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f"{at} cannot be read as YAML: {' '.join(str(error).split())}"
    line = text.splitlines()[mark.line] if mark.line < len(text.splitlines()) else ""
    bare = re.match(r"""[^#'"]*?:\s*(>.*)$""", line)
    quotes = f'. Conditions that begin with > need quotes: "{bare[1].strip()}"' if bare else ""
    return f"{at}, line {mark.line + 1}, column {mark.column + 1}: no YAML, {getattr(error, 'problem', error)}{quotes}"


def _requirement(name: str, place: Place, value: "Node", at: str) -> Requirement:
    if name in FORMS:
        return read_form(name, place, _fields(name, value, at))
    try:
        measure, unit, most = _measure(name)
    except (UnknownMeasure, ValueError) as error:
        raise RequirementError(f"{place}: {error}") from error
    text = _scalar(value, at)
    try:
        conditions = read_conditions(text, unit, most)
    except ValueError as error:
        raise RequirementError(f"{_place(value, at)}: {name}: {error}") from error
    return Requirement(name, " ".join(text.split()), place, unit, conditions, lambda run: Found(measure.of(run)))


def _fields(name: str, value: "Node", at: str) -> dict[str, Field]:
    import yaml

    if not isinstance(value, yaml.MappingNode):
        raise RequirementError(f"{_place(value, at)}: got a {_what(value)}; allowed is {FORMS[name].example}")
    fields: dict[str, Field] = {}
    for key, node in value.value:
        known = _scalar(key, at)
        if known in fields:
            raise RequirementError(f"{_place(key, at)}: {name}: {known!r} is given twice")
        fields[known] = Field(_scalar(node, at), _place(node, at))
    return fields


def _measure(name: str) -> tuple[catalogue.Measure, str, float]:
    """The measure, its unit, and the most that it can be. Raises ``UnknownMeasure``, ``ValueError``."""
    try:
        measure = catalogue.find(name)
    except UnknownMeasure:
        form = get_close_matches(name, FORMS, 1, 0.8)
        if form:
            raise ValueError(f"got {name!r}; allowed is {FORMS[form[0]].example}") from None
        raise
    resource = re.fullmatch(r"resource\.(.+)\.(?:max|mean)", name)
    if resource:
        return measure, _unit_of_column(resource[1]), float("inf")
    return measure, measure.unit, 1.0 if measure.unit == catalogue.SHARE else float("inf")


def _unit_of_column(column: str) -> str:
    metric, attributes = series_of(column)
    if metric not in RESOURCES:
        near = get_close_matches(metric, RESOURCES, 5, 0.4) or list(RESOURCES)
        raise ValueError(f"there is no resource metric {metric!r}; near are {', '.join(near)}. All: docs/telemetry.md")
    for key, _ in attributes:
        if key not in attributes_of(metric):
            allowed = ", ".join(attributes_of(metric)) or "none"
            raise ValueError(f"the metric {metric} has no attribute {key!r}; allowed are {allowed}")
    return RESOURCES[metric].unit


def _scalar(node: "Node", at: str) -> str:
    """The text of a name or of conditions, as it stands there: YAML would make 1:30 a number, and yes a truth."""
    import yaml

    if not isinstance(node, yaml.ScalarNode) or not node.tag.startswith("tag:yaml.org,2002:"):
        raise RequirementError(f'{_place(node, at)}: got a {_what(node)}; allowed is a text: ">= 50000"')
    if node.style in (">", "|"):
        raise RequirementError(f'{_place(node, at)}: got a block of text; conditions with > need quotes: ">= 50000"')
    text: str = node.value.strip()
    if not text.isprintable():
        raise RequirementError(f"{_place(node, at)}: got {text!r}; allowed are characters that can be printed")
    return text


def _what(node: "Node") -> str:
    kind = type(node).__name__.removesuffix("Node").lower()
    return f"{kind} with the tag {node.tag}" if node.tag.startswith("!") else kind


def _place(node: "Node", at: str) -> Place:
    return Place(at, node.start_mark.line + 1, node.start_mark.column + 1)


__all__ = ["check_rules", "parse", "read_requirements"]
