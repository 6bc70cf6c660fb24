"""Does an endpoint answer as OTLP? Asks it, without OpenTelemetry, with the request that carries nothing."""

import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 5.0
CONTENT_TYPE = "application/x-protobuf"
EMPTY_REQUEST = b""
"""An ``ExportTraceServiceRequest`` without spans is no bytes at all."""

DEFAULT_PORTS = {"http": 80, "https": 443}

MEANINGS = {
    401: "it wants credentials: set OTEL_EXPORTER_OTLP_HEADERS",
    403: "it refuses these credentials: look at OTEL_EXPORTER_OTLP_HEADERS",
    404: "something answers there, but has no OTLP at this path: the endpoint is the address without /v1/traces",
    405: "something answers there, but takes no OTLP at this path",
    415: "it does not take protobuf: it may want another protocol",
    429: "it answers as OTLP, and is overloaded now",
}


@dataclass(frozen=True)
class Answer:
    """Whether an endpoint takes OTLP, and in words what it answered."""

    ok: bool
    text: str


def probe(url: str, headers: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S) -> Answer:
    """POST an empty trace request to ``url`` (with its ``/v1/traces``). Raises nothing."""
    request_headers = {"Content-Type": CONTENT_TYPE, "User-Agent": "otel-train-doctor", **(headers or {})}
    try:
        request = urllib.request.Request(url, EMPTY_REQUEST, request_headers, method="POST")
        with _opener.open(request, timeout=timeout_s) as response:
            return judge(url, response.status, response.headers.get_content_type())
    except urllib.error.HTTPError as error:
        return judge(url, error.code, error.headers.get_content_type(), error.headers.get("Location"))
    except urllib.error.URLError as error:
        return Answer(False, f"{url} {_why(error.reason, timeout_s)}")
    except (OSError, ValueError) as error:
        return Answer(False, f"{url} {_why(error, timeout_s)}")


def judge(url: str, status: int, content_type: str, location: str | None = None) -> Answer:
    """What a status and a content type say about an endpoint."""
    if status == 200 and content_type in (CONTENT_TYPE, "application/json"):
        return Answer(True, f"{url} answers as OTLP")
    if 200 <= status < 300:
        return Answer(False, f"{url} answers {status} with {content_type}: that is a web server, not OTLP")
    if 300 <= status < 400:
        return Answer(False, f"{url} redirects to {location or 'another address'} ({status}): use that address")
    meaning = MEANINGS.get(status, "it has trouble of its own" if status >= 500 else "it does not take this request")
    return Answer(False, f"{url} answers {status}: {meaning}")


def probe_connection(endpoint: str, timeout_s: float = TIMEOUT_S) -> Answer:
    """For gRPC: is somebody listening? Whether it is OTLP is not asked. Raises nothing."""
    parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
    try:
        address = parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 4317)
        socket.create_connection(address, timeout_s).close()
    except (OSError, ValueError) as error:
        return Answer(False, f"{endpoint} {_why(error, timeout_s)}")
    return Answer(True, f"{endpoint} accepts connections (gRPC: whether it is OTLP was not asked)")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET."""

    def redirect_request(self, *args: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


def _why(reason: object, timeout_s: float) -> str:
    if isinstance(reason, TimeoutError):
        return f"did not answer within {timeout_s:g} s"
    if isinstance(reason, ConnectionRefusedError):
        return "refuses connections: nothing listens there"
    if isinstance(reason, socket.gaierror):
        return f"has a host name that is not known: {reason}"
    return f"cannot be reached: {reason}"
