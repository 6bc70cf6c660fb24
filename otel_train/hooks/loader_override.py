"""Only inside ``otel-train tune``: DataLoaders get the settings that are being tried, whatever the script gives them.

Without the variable that the command sets, nothing is put in place.
"""

import inspect
import json
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

from otel_train import guard
from otel_train.hooks.patching import all_of, replace

VARIABLE = "OTEL_TRAIN_TUNE"
"""JSON: ``num_workers``, ``prefetch_factor``, ``pin_memory``. ``otel-train tune`` sets it for what it runs."""

ALLOWED = frozenset({"num_workers", "prefetch_factor", "pin_memory"})


def install(module: ModuleType) -> Callable[[], None]:
    """Replace ``DataLoader.__init__`` (torch's or torchdata's) where settings are being tried; returns the undo."""
    tried = tried_settings(os.environ.get(VARIABLE, ""))
    if not tried:
        return lambda: None
    undo = [
        _override(module.__dict__[name], tried)
        for name in ("DataLoader", "StatefulDataLoader")
        if name in module.__dict__ and module.__dict__[name].__module__ == module.__name__
    ]
    return all_of(undo)


def tried_settings(content: str) -> dict[str, Any]:
    """The variable's settings; none where it is empty or, with a warning, nothing that the command sets."""
    try:
        tried = json.loads(content or "{}")
        return {name: value for name, value in tried.items() if name in ALLOWED}
    except (ValueError, AttributeError):
        guard.warn_once(
            VARIABLE,
            "%s: got %.200r; allowed is a JSON object, as otel-train tune sets it. DataLoaders stay as they are",
            VARIABLE, content,
        )  # fmt: skip
        return {}


def _override(loaders: Any, tried: dict[str, Any]) -> Callable[[], None]:
    make = loaders.__init__
    signature = inspect.signature(make)

    def overridden(self: Any, *args: Any, **kwargs: Any) -> None:
        given = signature.bind(self, *args, **kwargs).arguments
        others = given.pop("kwargs", {})
        given.update(settled(given, tried))
        given.pop("self")
        make(self, **given, **others)

    return replace(loaders, "__init__", overridden)


def settled(given: dict[str, Any], tried: dict[str, Any]) -> dict[str, Any]:
    """What changes of a loader's arguments. Without workers nothing may be said that needs them."""
    changed = dict(tried)
    if not tried.get("num_workers", given.get("num_workers", 0)):
        changed |= {"prefetch_factor": None, "persistent_workers": False, "multiprocessing_context": None, "timeout": 0}
    return changed
