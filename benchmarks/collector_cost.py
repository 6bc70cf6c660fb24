"""What the collector's configurations need: an agent with the ranks of a node, a gateway with a thousand.

    python benchmarks/collector_cost.py [--ranks 64] [--gateway-ranks 1000] [--seconds 60]

A real run is recorded for half a minute (the demo's GPT, a step kept in five seconds, resources every five), with the
requests that it sends. They are sent again, at the pace at which they came, by so many ranks, each with an identity and
spans of its own. 1. To ``agent.yaml``, request by request. 2. To ``gateway.yaml``, by nodes of 8 ranks, as agents put
them together. Behind both is a collector that takes everything. CPU and memory are the process's; what was refused and
what failed is what it says of itself. Needs the stack's programs (``otel-train stack build``), and trustme.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import psutil
import requests
import trustme
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_train.stack import build

ROOT = Path(__file__).parent.parent
KINDS = {"/v1/traces": ExportTraceServiceRequest, "/v1/metrics": ExportMetricsServiceRequest}
RECORDED_S = 30
A_NODE = 8
SENDERS = 16
Sent = tuple[float, str, Any]
"""Seconds after the first, path, request."""


def record() -> list[Sent]:
    """What a real rank sends in half a minute."""
    found: list[Sent] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path in KINDS:
                found.append((time.monotonic(), self.path, KINDS[self.path].FromString(content)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *told: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environ = {
            **os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none", "OTEL_TRAIN_DIR": tempfile.mkdtemp(),
        }  # fmt: skip
        script = [sys.executable, str(ROOT / "examples" / "char_gpt.py"), "--seconds", str(RECORDED_S)]
        subprocess.run(script, env=environ, check=True, stdout=subprocess.DEVNULL)
        server.shutdown()
    first = found[0][0]
    return [(when - first, path, request) for when, path, request in found]


def as_rank(path: str, request: Any, rank: int, turn: int) -> Any:
    """The request of another rank: its identity, and spans with ids of their own; traces are shared by all ranks."""
    changed = type(request).FromString(request.SerializeToString())
    for each in changed.resource_spans if path == "/v1/traces" else changed.resource_metrics:
        for attribute in each.resource.attributes:
            if attribute.key == "dl.rank":
                attribute.value.int_value = rank
            elif attribute.key == "service.instance.id":
                attribute.value.string_value = f"run-rank{rank}"
        if path == "/v1/traces":
            for scope in each.scope_spans:
                for span in scope.spans:
                    span.trace_id = bytes([turn % 256]) + span.trace_id[1:]
                    span.span_id = rank.to_bytes(2, "big") + bytes([turn % 256]) + span.span_id[3:]
    return changed


def schedule(sent: list[Sent], ranks: int, together: int, seconds: float) -> Iterator[tuple[float, str, bytes]]:
    """When what is sent, in order; the ranks are spread over two seconds, the requests repeat."""
    for turn in range(int(seconds // RECORDED_S) + 1):
        for when, path, request in sent:
            if turn * RECORDED_S + when < seconds:
                for first in range(0, ranks, together):
                    merged = as_rank(path, request, first, turn)
                    for rank in range(first + 1, min(first + together, ranks)):
                        merged.MergeFrom(as_rank(path, request, rank, turn))
                    offset = 2.0 * first / ranks
                    yield turn * RECORDED_S + when + offset, path, merged.SerializeToString()


class Collector:
    """A process of it, and what it says of itself."""

    def __init__(self, config: Path, telemetry: int, ready: int, **environ: str) -> None:
        self._telemetry = telemetry
        self._ready = ready
        log = config.with_suffix(".log").open("w")
        self._process = subprocess.Popen(
            [str(build.program("otelcol")), f"--config={config}"], env={**os.environ, **environ}, stdout=log, stderr=log
        )
        self.seen = psutil.Process(self._process.pid)
        until = time.monotonic() + 30
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise SystemExit(config.with_suffix(".log").read_text())
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{self._ready}", timeout=2).status_code in (200, 404)
        except requests.ConnectionError:
            return False

    def total(self, *names: str) -> int:
        """The sum of its counters of these names."""
        text = requests.get(f"http://127.0.0.1:{self._telemetry}/metrics", timeout=10).text
        rows = re.findall(r"^(\w+?)(?:_total)?\{[^}]*\} (\S+)$", text, re.MULTILINE)
        return int(sum(float(value) for name, value in rows if name in names))

    def end(self) -> None:
        """Ask it to, and wait."""
        self._process.terminate()
        self._process.wait(60)


def drive(what: str, collector: Collector, ranks: int, plan: Iterator[tuple[float, str, bytes]], **how: Any) -> None:
    """Send the plan, and print what the collector needed."""
    queue: Queue[tuple[float, str, bytes] | None] = Queue(maxsize=2000)
    address, late, failed = how.pop("address"), [], []

    def send() -> None:
        with requests.Session() as session:
            session.headers["Content-Type"] = "application/x-protobuf"
            while (each := queue.get()) is not None:
                when, path, content = each
                wait = began + when - time.monotonic()
                time.sleep(max(wait, 0.0))
                late.append(max(-wait, 0.0))
                answer = session.post(address + path, content, timeout=60, **how)
                failed.extend([] if answer.ok else [answer.status_code])

    began, cpu = time.monotonic(), sum(collector.seen.cpu_times()[:2])
    threads = [threading.Thread(target=send) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    most = 0
    for each in plan:
        queue.put(each)
        most = max(most, collector.seen.memory_info().rss) if len(late) % 50 == 0 else most
    for _ in threads:
        queue.put(None)
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    used = sum(collector.seen.cpu_times()[:2]) - cpu
    most = max(most, collector.seen.memory_info().rss)
    accepted = [collector.total(f"otelcol_receiver_accepted_{kind}") for kind in ("spans", "metric_points")]
    lost = collector.total(*(f"otelcol_{part}_{kind}" for kind in ("spans", "metric_points")
                             for part in ("receiver_refused", "receiver_failed", "exporter_send_failed",
                                          "exporter_enqueue_failed")))  # fmt: skip
    behind_ms = 1e3 * sum(late[-(len(late) // 10) :]) / max(len(late) // 10, 1)
    print(
        f"{what}: {ranks} ranks for {took:.0f} s, {accepted[0]:,} spans and {accepted[1]:,} points in {len(late):,} "
        f"requests, {len(failed)} of them not taken; the sender was {behind_ms:.0f} ms late at the end"
    )
    print(
        f"  {used / took:.1%} of a CPU ({used / took / ranks * 1e6:.0f} µs a rank and second), {most / 2**20:.0f} MiB; "
        f"refused, failed or dropped: {lost}"
    )


STORE = """
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: 127.0.0.1:27001
        max_recv_msg_size_mib: 64
        tls: &tls {{cert_file: "{folder}/tls.crt", key_file: "{folder}/tls.key"}}
      http: {{endpoint: "127.0.0.1:27002", tls: *tls}}
