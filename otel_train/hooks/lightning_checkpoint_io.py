"""How Lightning and Fabric write and read a checkpoint: one file, which ``torch.save`` gets to see as memory only."""

from collections.abc import Callable
from typing import Any

from otel_train.checkpoint import Checkpoint
from otel_train.hooks.patching import replace


def install(module: Any) -> Callable[[], None]:
    """Record each file that is written or read, as a stage inside ``Trainer.save_checkpoint``; returns the undo."""
    io = module.TorchCheckpointIO
    save, load = io.save_checkpoint, io.load_checkpoint

    def traced_save(self: Any, checkpoint: Any, path: Any, *args: Any, **kwargs: Any) -> Any:
        with Checkpoint(path, "save", "lightning.write"):
            return save(self, checkpoint, path, *args, **kwargs)

    def traced_load(self: Any, path: Any, *args: Any, **kwargs: Any) -> Any:
        with Checkpoint(path, "load", "lightning.read"):
            return load(self, path, *args, **kwargs)

    undos = [replace(io, "save_checkpoint", traced_save), replace(io, "load_checkpoint", traced_load)]

    def undo() -> None:
        for each in undos:
            each()

    return undo
