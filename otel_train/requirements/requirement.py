"""One line of a requirements file: a measure of a run, and what it has to be."""

from collections.abc import Callable
from dataclasses import dataclass

from otel_train.derive.summary import RunSummary
from otel_train.requirements.conditions import Condition


@dataclass(frozen=True)
class Place:
    """Where something stands: file, line and column, from 1 on."""

    path: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}, column {self.column}"


@dataclass(frozen=True)
class Found:
    """A measure of a run, in its unit; None where the record does not have it."""

    value: float | None
    remark: str = ""
    """What has to be said with it; without a value, why there is none."""


@dataclass(frozen=True)
class Requirement:
    """What a measure has to be. All conditions have to hold."""

    name: str
    """The measure's, as the file has it."""
    expected: str
    """The conditions as the file has them."""
    place: Place
    unit: str
    """UCUM's."""
    conditions: tuple[Condition, ...]
    of: Callable[[RunSummary], Found]
    baseline: str | None = None
    """The run that it is compared with: an id or a path, as the file has it."""
