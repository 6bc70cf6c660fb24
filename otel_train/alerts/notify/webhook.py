"""Posts a notification to a URL, in the shape that the service there understands.

The URL is the secret: whoever has it can write. So no error of ``requests`` gets out, all of which quote it, nor what
``urllib3`` logs, nor a span of an instrumented ``requests``.
"""

import contextlib
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otel_train.alert_targets import DISCORD, JSON, SLACK, TEAMS, WebhookTarget
from otel_train.alerts.notification import Notification
from otel_train.alerts.notify import discord, slack, teams
from otel_train.alerts.notify.document import document, encoded
from otel_train.alerts.notify.way import DeliveryError

if TYPE_CHECKING:
    from requests import Response, Session

PAYLOADS: dict[str, Callable[[Notification], dict[str, Any]]] = {
    SLACK: slack.payload,
    DISCORD: discord.payload,
    TEAMS: teams.payload,
    JSON: document,
}

TIMEOUT_S = 10.0
"""To connect, and between two pieces of an answer."""

TRIES = 3
"""More, after the first: where nobody listens, at 429 and at 5xx. Not where an answer is late: it may have arrived."""

TRY_AGAIN = (429, 500, 502, 503, 504)
BACKOFF_S = 0.5

LONGEST_WAIT_S = 60
"""What a server may ask to wait (Retry-After); this thread has nothing else to do."""

LOGGERS = ("urllib3.connectionpool", "urllib3.util.retry", "urllib3.poolmanager", "urllib3.response")


@dataclass(frozen=True)
class Webhook:
    """One URL to post to."""

    name: str
    target: WebhookTarget
    timeout_s: float = TIMEOUT_S

    def send(self, notification: Notification) -> None:
        """Returns when the server has said that it took it. Raises ``DeliveryError``."""
        body = encoded(PAYLOADS[self.target.kind](notification))
        with _silent_http(), _unobserved():
            failure = self._failure_of(body)
        if failure:
            raise DeliveryError(failure)  # here, where no error that quotes the URL is being handled

    def _failure_of(self, body: bytes) -> str | None:
        """Post; what went wrong, in words without the URL."""
        import requests

        try:
            with _session() as session:
                answer = session.post(
                    self.target.url,
                    data=body,
                    headers={"Content-Type": "application/json; charset=utf-8", "User-Agent": "otel_train"},
                    timeout=self.timeout_s,
                    allow_redirects=False,
                    stream=True,
                )
                return None if 200 <= answer.status_code < 300 else _refusal(answer, self.target.url)
        except (requests.RequestException, OSError, ValueError) as error:
            return _reason(error, self.timeout_s)


def _session() -> "Session":
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util.retry import Retry

    class PatientRetry(Retry):
        """Waits as long as it is told to, within reason."""

        def parse_retry_after(self, retry_after: str) -> float:
            whole = re.sub(r"^\s*(\d+)\.\d+\s*$", lambda match: str(int(match[1]) + 1), retry_after)  # as Discord may
            return min(super().parse_retry_after(whole), LONGEST_WAIT_S)

    retries = PatientRetry(
        total=TRIES,
        read=False,
        other=0,
        redirect=0,
        allowed_methods={"POST"},
        status_forcelist=TRY_AGAIN,
        backoff_factor=BACKOFF_S,
        raise_on_status=False,
    )
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retries))
    return session


def _refusal(answer: "Response", url: str) -> str:
    """The status, and the service's word for it if it is but one (Slack: ``no_service``) and not part of the URL."""
    if 300 <= answer.status_code < 400:
        return f"answered {answer.status_code}, a redirect, which is not followed: give the URL that it leads to"
    beginning = (answer.raw.read(64, decode_content=True) or b"").decode("ascii", "replace")
    word = f": {beginning}" if re.fullmatch(r"[a-z_]{3,40}", beginning) and beginning not in url else ""
    return f"answered {answer.status_code}{word}"


def _reason(error: BaseException, timeout_s: float) -> str:
    """What a failure was, by its kind alone: the texts of these errors quote the URL."""
    import requests

    if isinstance(error, requests.exceptions.SSLError):
        return "no connection: its certificate is not trusted, or it does not speak TLS"
    if isinstance(error, requests.exceptions.ProxyError):
        return "no connection: the proxy does not let it through"
    if isinstance(error, requests.Timeout):
        return f"no answer in {timeout_s:g} s"
    inner = _innermost(error)
    if isinstance(inner, OSError):
        return f"no connection: {inner.strerror or type(inner).__name__}"
    return f"failed with {type(inner).__name__}"


def _innermost(error: BaseException) -> BaseException:
    """What urllib3 and requests have wrapped: the error of the system, where there is one."""
    for _ in range(10):
        wrapped = [getattr(error, "reason", None), error.__cause__, *error.args, error.__context__]
        deeper = next((one for one in wrapped if isinstance(one, BaseException) and one is not error), None)
        if deeper is None:
            return error
        error = deeper
    return error


class _NotThisThread(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread != self._thread


@contextlib.contextmanager
def _silent_http() -> Iterator[None]:
    """Drop what urllib3 logs in this thread meanwhile: each of its lines has the path, which is the secret."""
    ours = _NotThisThread()
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addFilter(ours)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(ours)


def _unobserved() -> "contextlib.AbstractContextManager[None]":
    """No span of this request: where ``requests`` is instrumented it would have the URL as an attribute."""
    instrumentation = sys.modules.get("opentelemetry.instrumentation.utils")
    suppress = getattr(instrumentation, "suppress_instrumentation", contextlib.nullcontext)
    return suppress()
