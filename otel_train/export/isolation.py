"""Keeps what the SDK's exporters do in our thread from being seen elsewhere, for as long as a call lasts.

- Their log messages, one a retry, are taken in and not printed; the exporter says once what matters.
- Their requests are not traced by an instrumentation of the HTTP library.
- The jitter of their retries is not drawn from the global ``random``, on which the order of the data may depend
  (SDK 1.45 draws on every HTTP export, failed or not).
"""

import contextlib
import logging
import random
import sys
import threading
from collections.abc import Iterator
from types import ModuleType

from opentelemetry import context

PACKAGE = "opentelemetry.exporter"

_jitter = random.Random()
_lock = threading.Lock()
_inside = 0


class _Taker(logging.Filter):
    """Takes the records of one thread away."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self._thread:
            return True
        self.messages.append(record.getMessage())
        return False


@contextlib.contextmanager
def isolated() -> Iterator[list[str]]:
    """Run an exporter's call; gives the messages that it would have logged."""
    taker = _Taker()
    modules = _modules()
    loggers = [logging.getLogger(module.__name__) for module in modules]
    token = context.attach(context.set_value(context._SUPPRESS_INSTRUMENTATION_KEY, True))
    _enter(modules)
    for logger in loggers:
        logger.filters.insert(0, taker)  # before a filter of theirs that drops what it saw before
    try:
        yield taker.messages
    finally:
        for logger in loggers:
            logger.removeFilter(taker)
        _leave(modules)
        context.detach(token)


def _modules() -> list[ModuleType]:
    return [module for name, module in list(sys.modules.items()) if name.startswith(PACKAGE)]


def _enter(modules: list[ModuleType]) -> None:
    global _inside
    with _lock:
        _inside += 1
        for module in modules:
            if getattr(module, "random", None) is random:
                module.random = _jitter  # type: ignore[attr-defined]  # the one name in it that draws


def _leave(modules: list[ModuleType]) -> None:
    global _inside
    with _lock:
        _inside -= 1
        for module in modules if not _inside else ():
            if getattr(module, "random", None) is _jitter:
                module.random = random  # type: ignore[attr-defined]  # as it was
