"""Zero code: which hook is put in place when which module has been imported. Nothing is imported for it."""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from otel_train import active, guard
from otel_train.errors import OtelTrainError
from otel_train.recorder.signals import signals

SURFACES: dict[str, tuple[str, ...]] = {
    "torch": (
        "data_loader",
        "loader_pass",
        "forward",
        "backward",
        "optimizer",
        "grad_scaler",
        "gradient_clipping",
        "zero_grad",
        "module_zero_grad",
        "checkpoint",
        "garbage_collection",
        "out_of_memory",
    ),
    "torch.utils.data.dataloader": ("loader_override", "worker_fetch"),
    "torchdata.stateful_dataloader.stateful_dataloader": ("loader_override", "worker_fetch"),
    "torch._dynamo.callback": ("compilation",),
    "torch.distributed": ("collectives",),
    "torch.utils.tensorboard.writer": ("summary_writer",),
    "tensorboardX.writer": ("summary_writer",),
    "torch.nn.parallel.distributed": ("ddp",),
    "torch.distributed.checkpoint": ("distributed_checkpoint",),
    "safetensors.torch": ("safetensors_files",),
    "accelerate.accelerator": ("accelerate_checkpoint", "integrations.accelerate"),
    "transformers.modeling_utils": ("pretrained_checkpoint",),
    "transformers.trainer": ("trainer_checkpoint", "integrations.transformers"),
    "lightning.pytorch": ("lightning_checkpoint",),
    "lightning.fabric.plugins.io.torch_io": ("lightning_checkpoint_io",),
    "pytorch_lightning": ("lightning_checkpoint",),
    "lightning_fabric.plugins.io.torch_io": ("lightning_checkpoint_io",),
}
"""By module, the files in ``hooks/`` (or, with a dot, of otel_train) whose ``install(module) -> undo`` it takes."""

_undo: dict[tuple[str, str], Callable[[], None]] = {}
"""What is in place: the undo of each hook, by its module and its name."""

_watched: set[str] = set()
"""Modules whose import is watched: once for the process, it cannot be taken back."""

_on = False
_begin_run: Callable[[], object] | None = None


def instrument(begin_run: Callable[[], object] | None = None) -> None:
    """Hook each module of ``SURFACES``, now or when it is imported. Twice is once.

    ``begin_run`` is called at the first sign of training, unless a run is going on then.
    """
    global _on, _begin_run
    _on = True
    if begin_run is not None:
        _begin_run = begin_run
        if active.session is None:
            signals.begin_run = _begin
    for module in SURFACES:
        if module not in _watched:
            from wrapt import register_post_import_hook

            _watched.add(module)
            register_post_import_hook(_imported, module)
        elif module in sys.modules:
            _imported(sys.modules[module])


def uninstrument() -> None:
    """Take every hook back: torch and the frameworks are as they were."""
    global _on, _begin_run
    _on, _begin_run = False, None
    signals.begin_run = None
    while _undo:
        (_, name), undo = _undo.popitem()
        with guard.guarded(f"hook {name}"):
            undo()


def is_instrumented() -> bool:
    """Are hooks in place, or waiting for their modules?"""
    return _on


def also(name: str, module: ModuleType) -> Callable[[], None]:
    """Put a hook in place that is wanted only now; returns the undo. Nothing where nothing is instrumented."""
    place = (module.__name__, name)
    if not _on or place in _undo:
        return lambda: None
    with guard.guarded(f"hook {name}"):
        _undo[place] = _install(name, module)
    return lambda: _undo.pop(place, lambda: None)()


def _imported(module: ModuleType) -> None:
    if not _on:
        return
    for name in SURFACES[module.__name__]:
        if (module.__name__, name) not in _undo:
            with guard.guarded(f"hook {name}"):
                _undo[module.__name__, name] = _install(name, module)


def _install(name: str, module: ModuleType) -> Callable[[], None]:
    place = f"otel_train.{name}" if "." in name else f"otel_train.hooks.{name}"
    undo: Callable[[], None] = import_module(place).install(module)
    return undo


def await_training() -> None:
    """In a forked child, whose parent's run is not its own: a first step begins one here."""
    if _begin_run is not None:
        signals.begin_run = _begin


def _begin() -> None:
    """A wrong setting must not stop a training that knows nothing of otel_train."""
    try:
        if _begin_run is not None:
            _begin_run()
    except OtelTrainError as error:
        guard.warn_once("begin", "otel_train does not record this training: %s", error)
