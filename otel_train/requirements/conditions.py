"""What a measure has to be: ``>= 50000``, ``>= 1 %, < 2 %``, ``10 ms .. 20 ms``; of a count, the number alone."""

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from otel_train.requirements.units import Quantity, read_quantity, told

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, ">": operator.gt, "<": operator.lt,
}  # fmt: skip

ROUNDING = 1e-12
"""Part of a bound that a measure may be off by its own rounding: 1 - 0.8 is 0.19999999999999996, and meets >= 20 %."""

LONGEST = 200
"""Characters of the conditions on one measure."""

GRAMMAR = 'one of >=, >, <=, <, == and a quantity, two of these with a comma between, or a range: "10 ms .. 20 ms"'


@dataclass(frozen=True)
class Condition:
    """A bound, and on which side of it the measure has to be."""

    operator: str
    bound: Quantity

    def holds(self, value: float) -> bool:
        """Is it met? ``value`` is finite, in the measure's unit; one within ``ROUNDING`` of the bound is the bound."""
        bound = self.bound.value
        return OPERATORS[self.operator](bound if self._is_reached(value) else value, bound)

    def missed_by(self, value: float) -> float:
        """How far the value is from the bound, in the measure's unit: 0 at a bound that must not be reached."""
        return 0.0 if self._is_reached(value) else abs(value - self.bound.value)

    def _is_reached(self, value: float) -> bool:
        return math.isclose(value, self.bound.value, rel_tol=ROUNDING)

    def __str__(self) -> str:
        return f"{self.operator} {self.bound}"

    def told(self, value: float) -> str:
        """The value in the bound's unit, with enough digits to tell the two apart."""
        return told(value, self.bound, self.bound.value)


def read_conditions(text: str, ucum: str, most: float = math.inf) -> tuple[Condition, ...]:
    """Read what is written for a measure of that unit. Raises ``ValueError``: what was got, what is allowed.

    ``most`` is the largest value that the measure can have.
    """
    if len(text) > LONGEST:
        raise ValueError(f"got a condition of {len(text)} characters; allowed are {LONGEST}")
    low, dots, high = text.partition("..")
    if dots:
        found = [Condition(">=", read_quantity(low, ucum)), Condition("<=", read_quantity(high, ucum))]
    else:
        found = [_one(part, text, ucum) for part in re.split(r",\s*(?=[<>=!])", text)]
    for condition in found:
        _check_bound(condition, ucum, most)
    if not can_hold(found):
        raise ValueError(f"got {text!r}, which no value meets")
    return tuple(found)


def can_hold(conditions: Sequence[Condition]) -> bool:
    """Is there a value that meets them all?"""
    low = [(each.bound.value, each.operator == ">") for each in conditions if "<" not in each.operator]
    high = [(each.bound.value, each.operator != "<") for each in conditions if ">" not in each.operator]
    lowest, highest = max(low, default=(-math.inf, False)), min(high, default=(math.inf, True))
    return lowest[0] < highest[0] or (lowest[0] == highest[0] and not lowest[1] and highest[1])


def _one(part: str, text: str, ucum: str) -> Condition:
    match = re.fullmatch(r"([<>=!]*)(.*)", part.strip(), re.DOTALL)
    assert match is not None  # the empty text matches too
    sign, quantity = match.groups()
    if sign and sign not in OPERATORS:
        raise ValueError(f"got {text!r}; allowed are {GRAMMAR}")
    if not sign and not (
        ucum.startswith("{") and ucum.endswith("}")
    ):  # a count can be equal to a number, a time hardly ever is
        read_quantity(quantity, ucum)
        raise ValueError(f"got {text!r} without >=, >, <=, < or ==; allowed are {GRAMMAR}")
    return Condition(sign or "==", read_quantity(quantity, ucum))


def _check_bound(condition: Condition, ucum: str, most: float) -> None:
    """A bound that the measure can never reach is a slip of the pen: 70 for 70 %."""
    value = condition.bound.value
    if value < 0 and ucum not in ("", "Cel"):
        raise ValueError(f"got {condition}; allowed are bounds from 0 on: the measure is never below it")
    if value > most:
        meant = f": type {value:g} %" if condition.bound.spelling == "" and value <= 100 else ""
        raise ValueError(f"got {condition}; allowed is 0 % to 100 %, or 0 to 1, as the measure is a part of one{meant}")


__all__ = ["GRAMMAR", "Condition", "can_hold", "read_conditions"]
