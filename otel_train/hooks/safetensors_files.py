"""``safetensors.torch``: its files, by the rule in ``file_checkpoint``. ``save_model`` goes through ``save_file``."""

from collections.abc import Callable
from typing import Any

from otel_train.hooks.file_checkpoint import Pace, traced
from otel_train.hooks.patching import replace


def install(module: Any) -> Callable[[], None]:
    """Record what is saved and loaded; returns the undo."""
    save = traced(module.save_file, "save", "safetensors.save_file", 1, "filename", Pace())
    load = traced(module.load_file, "load", "safetensors.load_file", 0, "filename", Pace())
    undos = [replace(module, "save_file", save), replace(module, "load_file", load)]

    def undo() -> None:
        for each in undos:
            each()

    return undo
