"""Hugging Face's ``Trainer``: epochs, evaluations, what it logs, step numbers on resume.

Zero code adds the callback to each ``Trainer``; by hand it is ``Trainer(callbacks=[OtelTrainCallback()])``.
"""

from collections.abc import Callable
from typing import Any

import otel_train
from otel_train import active, guard, instrumentation
from otel_train.api import Evaluation
from otel_train.hooks.patching import replace
from otel_train.integrations import missing_package
from otel_train.integrations.loops import Loop

try:
    from transformers.trainer_callback import TrainerCallback
except ModuleNotFoundError as error:
    raise missing_package(__name__, "transformers") from error


class OtelTrainCallback(TrainerCallback):
    """Tells a run what the ``Trainer`` knows. Works with ``otel_train.init()`` alone, too. Nothing runs each step."""

    def __init__(self) -> None:
        self.loop = Loop()
        instrumentation.instrument()

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """A training begins, or goes on from a checkpoint: ``state.global_step`` steps have been."""
        self.loop.begins()
        self.loop.resumes(int(state.global_step))

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """``state.epoch`` is a fraction once the training has begun; rounding keeps 0.9999 from being epoch 0 twice."""
        with guard.guarded("transformers"):
            self.loop.epoch_begins(int((state.epoch or 0) + 1e-6))

    def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Before the evaluation that follows it."""
        self.loop.epoch_ends()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        """Loss, learning rate, gradient norm, an evaluation's values: numbers that the Trainer has read already."""
        with guard.guarded("transformers"):
            if active.recorder is not None:
                numbers = {name: value for name, value in (logs or {}).items() if isinstance(value, (int, float))}
                numbers.pop("epoch", None)
                otel_train.log(**numbers)


def install(module: Any) -> Callable[[], None]:
    """Give each ``Trainer`` a callback unless it has one, and see its evaluations; returns the undo."""
    undo = (_add_callbacks(module.Trainer), _trace_evaluations(module.Trainer))

    def undo_both() -> None:
        for each in undo:
            each()

    return undo_both


def _add_callbacks(trainer_class: Any) -> Callable[[], None]:
    construct = trainer_class.__init__

    def traced_init(self: Any, *args: Any, **kwargs: Any) -> None:
        construct(self, *args, **kwargs)
        with guard.guarded("transformers"):
            if _callback_of(self) is None:
                self.add_callback(OtelTrainCallback())

    return replace(trainer_class, "__init__", traced_init)


def _trace_evaluations(trainer_class: Any) -> Callable[[], None]:
    """``evaluation_loop`` is what both ``evaluate()`` and ``predict()`` run, with a prefix that says which it is."""
    evaluate = trainer_class.evaluation_loop

    def traced_evaluation_loop(self: Any, *args: Any, **kwargs: Any) -> Any:
        prefix = str(kwargs.get("metric_key_prefix") or (args[4] if len(args) > 4 else "eval"))
        with Evaluation({"eval": "validation"}.get(prefix, prefix)):
            return evaluate(self, *args, **kwargs)

    return replace(trainer_class, "evaluation_loop", traced_evaluation_loop)


def _callback_of(trainer: Any) -> OtelTrainCallback | None:
    callbacks = getattr(getattr(trainer, "callback_handler", None), "callbacks", ())
    return next((callback for callback in callbacks if isinstance(callback, OtelTrainCallback)), None)


__all__ = ["OtelTrainCallback"]
