"""``safetensors.torch``: its files, by the rule in ``file_checkpoint``. ``save_model`` goes through ``save_file``."""

import sys
from collections.abc import Callable
from typing import Any

from otel_train.hooks.file_checkpoint import Pace, traced
from otel_train.hooks.patching import replace

TAKEN_BY_NAME = (("transformers.modeling_utils", "safe_save_file"), ("accelerate.utils.other", "safe_save_file"))
"""Who has imported ``save_file`` from it, perhaps before the hook was put in place: module and name there."""


def install(module: Any) -> Callable[[], None]:
    """Record what is saved and loaded; returns the undo."""
    original = module.save_file
    save = traced(original, "save", "safetensors.save_file", 1, "filename", Pace())
    load = traced(module.load_file, "load", "safetensors.load_file", 0, "filename", Pace())
    undos = [replace(module, "save_file", save), replace(module, "load_file", load)]
    _exchange(original, save)

    def undo() -> None:
        for each in undos:
            each()
        _exchange(save, original)

    return undo


def _exchange(old: Callable[..., Any], new: Callable[..., Any]) -> None:
    """In each module that has the one by name, put the other."""
    for module, name in TAKEN_BY_NAME:
        attributes = vars(sys.modules[module]) if module in sys.modules else {}
        if attributes.get(name) is old:
            attributes[name] = new
