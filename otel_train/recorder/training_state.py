"""What the recorder knows between two calls: plain fields, read and written by the training thread."""

import threading
from typing import Any

from otel_train.runlog.layout import MISSING

WAIT_FIELDS = 5
"""A wait for data is five in ``TrainingState.waits``: the loader's iteration, start, end, samples, tokens."""


class TrainingState:
    """What is going on in the training thread. Only that thread writes it."""

    __slots__ = (
        "aside",
        "epoch",
        "evaluation_number",
        "evaluation_steps",
        "flags",
        "nested_steps",
        "number",
        "phases",
        "rare",
        "samples",
        "start_ns",
        "starts",
        "thread",
        "tokens",
        "training_number",
        "waits",
    )

    def __init__(self) -> None:
        self.thread = threading.main_thread().ident
        self.start_ns: int | None = None
        """When the step began; None between steps."""
        self.number: int = -1
        """The number of the current or last step."""
        self.evaluation_number: int = -1
        self.evaluation_steps = 0
        """Steps of evaluations so far."""
        self.training_number: int = -1
        """What ``number`` goes back to after a step of an evaluation."""
        self.nested_steps = 0
        self.flags = 0
        self.rare = False
        """Is something so that steps take the slower way: an evaluation, a step in a step, nested spans?"""
        self.epoch: int = MISSING
        self.starts: list[int] = []
        """When each open phase of the step began."""
        self.phases: list[Any] = []
        """The step's closed phases, flat."""
        self.aside: list[int] = []
        """One entry for each phase that is open beside the steps. While there is none, what ends is the step's own:
        the thread need not be asked, which is a tenth of a phase's price."""
        self.waits: list[Any] = []
        """Waits for data since the last step, flat."""
        self.samples = MISSING
        """Samples in the step's batches, where they could be counted."""
        self.tokens = MISSING
