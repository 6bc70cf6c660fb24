"""``otel-train push``: sends what is not acknowledged, to a real server in a thread."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from report_run import RUN_ID, build_run

from otel_train.cli import group


class Backend(ThreadingHTTPServer):
    """Acknowledges, or refuses with ``status``; remembers the paths."""

    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Backend

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.append(self.path)
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Be quiet."""


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OTEL_TRAIN_DIR", str(tmp_path))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    for name in ("OTEL_TRAIN_CONFIG", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    build_run(tmp_path)
    return tmp_path


def push(*arguments: str) -> Result:
    return CliRunner().invoke(group, ["push", *arguments])


def test_without_an_endpoint_it_says_what_to_type(directory: Path) -> None:
    """And sends nothing."""
    result = push()
    assert (1, True) == (result.exit_code, "otel-train push --endpoint http://localhost:4318" in result.output)


def test_every_rank_is_sent_once(directory: Path, backend: Backend) -> None:
    """What was acknowledged is not sent again, and ``ls`` says so."""
    result = push("--endpoint", backend.url)
    assert 0 == result.exit_code, result.output
    assert f"Run {RUN_ID}" in result.output
    for rank in (0, 1):
        assert f"rank {rank}: 40 steps sent, 0 remain" in result.output
    assert {"/v1/traces", "/v1/metrics", "/v1/logs"} == set(backend.paths)
    sent = len(backend.paths)
    assert "0 steps sent, 0 remain" in push("--endpoint", backend.url).output
    assert sent == len(backend.paths)
    (line,) = json.loads(CliRunner().invoke(group, ["ls", "--json"]).output)
    assert 0 == line["unacknowledged_steps"]


def test_the_endpoint_may_come_from_the_environment(
    directory: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As everywhere in OpenTelemetry."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", backend.url)
    assert 0 == push(RUN_ID).exit_code


def test_what_is_not_acknowledged_is_the_exit_code(directory: Path, backend: Backend) -> None:
    """It stays, and the next push sends it."""
    backend.status = 503
    result = push("--endpoint", backend.url)
    assert 1 == result.exit_code
    assert "rank 0: 0 steps sent, 40 remain" in result.output
    assert "stays on disk" in result.output
    backend.status = 200
    assert 0 == push("--endpoint", backend.url).exit_code


def test_sending_that_is_turned_off_is_told(directory: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would look like success otherwise."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    result = push("--endpoint", backend.url)
    assert (1, True) == (result.exit_code, "OTEL_SDK_DISABLED" in result.output)
