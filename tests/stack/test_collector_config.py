"""The three configurations, in the real collector: an agent and a gateway with TLS and tokens between them."""

import collections
import json
import os
import subprocess
from pathlib import Path

import pytest
import requests
import trustme
from backends import until

from otel_train import names
from otel_train.stack import build

CONFIGURATIONS = Path(__file__).parents[2] / "collector-config"
PLACES = {
    "OTEL_TRAIN_GATEWAY": "127.0.0.1:1",
    "OTEL_TRAIN_TRACES": "127.0.0.1:1",
    "OTEL_TRAIN_METRICS": "https://127.0.0.1:1",
}
STORE = """
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: 127.0.0.1:{grpc}
        tls: &tls {{cert_file: "{cert}", key_file: "{key}"}}
        auth: &auth {{authenticator: bearertokenauth}}
      http: {{endpoint: "127.0.0.1:{http}", tls: *tls, auth: *auth}}
extensions: {{bearertokenauth: {{filename: "{token}"}}}}
exporters: {{file: {{path: "{path}", flush_interval: 100ms}}}}
service:
  extensions: [bearertokenauth]
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
    metrics: {{receivers: [otlp], exporters: [file]}}
"""
"""A store that takes what comes with its own token, by TLS, and writes it to a file."""


@pytest.mark.parametrize("name", ["local", "agent", "gateway"])
def test_the_collector_takes_it(programs, name):
    """``otelcol validate``."""
    command = [str(build.program("otelcol")), "validate", f"--config={CONFIGURATIONS / name}.yaml"]
    done = subprocess.run(command, env={**os.environ, **PLACES}, capture_output=True, text=True)
    assert 0 == done.returncode, done.stderr


@pytest.fixture
def collectors(programs, tmp_path):
    """Starts collectors; ends them afterwards."""
    started = []

    def start(config, health=None, **environ):
        log = tmp_path / f"{len(started)}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [str(build.program("otelcol")), f"--config={config}"], env={**os.environ, **environ}, stdout=output,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        started.append(process)
        if health:
            until(lambda: [health] if _answers(health) else [], 1)
        return process

    yield start
    for process in started:
        process.terminate()
        assert 0 == process.wait(60)


def _answers(address):
    try:
        return requests.get(address, timeout=2).ok
    except requests.ConnectionError:
        return False


def moved(name, folder, offset):
    """A shipped configuration whose own ports are moved."""
    text = (CONFIGURATIONS / f"{name}.yaml").read_text().replace("0.0.0.0:", "127.0.0.1:")
    for port in (4317, 4318, 13133):
        text = text.replace(f":{port}", f":{port + offset}")
    path = folder / f"{name}.yaml"
    path.write_text(text.replace("port: 8888", f"port: {8888 + offset}"))
    return path


def test_from_agent_to_gateway_to_stores(collectors, offset, tmp_path, start_ranks):
    """TLS and tokens all the way. Kept are a slow step and one that failed, on both ranks, whole; runs' own spans;
    a part of the others. Metrics all come, and spans are counted before any is left out."""
    authority, folder = trustme.CA(), tmp_path
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(folder / "ca.crt")
    certificate.private_key_pem.write_to_path(folder / "tls.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    (folder / "door").write_text("for-agents\n")
    (folder / "store").write_text("for-stores\n")
    written = folder / "stored.json"
    store, agent, gateway = offset + 1000, offset + 2000, offset + 3000
    identity = {"cert": folder / "tls.crt", "key": folder / "tls.key", "token": folder / "store"}
    (folder / "store.yaml").write_text(STORE.format(grpc=store, http=store + 1, path=written, **identity))
    collectors(folder / "store.yaml")
    quick = moved("gateway", folder, gateway)
    quick.write_text(quick.read_text().replace("decision_wait: 30s", "decision_wait: 5s"))
    collectors(
        quick, f"http://127.0.0.1:{13133 + gateway}", OTEL_TRAIN_GATEWAY_CERT=str(folder / "tls.crt"),
        OTEL_TRAIN_GATEWAY_KEY=str(folder / "tls.key"), OTEL_TRAIN_GATEWAY_TOKEN=str(folder / "door"),
        OTEL_TRAIN_TRACES=f"127.0.0.1:{store}", OTEL_TRAIN_METRICS=f"https://127.0.0.1:{store + 1}",
        OTEL_TRAIN_STORE_CA=str(folder / "ca.crt"), OTEL_TRAIN_STORE_TOKEN=str(folder / "store"),
        OTEL_TRAIN_QUEUE=str(folder / "gateway-queue"),
    )  # fmt: skip
    collectors(
        moved("agent", folder, agent), f"http://127.0.0.1:{13133 + agent}",
        OTEL_TRAIN_GATEWAY=f"127.0.0.1:{4317 + gateway}", OTEL_TRAIN_GATEWAY_CA=str(folder / "ca.crt"),
        OTEL_TRAIN_GATEWAY_TOKEN=str(folder / "door"), OTEL_TRAIN_QUEUE=str(folder / "agent-queue"),
    )  # fmt: skip
    for process in start_ranks(
        f"http://127.0.0.1:{4318 + agent}", "through", 200, ranks=2, SLOW_STEP="150", FAILING_STEP="170"
    ):
        assert 0 == process.wait(120)

    def kept():
        found = collections.defaultdict(set)
        for span in spans_of(written):
            if span["name"] == "dl.step":
                found[attribute(span, names.ITERATION)].add(span["spanId"])
        return found

    until(lambda: kept() if {"150", "170"} <= set(kept()) else {}, 1)
    steps = kept()
    assert {2} == {len(ranks) for ranks in steps.values()}, "a trace came without one of its ranks"
    assert 2 <= len(steps) < 100, f"{len(steps)} of 200 steps: those in ten, and the two"
    until(lambda: {span["name"] for span in spans_of(written)}, 2, {"dl.startup", "dl.interval"}.issubset)
    until(lambda: counted(written, "dl.step.count"), 1, lambda found: found == {400})
    until(lambda: counted(written, "traces.span.metrics.calls"), 1, lambda found: max(found, default=0) >= 400)


def lines_of(path):
    """What the store has written, whole lines only."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def spans_of(path):
    """All spans."""
    return [
        span for line in lines_of(path) for resource in line.get("resourceSpans", ())
        for scope in resource["scopeSpans"] for span in scope["spans"]
    ]  # fmt: skip


def attribute(span, key):
    """An attribute, as text."""
    return next(str(next(iter(each["value"].values()))) for each in span["attributes"] if each["key"] == key)


def counted(path, name):
    """The last sum over ranks and attributes of a counter, as a set of one."""
    last = {}
    for line in lines_of(path):
        for resource in line.get("resourceMetrics", ()):
            who = json.dumps(resource["resource"], sort_keys=True)
            for scope in resource["scopeMetrics"]:
                for metric in scope["metrics"]:
                    if metric["name"] == name:
                        for point in metric["sum"]["dataPoints"]:
                            if name.startswith("dl.") or "dl.step" in json.dumps(point):
                                key = who, json.dumps(point.get("attributes", []), sort_keys=True)
                                last[key] = int(point["asInt"])
    return {sum(last.values())} if last else set()
