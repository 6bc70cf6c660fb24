"""A notification as an Adaptive Card, which a Workflow of Microsoft Teams posts into a channel.

Limits: a message may have 28 KB (https://learn.microsoft.com/connectors/teams, "message size limit"); some have
measured 21 KB, so that the card stays below 20 KB in whatever script it is written. Sentences are text runs, in which
Markdown has no meaning.
"""

from typing import Any

from otel_train.alerts.notification import CRITICAL, INFO, WARNING, Notification
from otel_train.alerts.notify.wording import cleaned, facts, shortened, title

TITLE, SENTENCE, VALUE = 250, 2000, 150

COLOURS = {INFO: "Accent", WARNING: "Warning", CRITICAL: "Attention"}
RESOLVED_COLOUR = "Good"


def payload(notification: Notification) -> dict[str, Any]:
    """The body of the request that a Workflow's webhook trigger waits for."""
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": _body(notification),
        "msteams": {"width": "Full"},
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def _body(notification: Notification) -> list[dict[str, Any]]:
    colour = COLOURS.get(notification.severity, COLOURS[WARNING])
    sentences = [cleaned(text).strip() for text in (notification.summary, notification.advice)]
    return [
        _text(
            shortened(title(notification), TITLE),
            size="Large",
            weight="Bolder",
            color=RESOLVED_COLOUR if notification.resolved else colour,
        ),
        *(_text(shortened(sentence, SENTENCE)) for sentence in sentences if sentence),
        {
            "type": "FactSet",
            "facts": [{"title": name, "value": shortened(value, VALUE)} for name, value in facts(notification)],
        },
    ]


def _text(text: str, **style: str) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, **style}]}
