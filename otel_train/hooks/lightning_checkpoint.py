"""Lightning's ``Trainer.save_checkpoint``, in both packages: serialising and writing are one checkpoint."""

from collections.abc import Callable
from typing import Any

from otel_train import guard
from otel_train.checkpoint import Checkpoint
from otel_train.hooks.patching import replace


def install(module: Any) -> Callable[[], None]:
    """Record each checkpoint of any Trainer; returns the undo."""
    save = module.Trainer.save_checkpoint

    def traced_save(self: Any, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        scope = Checkpoint(filepath, "save", "lightning.Trainer")
        with guard.guarded("Trainer"):
            scope.staging = _writes_beside(module, self)
        with scope:
            return save(self, filepath, *args, **kwargs)

    return replace(module.Trainer, "save_checkpoint", traced_save)


def _writes_beside(module: Any, trainer: Any) -> bool:
    """Does another thread write it? Then what ``lightning_checkpoint_io`` sees there is the writing."""
    asynchronous = module.plugins.io.AsyncCheckpointIO
    return isinstance(trainer.strategy.checkpoint_io, asynchronous)
