"""Whom alerts are told to: the values of the settings ``alert_webhook``, ``alert_email`` and ``alert_command``.

All of them are secrets: no error says what was got, no ``repr`` shows it. A parser raises ``ValueError`` that says what
is allowed. Light: whatever sends is imported with the first notification.
"""

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

SLACK, DISCORD, TEAMS, JSON = "slack", "discord", "teams", "json"
KINDS = (SLACK, DISCORD, TEAMS, JSON)

HOSTS = {
    "hooks.slack.com": SLACK,
    "hooks.slack-gov.com": SLACK,
    "discord.com": DISCORD,
    "discordapp.com": DISCORD,
    "logic.azure.com": TEAMS,  # Workflows until November 2025, and Logic Apps
    "api.powerplatform.com": TEAMS,  # Workflows since
    "webhook.office.com": TEAMS,  # connectors, which take the same card
}
"""What a host (or one under it) understands; every other one is given plain JSON."""

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")

IMPLICIT, STARTTLS, PLAIN = "implicit TLS", "STARTTLS", "plain text"

WEBHOOKS_ALLOWED = (
    "URLs with https:// or http://, separated by spaces or commas, each with slack+, discord+, teams+ or json+ before "
    "it where the host does not tell: https://hooks.slack.com/services/…, json+https://example.com/alerts"
)
EMAIL_ALLOWED = (
    "a URL such as smtps://user@mail.example.com/?from=runs@example.com&to=a@example.com,b@example.com; smtp:// for "
    "STARTTLS, smtp+insecure:// for a relay on localhost; the password in OTEL_TRAIN_ALERT_SMTP_PASSWORD"
)
COMMAND_ALLOWED = "a program with its arguments, quoted as in a shell: notify-team --channel 'my runs'"


@dataclass(frozen=True)
class WebhookTarget:
    """A URL and what it understands."""

    kind: str
    url: str = field(repr=False)


@dataclass(frozen=True, repr=False)
class MailTarget:
    """A mail server and who writes to whom."""

    host: str
    port: int
    security: str
    """``IMPLICIT``, ``STARTTLS`` or ``PLAIN``."""
    user: str | None
    sender: str
    recipients: tuple[str, ...]


def webhooks(value: object) -> tuple[WebhookTarget, ...]:
    """One or several URLs, as text or as a list; one that is there twice counts once."""
    texts = [value] if isinstance(value, str) else value if isinstance(value, Iterable) else [""]
    urls = [url for text in texts for url in re.split(r"[\s,]+", str(text)) if url]
    if not urls:
        raise ValueError(WEBHOOKS_ALLOWED)
    return tuple(dict.fromkeys(_webhook(url) for url in urls))


def _webhook(text: str) -> WebhookTarget:
    prefix, plus, rest = text.partition("+")
    known = prefix.lower() if plus and prefix.lower() in KINDS else None
    url = rest if known else text
    parts = _split(url, WEBHOOKS_ALLOWED)
    if parts.scheme not in ("http", "https"):
        raise ValueError(WEBHOOKS_ALLOWED)
    return WebhookTarget(known or _kind_of(parts.hostname or ""), url)


def _kind_of(host: str) -> str:
    found = (kind for known, kind in HOSTS.items() if host == known or host.endswith(f".{known}"))
    return next(found, JSON)


def _split(url: str, allowed: str) -> SplitResult:
    """The parts of a URL that has a host. The errors of ``urllib`` would quote it."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError(allowed)
    return parts


def mail(value: object) -> MailTarget:
    """A mail server with sender and recipients. TLS unless the server is on this machine and it is asked for."""
    parts = _split(str(value).strip(), EMAIL_ALLOWED)
    if parts.password is not None:
        raise ValueError("a URL without a password: that is for OTEL_TRAIN_ALERT_SMTP_PASSWORD")
    query = parse_qs(parts.query.replace("+", "%2B"))  # a plus is part of many an address
    senders, recipients = _addresses(query.pop("from", [])), _addresses(query.pop("to", []))
    if len(senders) != 1 or not recipients or query or parts.path not in ("", "/"):
        raise ValueError(EMAIL_ALLOWED)
    port, security = _port_and_security(parts)
    user = unquote(parts.username) if parts.username else None
    return MailTarget(parts.hostname or "", port, security, user, senders[0], tuple(recipients))


def _port_and_security(parts: SplitResult) -> tuple[int, str]:
    """TLS from the start on port 465 and for smtps://, but for the ports that begin in plain text."""
    if parts.scheme == "smtps":
        port = parts.port or 465
        return port, STARTTLS if port in (25, 587) else IMPLICIT
    if parts.scheme == "smtp":
        port = parts.port or 587
        return port, IMPLICIT if port == 465 else STARTTLS
    if parts.scheme == "smtp+insecure" and parts.hostname in LOCAL_HOSTS:
        return parts.port or 25, PLAIN
    raise ValueError(EMAIL_ALLOWED)


def _addresses(values: list[str]) -> list[str]:
    addresses = [address.strip() for value in values for address in value.split(",") if address.strip()]
    if any(not re.fullmatch(r"[!-~]+@[!-~]+", address) or re.search(r"[<>\"()]", address) for address in addresses):
        raise ValueError(f"plain ASCII addresses in {EMAIL_ALLOWED}")
    return addresses


def command(value: object) -> str:
    """A command line. Whether its program exists is for the machine that is going to run it."""
    text = str(value).strip()
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    if not words or not words[0] or "\0" in text:
        raise ValueError(COMMAND_ALLOWED)
    return text
