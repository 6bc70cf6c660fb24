"""One guard around everything of ours that runs inside somebody's training.

A failure is logged once a site, counted, and swallowed: telemetry never stops the training.
With ``OTEL_TRAIN_RAISE=1`` (our own tests) it is raised instead.
"""

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Iterator

logger = logging.getLogger("otel_train")

counts: Counter[str] = Counter()
"""Failures a site since the process started; exported as ``otel_train.errors``."""

_said: set[str] = set()


def report(site: str, error: BaseException) -> None:
    """Count a failure of ours at ``site``; log it the first time."""
    if os.environ.get("OTEL_TRAIN_RAISE") == "1":
        raise error
    counts[site] += 1
    warn_once(f"error at {site}", "otel_train failed in %s and goes on without it: %r", site, error, trace=error)


def warn_once(key: str, message: str, *arguments: object, trace: BaseException | None = None) -> None:
    """Log a warning the first time ``key`` is seen in this process."""
    if key not in _said:
        _said.add(key)
        logger.warning(message, *arguments, exc_info=trace)


def forget() -> None:
    """Start afresh: what was said may be said again. For a new run, and for tests."""
    _said.clear()
    counts.clear()


@contextlib.contextmanager
def guarded(site: str) -> Iterator[None]:
    """Run a block of ours so that no ``Exception`` of it reaches the training. Not for the hot path (about 1 µs)."""
    try:
        yield
    except Exception as error:  # the one place that may: everything of ours runs inside it
        report(site, error)
