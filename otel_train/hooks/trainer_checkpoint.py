"""Hugging Face's ``Trainer``: its checkpoint, a folder, is one; the files that it writes are stages of it."""

import os
from collections.abc import Callable
from typing import Any

from otel_train import guard
from otel_train.checkpoint import Checkpoint
from otel_train.hooks.patching import replace


def install(module: Any) -> Callable[[], None]:
    """Record each checkpoint of any Trainer; returns the undo."""
    save = module.Trainer._save_checkpoint

    def traced_save(self: Any, model: Any, trial: Any = None, *args: Any, **kwargs: Any) -> Any:
        path = None
        with guard.guarded("Trainer"):
            path = _folder(self, trial, module.PREFIX_CHECKPOINT_DIR)
        with Checkpoint(path, "save", "transformers.Trainer"):
            return save(self, model, trial, *args, **kwargs)

    return replace(module.Trainer, "_save_checkpoint", traced_save)


def _folder(trainer: Any, trial: Any, prefix: str) -> str:
    run = trainer.args.output_dir if trial is None else trainer._get_output_dir(trial=trial)
    return os.path.join(run, f"{prefix}-{trainer.state.global_step}")
