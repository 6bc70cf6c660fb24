"""A real OTLP/HTTP receiver on this machine: decodes what arrives, keeps it, and misbehaves when told to."""

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

SIGNALS = {
    "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
    "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
    "/v1/logs": (ExportLogsServiceRequest, ExportLogsServiceResponse),
}


class OtlpReceiver:
    """A context manager: listens on an ephemeral port of 127.0.0.1 while it is open.

    ``status`` is what it answers (200 stores the request, anything else does not), ``delay_s`` how long it thinks
    before that, ``hangs`` whether it never answers at all. ``paths`` may hold a status for single paths.
    """

    def __init__(self) -> None:
        self.status = 200
        self.paths: dict[str, int] = {}
        self.hangs = False
        self.delay_s = 0.0
        self.requests: list[tuple[str, Any, dict[str, str]]] = []
        """What was acknowledged, in order: path, decoded request, headers."""
        self.attempts = 0
        """Requests that arrived, whatever became of them."""
        self.arrived = threading.Event()
        self._released = threading.Event()
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> "OtlpReceiver":
        self._server = server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        server.daemon_threads = True
        self.port = server.server_address[1]
        self._thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the port: from now on connections are refused."""
        self._released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @property
    def endpoint(self) -> str:
        """For ``OTEL_EXPORTER_OTLP_ENDPOINT``."""
        return f"http://127.0.0.1:{self.port}"

    def forget(self) -> None:
        """Drop what arrived so far."""
        with self._lock:
            self.requests.clear()

    @property
    def spans(self) -> list[Any]:
        """All spans, as protobuf, in the order they came."""
        return [span for scope in self._scopes("/v1/traces", "resource_spans", "scope_spans") for span in scope.spans]

    @property
    def logs(self) -> list[Any]:
        """All log records."""
        return [log for scope in self._scopes("/v1/logs", "resource_logs", "scope_logs") for log in scope.log_records]

    @property
    def metrics(self) -> list[Any]:
        """All metrics, one for each request that had it."""
        scopes = self._scopes("/v1/metrics", "resource_metrics", "scope_metrics")
        return [metric for scope in scopes for metric in scope.metrics]

    def points(self, name: str) -> list[Any]:
        """All data points of a metric, of whatever type."""
        found = [metric for metric in self.metrics if metric.name == name]
        return [point for metric in found for point in getattr(metric, metric.WhichOneof("data")).data_points]

    @property
    def resources(self) -> list[dict[str, Any]]:
        """The attributes of each resource that came."""
        fields = {"/v1/traces": "resource_spans", "/v1/metrics": "resource_metrics", "/v1/logs": "resource_logs"}
        entries = [entry for path, request, _ in self.requests for entry in getattr(request, fields[path])]
        return [attributes(entry.resource) for entry in entries]

    def _scopes(self, path: str, resource_field: str, scope_field: str) -> Iterator[Any]:
        for came_by, request, _ in list(self.requests):
            if came_by == path:
                for resource in getattr(request, resource_field):
                    yield from getattr(resource, scope_field)

    def _answer(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        with self._lock:
            self.attempts += 1
        self.arrived.set()
        if self.hangs:
            self._released.wait()
        if self.delay_s:
            self._released.wait(self.delay_s)
        status = self.paths.get(path, self.status)
        if status == 200:
            request_type, response_type = SIGNALS[path]
            with self._lock:
                self.requests.append((path, request_type.FromString(body), headers))
            return 200, response_type().SerializeToString()
        return status, b""


def attributes(item: Any) -> dict[str, Any]:
    """The attributes of a span, point, log record or resource, as Python values."""
    return {entry.key: _value(entry.value) for entry in item.attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


def _handler_of(receiver: OtlpReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, content = receiver._answer(self.path, body, headers)
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except OSError:  # the client gave up waiting
                self.close_connection = True

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    return Handler
