"""``otel-train doctor``: what it finds, against real servers and real directories."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from otel_train.cli import group
from otel_train.doctor import NOTE, OK, PROBLEM, check_directory, check_endpoint, check_recording
from otel_train.probe import CONTENT_TYPE, Answer, probe, probe_connection
from otel_train.settings import Settings, load


class Server(ThreadingHTTPServer):
    """Answers every POST as told."""

    status, content_type, body, delay_s, location = 200, CONTENT_TYPE, b"", 0.0, None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.let_go = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.path, dict(self.headers), body))
        self.server.let_go.wait(self.server.delay_s)
        self.send_response(self.server.status)
        self.send_header("Content-Type", self.server.content_type)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Be quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.let_go.set()
    made.shutdown()
    thread.join()
    made.server_close()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def test_a_backend_that_takes_otlp_is_fine(server: Server) -> None:
    """It was sent an empty request, with the headers."""
    answer = probe(f"{server.url}/v1/traces", {"api-key": "x"})
    assert Answer(True, f"{server.url}/v1/traces answers as OTLP") == answer
    ((path, headers, body),) = server.requests
    assert ("/v1/traces", CONTENT_TYPE, "x", b"") == (path, headers["Content-Type"], headers["Api-Key"], body)


@pytest.mark.parametrize(
    ("status", "content_type", "expected"),
    [
        (200, "text/html", "that is a web server, not OTLP"),
        (404, "text/plain", "no OTLP at this path: the endpoint is the address without /v1/traces"),
        (405, "text/html", "takes no OTLP"),
        (401, "text/plain", "OTEL_EXPORTER_OTLP_HEADERS"),
        (503, "text/plain", "trouble of its own"),
    ],
)
def test_other_answers_are_told_apart(server: Server, status: int, content_type: str, expected: str) -> None:
    """Each in words that say what to do."""
    server.status, server.content_type = status, content_type
    answer = probe(f"{server.url}/v1/traces")
    assert (False, True) == (answer.ok, expected in answer.text)
    assert str(status) in answer.text


def test_a_redirect_is_not_followed(server: Server) -> None:
    """A redirected POST would arrive as a GET; the other address is named."""
    server.status, server.location = 301, "https://elsewhere/v1/traces"
    answer = probe(f"{server.url}/v1/traces")
    assert (False, True, 1) == (answer.ok, "https://elsewhere/v1/traces" in answer.text, len(server.requests))


def test_a_backend_that_hangs_is_given_up(server: Server) -> None:
    """After the timeout."""
    server.delay_s = 30
    answer = probe(f"{server.url}/v1/traces", timeout_s=0.2)
    assert Answer(False, f"{server.url}/v1/traces did not answer within 0.2 s") == answer


def test_nobody_there_is_told() -> None:
    """Refused, unknown host, no URL at all: words, not exceptions."""
    url = f"http://127.0.0.1:{free_port()}/v1/traces"
    assert Answer(False, f"{url} refuses connections: nothing listens there") == probe(url)
    assert "host name that is not known" in probe("http://host.invalid/v1/traces").text
    assert not probe("localhost:4318/v1/traces").ok
    assert not probe("nonsense").ok


def test_for_grpc_only_the_connection_is_tried(server: Server) -> None:
    """With and without a scheme."""
    assert probe_connection(server.url).ok
    assert probe_connection(f"127.0.0.1:{server.server_port}").ok
    assert not probe_connection(f"127.0.0.1:{free_port()}").ok
    assert not probe_connection("127.0.0.1:notaport").ok


def test_the_endpoint_gets_its_path(server: Server) -> None:
    """The general endpoint does; the one for traces is taken as it is."""
    asked: list[str] = []

    def ask(url: str, headers: object) -> Answer:
        asked.append(url)
        return Answer(True, url)

    check_endpoint(Settings(endpoint="http://h:1/"), {}, ask)
    check_endpoint(Settings(), {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://h:2/own"}, ask)
    check_endpoint(Settings(protocol="grpc", endpoint="h:3"), {}, ask, lambda url: ask(url, None))
    assert ["http://h:1/v1/traces", "http://h:2/own", "h:3"] == asked
    assert NOTE == check_endpoint(Settings(), {}, ask).status


def test_the_directory_is_really_written_to(tmp_path: Path) -> None:
    """And left as it was; a file in its place is a problem, a full disk a note."""
    where = tmp_path / "new" / "runs"
    assert OK == check_directory(where, 1).status
    assert [] == list(where.iterdir())
    assert NOTE == check_directory(where, 1 << 60).status
    (tmp_path / "file").write_text("")
    problem = check_directory(tmp_path / "file" / "runs", 1)
    assert (PROBLEM, True) == (problem.status, "OTEL_TRAIN_DIR" in problem.text)


@pytest.mark.parametrize(("settings", "status"), [({}, OK), ({"enabled": False}, NOTE), ({"level": "off"}, NOTE)])
def test_recording_that_is_off_is_told(settings: dict[str, object], status: str) -> None:
    """The most frequent reason for an empty directory."""
    assert status == check_recording(load(settings, {})).status


@pytest.fixture
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRAIN_DIR", str(tmp_path))
    for name in ("OTEL_TRAIN_CONFIG", "OTEL_SDK_DISABLED", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(group, ["doctor", *arguments])


@pytest.mark.usefixtures("_alone")
def test_all_is_well(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 0; settings with their sources, checks, versions."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url)
    result = doctor()
    assert 0 == result.exit_code, result.output
    shown = " ".join(result.output.split())
    for part in ("OTEL_TRAIN_DIR", "answers as OTLP", "can be written", "otel-train 0.", "numpy"):
        assert part in shown


@pytest.mark.usefixtures("_alone")
def test_a_problem_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a job script can ask first."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    result = doctor("--json")
    assert 1 == result.exit_code
    content = json.loads(result.output)
    assert {"settings", "checks", "versions"} == set(content)
    assert ["endpoint"] == [check["name"] for check in content["checks"] if check["status"] == PROBLEM]
    assert {"name", "value", "source", "variable"} == set(content["settings"][0])
    sources = {setting["name"]: setting["source"] for setting in content["settings"]}
    assert ("OTEL_TRAIN_DIR", "default") == (sources["dir"], sources["level"])


@pytest.mark.usefixtures("_alone")
def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The headers hold keys."""
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s3cr3t")
    assert "s3cr3t" not in doctor().output + doctor("--json").output


def test_each_signal_that_is_on_is_asked():
    """A signal's own address counts, one that is turned off does not, and a common address is asked once."""
    from otel_train.doctor import check_endpoint
    from otel_train.probe import Answer
    from otel_train.settings import load

    def asked(environ):
        places = []
        check_endpoint(load({}, environ), environ, lambda url, headers: places.append(url) or Answer(True, url))
        return places

    common, own = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
    assert ["http://c/v1/traces"] == asked({common: "http://c"})
    assert ["http://m/x"] == asked({own: "http://m/x"})
    assert ["http://c/v1/traces", "http://m/x"] == asked({common: "http://c", own: "http://m/x"})
    assert ["http://c/v1/metrics"] == asked({common: "http://c", "OTEL_TRACES_EXPORTER": "none"})
    assert [] == asked({})
