"""A notification as a Slack message: blocks, and the text that stands in for them in a pop-up.

Limits: https://docs.slack.dev/reference/block-kit/blocks (header 150, section 3000, 10 fields of 2000 characters),
and 4000 for ``text``. Together blocks are kept far below the 13,000 or so at which Slack answers msg_blocks_too_long.
"""

import re
from typing import Any

from otel_train.alerts.notification import Notification
from otel_train.alerts.notify.wording import cleaned, facts, shortened, sign, title

HEADER, SECTION, FIELD, FIELDS, TEXT = 150, 3000, 200, 10, 4000


def payload(notification: Notification) -> dict[str, Any]:
    """The body of an incoming webhook's request."""
    heading = f"{sign(notification)} {title(notification)}"
    sentences = [text for text in (notification.summary, notification.advice) if cleaned(text).strip()]
    fields = [_markdown(f"*{name}*\n{_fitted(value, FIELD)}") for name, value in facts(notification)[:FIELDS]]
    return {
        "text": _fitted(f"{heading}: {notification.summary}", TEXT),
        "blocks": [
            {"type": "header", "text": _plain(heading, HEADER)},
            *({"type": "section", "text": _plain(text, SECTION)} for text in sentences),
            {"type": "section", "fields": fields},
        ],
    }


def _plain(text: str, limit: int) -> dict[str, str]:
    return {"type": "plain_text", "text": _fitted(text, limit)}


def _markdown(text: str) -> dict[str, str]:
    return {"type": "mrkdwn", "text": text}


def _fitted(text: str, limit: int) -> str:
    """Escaped, so that nobody's ``<!channel>`` calls anybody; a cut never leaves half an ``&amp;``."""
    escaped = cleaned(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"&\w{0,3}…$", "…", shortened(escaped, limit))
