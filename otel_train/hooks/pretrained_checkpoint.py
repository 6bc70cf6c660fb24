"""Hugging Face's ``PreTrainedModel.save_pretrained``: however many files it is split into, one checkpoint."""

from collections.abc import Callable
from typing import Any

from otel_train.checkpoint import Parts
from otel_train.hooks.patching import replace


def install(module: Any) -> Callable[[], None]:
    """Record each model saved; returns the undo."""
    save = module.PreTrainedModel.save_pretrained

    def traced_save(self: Any, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
        with Parts(save_directory, "save", "transformers.save_pretrained"):
            return save(self, save_directory, *args, **kwargs)

    return replace(module.PreTrainedModel, "save_pretrained", traced_save)
