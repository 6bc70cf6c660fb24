"""Hugging Face's ``Trainer``: its checkpoint, a folder, is one; so is a model saved. Their files are stages."""

import os
from collections.abc import Callable
from typing import Any

from otel_train import guard
from otel_train.checkpoint import Checkpoint, Parts
from otel_train.hooks.patching import replace


def install(module: Any) -> Callable[[], None]:
    """Record what any Trainer saves; returns the undo."""
    save, save_model = module.Trainer._save_checkpoint, module.Trainer.save_model

    def traced_save(self: Any, model: Any, trial: Any = None, *args: Any, **kwargs: Any) -> Any:
        path = None
        with guard.guarded("Trainer"):
            path = _folder(self, trial, module.PREFIX_CHECKPOINT_DIR)
        with Checkpoint(path, "save", "transformers.Trainer"):
            return save(self, model, trial, *args, **kwargs)

    def traced_save_model(self: Any, output_dir: Any = None, *args: Any, **kwargs: Any) -> Any:
        arguments = getattr(self, "args", None)
        with Parts(output_dir or getattr(arguments, "output_dir", None), "save", "transformers.save_model"):
            return save_model(self, output_dir, *args, **kwargs)

    undos = [
        replace(module.Trainer, "_save_checkpoint", traced_save),
        replace(module.Trainer, "save_model", traced_save_model),
    ]

    def undo() -> None:
        for each in undos:
            each()

    return undo


def _folder(trainer: Any, trial: Any, prefix: str) -> str:
    run = trainer.args.output_dir if trial is None else trainer._get_output_dir(trial=trial)
    return os.path.join(run, f"{prefix}-{trainer.state.global_step}")