exporters: {{debug: {{verbosity: basic}}}}
service:
  telemetry:
    logs: {{level: error}}
    metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: 27003}}}}}}}}]}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [debug]}}
    metrics: {{receivers: [otlp], exporters: [debug]}}
"""


def prepared(name: str, folder: Path, offset: int) -> Path:
    """A shipped configuration on other ports."""
    text = (ROOT / "collector-config" / f"{name}.yaml").read_text().replace("0.0.0.0:", "127.0.0.1:")
    text = text.replace("limit_percentage: 80", "limit_mib: 4000").replace(
        "spike_limit_percentage: 20", "spike_limit_mib: 800"
    )
    for port in (4317, 4318, 13133):
        text = text.replace(f":{port}", f":{port + offset}")
    path = folder / f"{name}.yaml"
    path.write_text(text.replace("port: 8888", f"port: {8888 + offset}").replace("host: 0.0.0.0", "host: 127.0.0.1"))
    return path


def main() -> None:
    """Both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=64)
    parser.add_argument("--gateway-ranks", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(folder / "ca.crt")
    certificate.private_key_pem.write_to_path(folder / "tls.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    (folder / "token").write_text("secret\n")
    (folder / "store.yaml").write_text(STORE.format(folder=folder))
    sent = record()
    spans = sum(len(s.spans) for _, p, r in sent if p == "/v1/traces" for e in r.resource_spans for s in e.scope_spans)
    print(f"a rank sends {len(sent)} requests in {RECORDED_S} s, with {spans} spans")
    identity = {"OTEL_TRAIN_GATEWAY_CA": str(folder / "ca.crt"), "OTEL_TRAIN_GATEWAY_TOKEN": str(folder / "token")}
    stores = {
        "OTEL_TRAIN_STORE_CA": str(folder / "ca.crt"), "OTEL_TRAIN_STORE_TOKEN": str(folder / "token"),
        "OTEL_TRAIN_GATEWAY_CERT": str(folder / "tls.crt"), "OTEL_TRAIN_GATEWAY_KEY": str(folder / "tls.key"),
        "OTEL_TRAIN_TRACES": "127.0.0.1:27001", "OTEL_TRAIN_METRICS": "https://127.0.0.1:27002",
    }  # fmt: skip
    store = Collector(folder / "store.yaml", 27003, 27003)
    agent = Collector(prepared("agent", folder, 11000), 19888, 24133, **identity,
                      OTEL_TRAIN_GATEWAY="127.0.0.1:27001", OTEL_TRAIN_QUEUE=str(folder / "q1"))  # fmt: skip
    plan = schedule(sent, options.ranks, 1, options.seconds)
    drive("agent", agent, options.ranks, plan, address="http://127.0.0.1:15318")
    agent.end()
    gateway = Collector(prepared("gateway", folder, 12000), 20888, 25133, **identity, **stores,
                        OTEL_TRAIN_QUEUE=str(folder / "q2"))  # fmt: skip
    plan = schedule(sent, options.gateway_ranks, A_NODE, options.seconds)
    drive("gateway", gateway, options.gateway_ranks, plan, address="https://127.0.0.1:16318",
          verify=str(folder / "ca.crt"), headers={"Authorization": "Bearer secret"})  # fmt: skip
    gateway.end()
    store.end()


if __name__ == "__main__":
    main()
