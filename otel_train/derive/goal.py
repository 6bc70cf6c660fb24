"""A goal of a training: so many samples, tokens, steps or epochs, as a person writes it."""

import re
from dataclasses import dataclass

from otel_train.errors import GoalError

SAMPLES, TOKENS, STEPS, EPOCHS = "samples", "tokens", "steps", "epochs"
UNITS = (SAMPLES, TOKENS, STEPS, EPOCHS)
FACTORS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
PATTERN = re.compile(r"([\d.]+(?:e\+?\d+)?) ?([kmgbt]?) ?(samples?|tokens?|steps?|epochs?)", re.IGNORECASE)


@dataclass(frozen=True)
class Goal:
    """An amount above 0, of one of ``UNITS``."""

    amount: float
    unit: str

    def __str__(self) -> str:
        return f"{self.amount:,.10g} {self.unit}"


def parse_goal(text: str) -> Goal:
    """``6M samples``, ``1G tokens`` (or ``1B``), ``100k steps``, ``3 epochs``. Raises ``GoalError``."""
    found = PATTERN.fullmatch(" ".join(text.replace("_", "").replace(",", "").split()))
    try:
        amount = float(found[1]) * FACTORS[found[2].lower()] if found else 0.0
    except ValueError:
        amount = 0.0
    if found is None or not 0 < amount < float("inf"):
        raise GoalError(
            f"got the goal {text!r}; allowed is a number above 0, with k, M, G (or B) or T if need be, and samples, "
            "tokens, steps or epochs: --goal '6M samples'"
        )
    return Goal(amount, found[3].lower().rstrip("s") + "s")
