"""Replacing an attribute of a module or class, and putting it back."""

import functools
from collections.abc import Callable, Iterable
from typing import Any


def replace(owner: Any, name: str, function: Callable[..., Any]) -> Callable[[], None]:
    """Put ``function`` in the place of ``owner.name``, with the original's name and documentation; returns the undo.

    The undo gives way to whoever has replaced it since: it leaves the attribute alone, and our function in the chain.
    """
    original = owner.__dict__[name]
    functools.update_wrapper(function, original)
    setattr(owner, name, function)

    def undo() -> None:
        if owner.__dict__.get(name) is function:
            setattr(owner, name, original)

    return undo


def all_of(undo: Iterable[Callable[[], None]]) -> Callable[[], None]:
    """One undo for several, the last first."""
    steps = list(undo)

    def undo_all() -> None:
        for step in reversed(steps):
            step()

    return undo_all
