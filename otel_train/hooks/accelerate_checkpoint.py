"""Accelerate's ``save_state`` and ``load_state``: a folder of model, optimizer and random states is one checkpoint."""

import os
from collections.abc import Callable
from typing import Any

from otel_train.checkpoint import Checkpoint
from otel_train.hooks.patching import replace


def install(module: Any) -> Callable[[], None]:
    """Record each; returns the undo. A folder that Accelerate names itself is known once it is saved."""
    accelerator = module.Accelerator
    save, load = accelerator.save_state, accelerator.load_state

    def traced_save(self: Any, output_dir: Any = None, *args: Any, **kwargs: Any) -> Any:
        scope = Checkpoint(None if _names_it(self) else output_dir, "save", "accelerate.save_state")
        with scope:
            where = save(self, output_dir, *args, **kwargs)
            if isinstance(where, (str, os.PathLike)):
                scope.path = os.fspath(where)
            return where

    def traced_load(self: Any, input_dir: Any = None, *args: Any, **kwargs: Any) -> Any:
        with Checkpoint(input_dir, "load", "accelerate.load_state"):
            return load(self, input_dir, *args, **kwargs)

    undos = [replace(accelerator, "save_state", traced_save), replace(accelerator, "load_state", traced_load)]

    def undo() -> None:
        for each in undos:
            each()

    return undo


def _names_it(accelerator: Any) -> bool:
    configuration = getattr(accelerator, "project_configuration", None)
    return bool(getattr(configuration, "automatic_checkpoint_naming", False))
