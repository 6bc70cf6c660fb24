"""A notification as a Discord message: one embed, coloured by severity, that mentions nobody.

Limits: https://discord.com/developers/docs/resources/message#embed-object-embed-limits (title 256, description 4096,
25 fields with names of 256 and values of 1024, all together 6000 characters).
"""

import re
from typing import Any

from otel_train.alerts.notification import CRITICAL, INFO, WARNING, Notification
from otel_train.alerts.notify.wording import cleaned, facts, instant, shortened, title

TITLE, SENTENCES, VALUE, FIELDS = 256, (2000, 1500), 200, 10
"""Chosen so that their sum stays below what all together may have."""

COLOURS = {INFO: 0x3498DB, WARNING: 0xE67E22, CRITICAL: 0xE74C3C}
RESOLVED_COLOUR = 0x2ECC71


def payload(notification: Notification) -> dict[str, Any]:
    """The body of a webhook's request."""
    texts = zip((notification.summary, notification.advice), SENTENCES, strict=True)
    sentences = [_fitted(text, limit) for text, limit in texts if cleaned(text).strip()]
    colour = COLOURS.get(notification.severity, COLOURS[WARNING])
    embed = {
        "title": _fitted(title(notification), TITLE),
        "description": "\n\n".join(sentences),
        "color": RESOLVED_COLOUR if notification.resolved else colour,
        "timestamp": instant(notification),
        "fields": [
            {"name": name, "value": _fitted(value, VALUE), "inline": True}
            for name, value in facts(notification)[:FIELDS]
        ],
    }
    return {"embeds": [embed], "allowed_mentions": {"parse": []}}


def _fitted(text: str, limit: int) -> str:
    """Shown as it is written, not as Markdown; a cut never leaves a lone backslash."""
    escaped = re.sub(r"([\\*_~`|\[\]<>])", r"\\\1", cleaned(text))
    return re.sub(r"(?<!\\)((?:\\\\)*)\\…$", r"\1…", shortened(escaped, limit))
