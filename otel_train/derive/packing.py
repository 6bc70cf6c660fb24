"""Packing efficiency: the part of the tokens that is no padding, over the run and of its steps."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from otel_train.runlog.layout import MISSING
from otel_train.runlog.records import Records

LOW = 0.8
"""A step whose tokens are padding for more than a fifth is a badly packed one."""


@dataclass
class Packing:
    """The training steps whose tokens and padding are known."""

    steps: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    minimum: float | None = None
    """The lowest efficiency of a step; None without one that has tokens."""
    low_steps: int = 0
    """Steps under ``LOW``."""

    @property
    def efficiency(self) -> float | None:
        """1 - padded tokens / tokens, over all of them; None without a token."""
        return 1 - self.padded_tokens / self.tokens if self.tokens else None

    @property
    def low_share(self) -> float | None:
        """The part of the steps under ``LOW``; None without a step."""
        return self.low_steps / self.steps if self.steps else None

    def add(self, records: Records) -> None:
        """Add a segment's. A step without tokens has no efficiency."""
        known = (records["padded_tokens"] != MISSING) & (records["tokens"] != MISSING) & (records["tokens"] > 0)
        tokens, padded = records["tokens"][known], records["padded_tokens"][known]
        if not len(tokens):
            return
        efficiencies = 1 - padded / tokens
        lowest = float(efficiencies.min())
        self._join(
            len(tokens), int(tokens.sum(dtype=np.int64)), int(padded.sum(dtype=np.int64)), lowest,
            int(np.count_nonzero(efficiencies < LOW)),
        )  # fmt: skip

    def merge(self, other: "Packing") -> None:
        """Add another rank's."""
        self._join(other.steps, other.tokens, other.padded_tokens, other.minimum, other.low_steps)

    def _join(self, steps: int, tokens: int, padded: int, lowest: float | None, low: int) -> None:
        self.steps, self.tokens, self.padded_tokens = (
            self.steps + steps,
            self.tokens + tokens,
            self.padded_tokens + padded,
        )
        self.low_steps += low
        self.minimum = min((each for each in (self.minimum, lowest) if each is not None), default=None)


def merged_packing(ranks: Iterable[Packing]) -> Packing | None:
    """All ranks as one; None where it is not known."""
    total = Packing()
    for each in ranks:
        total.merge(each)
    return total if total.steps else None
