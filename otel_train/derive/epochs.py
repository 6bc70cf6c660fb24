"""How many steps an epoch has, from the epoch numbers in the step records."""

from dataclasses import dataclass

import numpy as np

from otel_train.runlog.layout import MISSING
from otel_train.runlog.records import Records


@dataclass
class EpochSteps:
    """The training steps of the epochs that another one followed, and of the one that is going on."""

    complete: int = 0
    steps: int = 0
    """Of the complete ones, together."""
    current: int | None = None
    current_steps: int = 0

    @property
    def mean(self) -> float | None:
        """Steps an epoch; None before one was complete."""
        return self.steps / self.complete if self.complete else None

    def add(self, records: Records) -> None:
        """Add a segment's; steps whose epoch is not known are left out."""
        epochs = records["epoch"][records["epoch"] != MISSING]
        if not len(epochs):
            return
        begins = np.concatenate(([0], np.flatnonzero(np.diff(epochs)) + 1))
        for number, steps in zip(epochs[begins].tolist(), np.diff(np.append(begins, len(epochs))), strict=True):
            if number != self.current and self.current is not None:
                self.complete += 1
                self.steps += self.current_steps
                self.current_steps = 0
            self.current = number
            self.current_steps += int(steps)
