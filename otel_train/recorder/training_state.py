"""What the recorder knows between two calls: plain fields, read and written by the training thread."""

import threading
from typing import Any

from otel_train.runlog.layout import MISSING

WAIT_FIELDS = 6
"""A wait for data is six in ``TrainingState.waits``: the loader's iteration, start, end, samples, tokens, and the
record's field for the loader's queue."""


class TrainingState:
    """What is going on in the training thread. Only that thread writes it."""

    __slots__ = (
        "aside",
        "boundary_ns",
        "by_hand",
        "closure_ran",
        "cut",
        "epoch",
        "evaluation",
        "evaluation_batches",
        "evaluation_number",
        "evaluation_steps",
        "explicit",
        "flags",
        "had_forward",
        "implied",
        "in_backward",
        "left_over",
        "loader",
        "look",
        "looking",
        "mark",
        "marks",
        "marks_before",
        "nested_steps",
        "number",
        "optimizer_depth",
        "optimizer_from_ns",
        "phases",
        "queue",
        "rare",
        "resumed_ns",
        "samples",
        "start_ns",
        "starts",
        "step_flags",
        "stepped",
        "thread",
        "tokens",
        "trained",
        "training_number",
        "tried",
        "unusual",
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
        self.evaluation_batches = (0, 0)
        """Of the marked evaluation that is going on: batches that no step took, and the time (ns) waited for them."""
        self.training_number: int = -1
        """What ``number`` goes back to after a step of an evaluation."""
        self.nested_steps = 0
        self.flags = 0
        self.rare = False
        """Is something so that steps take the slower way: an evaluation, a step in a step, nested spans?"""
        self.resumed_ns = 0
        """When the training went on after something of ours that took long between two steps; 0 usually."""
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
        self.queue = 0
        """How full the loader's queue was, as the record has it."""
        self.marks: list[Any] = []
        """Edges of the step's phases on the GPU: (code, event)."""
        self.cut: int | None = None
        """How many of them belong to the step that ends now, where not all do."""

        # Of steps that hooks imply (``ImpliedSteps``):
        self.implied = False
        """Is the current step one that no script marks?"""
        self.explicit = False
        """Has the script marked a step? Then none is implied any more."""
        self.step_flags = 0
        """Flags that the current step will have."""
        self.trained = False
        """Has the step had a backward?"""
        self.in_backward = False
        self.by_hand = False
        """Does the script update its parameters itself, without an optimizer?"""
        self.stepped: set[int] = set()
        """The optimizers that have stepped in this step, by ``id``."""
        self.optimizer_depth = 0
        """How many optimizers are stepping, one inside another."""
        self.optimizer_from_ns = 0
        """Since when it is the optimizer's own time; 0 while a closure of the training runs in it."""
        self.boundary_ns = 0
        """Where the step ended if the same optimizer steps again: the first forward after the last optimizer step."""
        self.mark = 0
        self.marks_before = 0
        """How many numbers of ``phases``, and ``marks``, were there then."""
        self.closure_ran = False
        """Has a backward ended since the optimizer's step began, inside it?"""
        self.had_forward = False
        """Has the step had a forward?"""
        self.loader: object = None
        """The loader's iteration that the last step's batch came from: its next batch is the next step's."""
        self.left_over: object = None
        """The iteration that ended while the step had no more than its batches."""
        self.unusual = False
        """Does something other than a phase begin with the next forward or backward?"""
        self.tried: list[int] | None = None
        """Forwards without gradients since the last batch: the first one's start or that of the wait for the batch,
        the last one's end, how many. Evaluation, unless a forward with gradients follows."""
        self.evaluation: list[int] | None = None
        """The evaluation that is going on: its start, the end of its last forward, how many forwards, and the time
        that it waited for data."""
        self.look = False
        self.looking = False
        """Are the models to be looked for in the next step; are they being looked for in this one?"""
