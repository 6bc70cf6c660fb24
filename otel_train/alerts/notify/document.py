"""A notification as JSON, for webhooks of no known service and for commands. The schema is in docs/notifications.md."""

import dataclasses
import json
import math
import numbers
import os
from typing import Any

from otel_train.alerts.notification import Notification
from otel_train.alerts.notify.wording import instant

VERSION = 1
"""Of the schema; goes up when a key changes its meaning or goes."""


def document(notification: Notification) -> dict[str, Any]:
    """All fields by their names, absent ones as null, with the schema's version, the state and the time as text."""
    values = {one.name: getattr(notification, one.name) for one in dataclasses.fields(notification)}
    return {
        "version": VERSION,
        "source": "otel_train",
        "status": "resolved" if notification.resolved else "firing",
        "time": instant(notification),
        **values,
    }


def encoded(content: object) -> bytes:
    """JSON in UTF-8 that every parser takes: NaN and the infinities, which JSON has not, are words in it."""
    text = json.dumps(_finite(content), ensure_ascii=False, allow_nan=False, default=_foreign)
    return text.encode("utf-8", "replace")


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return "NaN" if math.isnan(content) else "Infinity" if content > 0 else "-Infinity"
    return content


def _foreign(thing: object) -> object:
    """Numbers and paths as what they are; of others the type's name: to print a tensor may wait for the GPU."""
    if isinstance(thing, numbers.Integral):
        return int(thing)
    if isinstance(thing, numbers.Real):
        return _finite(float(thing))
    return os.fspath(thing) if isinstance(thing, os.PathLike) else f"({type(thing).__name__})"
