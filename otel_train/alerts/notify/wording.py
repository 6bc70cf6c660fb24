"""The words of a notification, and how they fit into the places that services have for them."""

import re
from datetime import datetime, timezone

from otel_train.alerts.notification import CRITICAL, INFO, WARNING, Notification

SIGNS = {INFO: "🔵", WARNING: "🟠", CRITICAL: "🔴"}
RESOLVED_SIGN = "🟢"


def cleaned(text: str) -> str:
    """Text that every service takes: no control characters but line ends and tabs, no half surrogate pairs."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", whole)


def length(text: str) -> int:
    """In UTF-16 units, never fewer than characters: services do not say which they count."""
    return len(text.encode("utf-16-le")) // 2


def shortened(text: str, limit: int) -> str:
    """``text`` in at most ``limit`` units; an ellipsis stands for what was cut."""
    if length(text) <= limit:
        return text
    return text.encode("utf-16-le")[: 2 * (limit - 1)].decode("utf-16-le", "ignore") + "…"


def one_line(text: str) -> str:
    """Text without line ends, for a subject or a title."""
    return " ".join(cleaned(text).split())


def state(notification: Notification) -> str:
    """``resolved``, or the severity."""
    return "resolved" if notification.resolved else notification.severity


def title(notification: Notification) -> str:
    """One line: how bad, which rule, of what, in which run."""
    about = f" ({notification.label})" if notification.label else ""
    return one_line(f"{state(notification).upper()}: {notification.rule}{about} in run {notification.run_id}")


def sign(notification: Notification) -> str:
    """A coloured dot, for those who see many."""
    return RESOLVED_SIGN if notification.resolved else SIGNS.get(notification.severity, SIGNS[WARNING])


def instant(notification: Notification) -> str:
    """When, in ISO 8601 and UTC, to the second."""
    return datetime.fromtimestamp(notification.unix_s, timezone.utc).isoformat(timespec="seconds")


def facts(notification: Notification) -> list[tuple[str, str]]:
    """What is known beside the sentences, as name and value; what is not known is left out."""
    known = [
        ("Run", notification.run_id),
        ("Rank", str(notification.rank)),
        ("Host", notification.host),
        ("About", notification.label),
        ("Step", _number(notification.step)),
        ("Value", _number(notification.value)),
        ("Threshold", _number(notification.threshold)),
        ("Time", instant(notification)),
    ]
    return [(name, one_line(value)) for name, value in known if one_line(value)]


def _number(value: float | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:g}"


def plain_text(notification: Notification) -> str:
    """All of it for an e-mail: sentences, then facts, a line each."""
    paragraphs = [cleaned(text).strip() for text in (notification.summary, notification.advice)]
    lines = "\n".join(f"{name}: {value}" for name, value in facts(notification))
    return "\n\n".join([text for text in paragraphs if text] + [lines]) + "\n"
