"""A webhook's server that misbehaves when told to, a mail server, certificates, and a notification to send."""

import json
import ssl
import threading
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from otel_train.alerts.notification import Notification

SECRET = "T0KEN-that-nobody-may-see"

FIRED = Notification(
    rule="gpu_idle",
    severity="warning",
    resolved=False,
    summary="The GPU was used 31 % for 5 minutes.",
    advice="It waits for the input: raise num_workers.",
    unix_s=1_790_000_000.0,
    run_id="run-7",
    rank=0,
    host="node-3",
    label="GPU 2",
    step=1200,
    value=0.31,
    threshold=0.5,
    extra={"bound_by": "input"},
)


def notification(**changes: Any) -> Notification:
    """``FIRED`` with some fields of its own."""
    return replace(FIRED, **changes)


@dataclass
class Answer:
    """What a server says: status, headers, text."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    text: str = "ok"


class WebhookServer:
    """A context manager: listens on an ephemeral port of 127.0.0.1; gives ``answers`` in turn, the last for good."""

    def __init__(self, *answers: Answer, hangs: bool = False, tls: ssl.SSLContext | None = None) -> None:
        self._answers = list(answers) or [Answer()]
        self._hangs = hangs
        self._tls = tls
        self._released = threading.Event()
        self.arrived = threading.Event()
        self.bodies: list[Any] = []
        self.requests: list[tuple[str, dict[str, str]]] = []

    def __enter__(self) -> "WebhookServer":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        if self._tls:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self._server.server_address[1]}/services/{SECRET}?sig={SECRET}"

    def take(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        self.requests.append((path, headers))
        self.bodies.append(json.loads(body, parse_constant=_refuse))
        self.arrived.set()
        if self._hangs:
            self._released.wait()
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def _handler_of(server: WebhookServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = server.take(self.path, dict(self.headers), body)
            content = answer.text.encode()
            try:
                self.send_response(answer.status)
                for name, value in {**answer.headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
            except OSError:  # the client gave up waiting
                self.close_connection = True

        do_GET = do_POST  # noqa: N815  the name that http.server looks for

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    return Handler


class Postbox:
    """What aiosmtpd calls: keeps messages; refuses the recipients that it is told to."""

    def __init__(self, refuses: tuple[str, ...] = ()) -> None:
        self.messages: list[Any] = []
        self._refuses = refuses

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802  aiosmtpd's name
        if address in self._refuses:
            return f"550 5.1.1 no such user {address}"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  aiosmtpd's name
        self.messages.append(envelope)
        return "250 OK"


class MailServer(Controller):
    """A mail server on an ephemeral port: ``ssl_context`` for TLS from the start, ``tls_context`` for STARTTLS."""

    def __init__(self, box: Postbox, **options: Any) -> None:
        super().__init__(box, hostname="127.0.0.1", port=0, **options)

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()

    def __enter__(self) -> "MailServer":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def authenticator(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    """Lets in who knows ``SECRET``."""
    knows = (b"trainer", SECRET.encode()) == (data.login, data.password)
    return AuthResult(success=knows, handled=False)


class Certificates:
    """An authority of the test's own, and a server's certificate by it."""

    def __init__(self, *names: str) -> None:
        self._authority = trustme.CA()
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*(names or ("127.0.0.1", "localhost"))).configure_cert(self.server)

    def write(self, path: Any) -> str:
        """The authority's certificate as a file, for SSL_CERT_FILE and REQUESTS_CA_BUNDLE."""
        self._authority.cert_pem.write_to_path(str(path))
        return str(path)
