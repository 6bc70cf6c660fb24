"""What Lightning tells a callback, for both of its packages: no Lightning is imported here."""

from importlib import import_module
from typing import Any

import otel_train
from otel_train import active, guard, instrumentation
from otel_train.integrations.loops import Loop


class LightningEvents:
    """The hooks of a callback: epochs, evaluations by name, values logged, step numbers on resume, exceptions.

    Only ``on_train_batch_end`` runs each step: about 20 µs, and 8 µs for each value more. Values are taken where
    Lightning has them ready: nothing is computed, reduced or waited for.
    """

    def __init__(self) -> None:
        super().__init__()
        self._loop = Loop()
        self._first = True
        self._by_step: set[str] = set()
        self._told: dict[str, Any] = {}
        instrumentation.instrument()

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Of two callbacks (one added by hand, one by zero code) only the first one speaks."""
        own = [callback for callback in trainer.callbacks if isinstance(callback, LightningEvents)]
        self._first = not own or own[0] is self

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Before the sanity check."""
        if self._first:
            self._loop.begins()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Lightning has restored its counts."""
        if self._first:
            with guard.guarded("lightning"):
                self._loop.resumes(int(trainer.global_step))

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Epochs are numbered as Lightning does, from 0."""
        if self._first:
            self._log_epoch(trainer)
            self._loop.epoch_begins(trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """After the validation that belongs to the epoch."""
        if self._first:
            self._loop.epoch_ends()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """The loss, and what ``training_step`` logged."""
        if not self._first or active.recorder is None:
            return
        with guard.guarded("lightning"):
            values = _logged_in_step(trainer)
            self._by_step.update(*((name, f"{name}_step") for name in values))
            loss = outputs.get("loss") if isinstance(outputs, dict) else None
            if loss is not None and "loss" not in values:
                values["loss"] = loss * trainer.accumulate_grad_batches if trainer.accumulate_grad_batches > 1 else loss
            otel_train.log(**values)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """The last epoch's values are known."""
        if self._first:
            self._log_epoch(trainer)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """A validation, or the sanity check before the training."""
        if self._first:
            self._loop.evaluation_begins("sanity_check" if trainer.sanity_checking else "validation", own_waits=True)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Its values are known."""
        self._evaluation_ended(trainer)

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """``trainer.test()``."""
        if self._first:
            self._loop.evaluation_begins("test", own_waits=True)

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """Its values are known."""
        self._evaluation_ended(trainer)

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """``trainer.predict()``."""
        if self._first:
            self._loop.evaluation_begins("predict", own_waits=True)

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """Predictions are made."""
        self._evaluation_ended(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Lightning raises it again, or exits."""
        if self._first:
            self._loop.fails(exception)

    def _evaluation_ended(self, trainer: Any) -> None:
        if self._first:
            self._loop.evaluation_ends()
            if not trainer.sanity_checking:
                self._log_epoch(trainer)

    def _log_epoch(self, trainer: Any) -> None:
        """Values that Lightning has worked out since, and that are not the steps' own."""
        with guard.guarded("lightning"):
            known = getattr(getattr(trainer, "_logger_connector", None), "_callback_metrics", {})
            told, self._told = self._told, dict(known)
            news = {name: value for name, value in known.items() if told.get(name) is not value}
            otel_train.log(**{name: value for name, value in news.items() if name not in self._by_step})


def _logged_in_step(trainer: Any) -> dict[str, Any]:
    """Values of this step's ``self.log(…)``, as they are: tensors, on their device.

    ``trainer.callback_metrics`` would also compute what is reduced, and read what the progress bar shows off the
    device, which waits for it.
    """
    results = getattr(trainer, "_results", None) or {}
    return {
        item.meta.name: item._forward_cache
        for item in results.values()
        if item.meta.on_step and not item.has_reset and item._forward_cache is not None
    }


def callbacks(module: str) -> list[Any]:
    """What Lightning's entry point gives to each trainer: a callback, where something records or is about to."""
    if not instrumentation.is_instrumented() and active.recorder is None:
        return []
    with guard.guarded("lightning"):
        return [import_module(module).OtelTrainCallback()]
    return []


def lightning_callbacks() -> list[Any]:
    """For ``lightning``."""
    return callbacks("otel_train.integrations.lightning")


def pytorch_lightning_callbacks() -> list[Any]:
    """For ``pytorch_lightning``."""
    return callbacks("otel_train.integrations.pytorch_lightning")
