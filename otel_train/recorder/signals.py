"""What hooks tell of a training: the one thing between ``hooks/`` and a recorder.

A hook is put in place when the module that it concerns is imported, long before a run begins, and outlives it. So it
calls the functions of ``signals``, which a run's ``ImpliedSteps`` replaces while it records. Before the first run, the
first backward or optimizer step *is* the sign that this process trains: it begins the run, if ``begin_run`` is set.
"""

import time
from collections.abc import Callable
from typing import Any

from otel_train import guard

nothing: Callable[..., Any] = "".format
"""A C function that takes anything and returns something false."""

EARLY_WAITS = 64
"""Waits for data kept before a run begins: those of the first step."""


class Signals:
    """One function for each thing that can happen. Callers: the thread that it happens on; they never raise.

    ``batch_asked()`` returns a time, as ``clock()`` does, for ``batch_came(iteration, start_ns, end_ns, samples,
    tokens, queue)``, where ``iteration`` is any object that stands for one pass over a loader until
    ``loader_ended(iteration)``, and counts may be ``layout.MISSING``. ``…_began`` and ``…_ended`` come in pairs, also
    when what lies between raises; of ``forward`` and ``backward`` only where ``…_began()`` returned true.
    ``optimizer_skipped()`` says that a gradient scaler found infinities and left the optimizer's step out.
    ``evaluation_…`` is a forward without gradients. ``gradients_cleared()`` says that a module's gradients are about to
    be thrown away. ``between_steps()`` says that what follows belongs to no step; ``step_failed(error)`` that an
    exception left the loop. ``took(phase, start_ns, end_ns)`` is a part of the step that is over.
    """

    __slots__ = (
        "backward_began",
        "backward_ended",
        "batch_asked",
        "batch_came",
        "begin_run",
        "between_steps",
        "clock",
        "device",
        "early_waits",
        "evaluation_began",
        "evaluation_ended",
        "forward_began",
        "forward_ended",
        "gradients_cleared",
        "loader_ended",
        "look_for_models",
        "optimizer_began",
        "optimizer_ended",
        "optimizer_skipped",
        "optimizer_steps",
        "reports",
        "step_failed",
        "took",
    )

    clock: Callable[[], int]
    batch_asked: Callable[[], int]
    batch_came: Callable[[object, int, int, int, int, int], None]
    loader_ended: Callable[[object], None]
    forward_began: Callable[[], bool]
    forward_ended: Callable[[], None]
    evaluation_began: Callable[[], None]
    evaluation_ended: Callable[[], None]
    backward_began: Callable[[], bool]
    backward_ended: Callable[[], None]
    optimizer_began: Callable[[object], None]
    optimizer_ended: Callable[[object], None]
    optimizer_skipped: Callable[[], None]
    gradients_cleared: Callable[[], None]
    between_steps: Callable[[], None]
    step_failed: Callable[[BaseException], None]
    took: Callable[[Any, int, int], None]

    def __init__(self) -> None:
        self.begin_run: Callable[[], object] | None = None
        """Begins a run when training is seen; None where that is not wanted, or has happened."""
        self.look_for_models: Callable[[bool], None] = nothing
        """Set by the hook that finds the models: a step had a backward but no forward; or (False) stop looking."""
        self.device: Any = None
        """The torch.device of the model found last; None before one was."""
        self.early_waits: list[tuple[Any, ...]] = []
        self.reports: list[Callable[[], None]] = []
        """Hooks that have something to write down now and then: called every 30 s by the keeper, and at the end."""
        self.optimizer_steps = 0
        """Optimizer steps of the process so far, of all optimizers."""
        self.disconnect()

    def connect(self, functions: dict[str, Callable[..., Any]]) -> Callable[[], None]:
        """Tell a recorder from now on; returns the undo."""
        for name, function in functions.items():
            setattr(self, name, function)
        early, self.early_waits = self.early_waits, []
        for wait in early:
            self.batch_came(*wait)
        return self.disconnect

    def disconnect(self) -> None:
        """Nobody listens, but for the first sign of training."""
        for name in self.__slots__:
            if name not in KEPT:
                setattr(self, name, nothing)
        self.clock = self.batch_asked = time.perf_counter_ns
        self.batch_came = self._early_wait
        self.loader_ended = self._early_end
        self.backward_began = lambda: self._first_sign("backward_began")
        self.optimizer_began = lambda optimizer: self._first_sign("optimizer_began", optimizer)

    def _early_wait(self, *wait: object) -> None:
        if self.begin_run is not None:
            self.early_waits.append(wait)
            del self.early_waits[:-EARLY_WAITS]

    def _early_end(self, iteration: object) -> None:
        self.early_waits = [wait for wait in self.early_waits if wait[0] is not iteration]

    def training_begins(self) -> bool:
        """A framework is about to train: begin the run now, where that is wanted, so that it has the first epoch too.

        Returns whether it was wanted.
        """
        begin, self.begin_run = self.begin_run, None
        if begin is None:
            return False
        with guard.guarded("first step"):
            begin()
        return True

    def _first_sign(self, name: str, *arguments: object) -> Any:
        return getattr(self, name)(*arguments) if self.training_begins() else False


KEPT = ("begin_run", "device", "early_waits", "look_for_models", "optimizer_steps", "reports")
"""What is no function that a run listens with."""

signals = Signals()
"""The process's own."""
