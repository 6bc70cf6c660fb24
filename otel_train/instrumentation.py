"""Zero code: which hook is put in place when which module has been imported. Nothing is imported for it."""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from otel_train import guard
from otel_train.errors import OtelTrainError
from otel_train.recorder.signals import signals

SURFACES: dict[str, tuple[str, ...]] = {
    "torch": ("data_loader", "loader_pass", "forward", "backward", "optimizer", "grad_scaler", "zero_grad"),
    "transformers.trainer": ("integrations.transformers",),
    "accelerate.accelerator": ("integrations.accelerate",),
}
"""By module, the files in ``hooks/`` (or, with a dot, of otel_train) whose ``install(module) -> undo`` it takes."""

_undo: dict[str, Callable[[], None]] = {}
"""What is in place: the undo of each hook, by its name."""

_watched: set[str] = set()
"""Modules whose import is watched: once for the process, it cannot be taken back."""

_on = False


def instrument(begin_run: Callable[[], object] | None = None) -> None:
    """Hook each module of ``SURFACES``, now or when it is imported. Twice is once.

    ``begin_run`` is called at the first sign of training, unless a run is going on then.
    """
    global _on
    _on = True
    if begin_run is not None:
        signals.begin_run = lambda: _begin(begin_run)
    for module in SURFACES:
        if module not in _watched:
            from wrapt import register_post_import_hook

            _watched.add(module)
            register_post_import_hook(_imported, module)
        elif module in sys.modules:
            _imported(sys.modules[module])


def uninstrument() -> None:
    """Take every hook back: torch and the frameworks are as they were."""
    global _on
    _on = False
    signals.begin_run = None
    while _undo:
        name, undo = _undo.popitem()
        with guard.guarded(f"hook {name}"):
            undo()


def is_instrumented() -> bool:
    """Are hooks in place, or waiting for their modules?"""
    return _on


def _imported(module: ModuleType) -> None:
    if not _on:
        return
    for name in SURFACES[module.__name__]:
        if name not in _undo:
            with guard.guarded(f"hook {name}"):
                _undo[name] = _install(name, module)


def _install(name: str, module: ModuleType) -> Callable[[], None]:
    place = f"otel_train.{name}" if "." in name else f"otel_train.hooks.{name}"
    undo: Callable[[], None] = import_module(place).install(module)
    return undo


def _begin(begin_run: Callable[[], Any]) -> None:
    """A wrong setting must not stop a training that knows nothing of otel_train."""
    try:
        begin_run()
    except OtelTrainError as error:
        guard.warn_once("begin", "otel_train does not record this training: %s", error)
