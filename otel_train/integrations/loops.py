"""What a framework's training loop tells, whatever the framework: epochs, evaluations, step numbers, its end.

One object a trainer, used by its callback, on the training thread. Nothing here costs a training step anything but
``log``; nothing raises.
"""

from typing import Any

from otel_train import active, guard
from otel_train.api import Epoch, Evaluation
from otel_train.event_scope import EventScope
from otel_train.recorder.signals import signals


class Loop:
    """The training loop of one trainer, as its callback sees it."""

    def __init__(self) -> None:
        self._epoch: EventScope | None = None
        self._evaluation: EventScope | None = None

    def begins(self) -> None:
        """The trainer is about to train. Zero code's run begins here, not with the first backward: epochs begin before.

        What an earlier training that failed has left open is closed.
        """
        with guard.guarded("loop"):
            signals.training_begins()
            self.fails(None)

    def resumes(self, steps: int) -> None:
        """The trainer has trained ``steps`` steps before: the next one's number is that, or goes on from the last."""
        recorder = active.recorder
        if recorder is not None and recorder.state.start_ns is None and not recorder.state.explicit:
            recorder.state.number = max(recorder.state.number, steps - 1)

    def epoch_begins(self, number: int) -> None:
        """Its steps carry the number."""
        with guard.guarded("loop"):
            self.epoch_ends()
            self._epoch = Epoch(number)
            self._epoch.__enter__()

    def epoch_ends(self, error: BaseException | None = None) -> None:
        """After the epoch's last step, and whatever the framework counts to the epoch."""
        with guard.guarded("loop"):
            epoch, self._epoch = self._epoch, None
            _end(epoch, error)

    def evaluation_begins(self, name: str, own_waits: bool = False) -> None:
        """Batches and forwards until ``evaluation_ends`` are an evaluation's.

        With ``own_waits`` so are the batches waited for since the last step: a loop that reads ahead.
        """
        with guard.guarded("loop"):
            self.evaluation_ends()
            self._evaluation = _OwnWaits(name) if own_waits else Evaluation(name)
            self._evaluation.__enter__()

    def evaluation_ends(self, error: BaseException | None = None) -> None:
        """The evaluation is over; its batches and its wait for data are in its event."""
        with guard.guarded("loop"):
            evaluation, self._evaluation = self._evaluation, None
            _end(evaluation, error)

    def fails(self, error: BaseException | None) -> None:
        """An exception left the loop: what was open is over, and the step that was going on has failed."""
        with guard.guarded("loop"):
            if error is not None:
                signals.step_failed(error)
            self.evaluation_ends(error)
            self.epoch_ends(error)


class _OwnWaits(Evaluation):
    def begun(self, recorder: Any) -> None:
        super().begun(recorder)
        if self._before is not None:
            flags, waits = self._before
            recorder.state.waits[:0] = waits
            self._before = flags, []


def _end(scope: EventScope | None, error: BaseException | None) -> None:
    if scope is not None:
        scope.__exit__(None if error is None else type(error), error, None)
