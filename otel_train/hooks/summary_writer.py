"""Where TensorBoard's ``SummaryWriter``s write, torch's and tensorboardX's: their folders are noted, nothing else."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from otel_train import active, guard
from otel_train.hooks.patching import replace

FOLDERS = ("log_dir", "logdir")
"""The attribute of torch's writer, and of tensorboardX's."""


def install(module: ModuleType) -> Callable[[], None]:
    """Note the folder of each writer that is made from now on; returns the undo, which forgets them."""
    made = module.SummaryWriter.__init__

    def __init__(self: Any, *arguments: Any, **options: Any) -> None:  # noqa: N807  it takes the place of one
        made(self, *arguments, **options)
        with guard.guarded("summary writer"):
            note(next((getattr(self, name) for name in FOLDERS if hasattr(self, name)), None))

    undo = replace(module.SummaryWriter, "__init__", __init__)

    def undo_all() -> None:
        undo()
        active.summary_folders.clear()

    return undo_all


def note(folder: object) -> None:
    """A folder of this machine; one in a bucket is not ours to write to."""
    if folder and "://" not in str(folder):
        active.summary_folders[:] = [str(folder)]
