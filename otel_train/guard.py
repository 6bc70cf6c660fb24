"""One guard around everything of ours that runs inside somebody's training.

A failure is logged once a site, counted, and swallowed: telemetry never stops the training.
With ``OTEL_TRAIN_RAISE=1`` (our own tests) it is raised instead.
"""

import os
from collections import Counter
from types import TracebackType

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
        import logging  # 13 ms of the import of otel_train, for what seldom happens

        logging.getLogger("otel_train").warning(message, *arguments, exc_info=trace)


def forget() -> None:
    """Start afresh: what was said may be said again. For a new run, and for tests."""
    _said.clear()
    counts.clear()


class guarded:  # noqa: N801  reads as the statement that it is
    """Run a block of ours so that no ``Exception`` of it reaches the training: ``with guarded("export"):``."""

    __slots__ = ("_site",)

    def __init__(self, site: str) -> None:
        self._site = site

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        report(self._site, error)
        return True
