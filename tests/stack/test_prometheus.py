"""Every query of every dashboard and rule, in the real Prometheus, after a real demo."""

import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from backends import until
from log_builder import SECOND, LogBuilder

from otel_train import resource_names as rn
from otel_train.alerts.prometheus import MEASURES
from otel_train.resource_names import series
from otel_train.stack import build

STACK = Path(__file__).parents[2] / "stack"
EXAMPLE = STACK.parent / "examples" / "char_gpt.py"
GPU = {"hw__id": "GPU-1", "hw__type": "gpu"}
GPU_ROW = {
    series(rn.GPU_UTILIZATION, **GPU): 0.9, series(rn.GPU_MEMORY_USAGE, **GPU): 1e10, series(rn.HW_POWER, **GPU): 690.0,
    series(rn.HW_TEMPERATURE, hw__sensor_location="gpu", **GPU): 62.0,
    series(rn.GPU_CLOCK, otel_train__gpu__clock="sm", **GPU): 1.4e9,
    series(rn.GPU_THROTTLED, otel_train__gpu__throttle__reason="sw_power_cap", **GPU): 1.0,
}  # fmt: skip
"""What an H200 under load was sampled to be."""


@pytest.fixture(scope="module")
def demo(stack, tmp_path_factory):
    """The README's demo, for 35 s with an evaluation and a checkpoint in it, and a GPU's samples beside it."""
    runs = tmp_path_factory.mktemp("runs")
    environ = {
        **os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": stack.otlp, "OTEL_TRAIN_DIR": str(runs),
        "OTEL_TRAIN_RUN_ID": "demo",        "OTEL_TRAIN_EXIT_TIMEOUT": "60", "OTEL_TRAIN_RESOURCE_INTERVAL": "1",
    }  # fmt: skip
    command = [
        sys.executable,
        str(EXAMPLE),
        "--seconds",
        "35",
        "--evaluate-every",
        "60",
        "--output",
        str(runs / "saved"),
    ]
    assert 0 == subprocess.run(command, env=environ, stdout=subprocess.DEVNULL).returncode
    now_ns = time.time_ns()
    builder = LogBuilder(runs, "gpus", unix_ns=now_ns - 60 * SECOND)
    for second in range(0, 60, 5):
        builder.resources(second * SECOND, GPU_ROW)
    push = [sys.executable, "-m", "otel_train.cli", "push", str(builder.path.parent), "--endpoint", stack.otlp]
    done = subprocess.run(push, env=environ, capture_output=True, text=True)
    assert 0 == done.returncode, done.stdout + done.stderr
    until(lambda: stack.query("last_over_time(hw_gpu_utilization_ratio[10m])"), 1)
    return stack


def dashboards():
    """Name, panel and expression of each query."""
    for path in sorted((STACK / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                yield path.stem, panel["title"], target["expr"]


def test_every_panel_has_data(demo):
    """Finite values for every query, as Grafana asks it."""
    empty, now = [], time.time()
    asked = list(dashboards())
    assert len(asked) > 40
    for where, title, expression in asked:
        for name, value in (("$__rate_interval", "1m"), ("$run", ".*"), ("$rank", ".*")):
            expression = expression.replace(name, value)
        found = demo.range_of(expression, now - 240, now, 5)
        numbers = [float(value) for row in found for _, value in row.get("values", ())]
        if not any(map(math.isfinite, numbers)) and not any("histograms" in row for row in found):
            empty.append((where, title, expression))
    assert [] == empty


def test_every_recording_rule_has_data(demo):
    """Prometheus has evaluated each of them."""
    for name in MEASURES:
        until(lambda name=name: demo.query(f"last_over_time({{__name__={json.dumps(name)}}}[10m])"), 1)
    groups = demo.ask("/api/v1/rules")["groups"]
    assert {"ok"} == {rule["health"] for group in groups for rule in group["rules"]}


def test_an_alert_fires_on_its_cause(stack, start_ranks, tmp_path):
    """A run that waits for its data says so: Prometheus fires, Alertmanager has it."""
    own = tmp_path / "rules.yaml"
    own.write_text("alerts:\n  - {rule: data_starved, above: 30%, clear: 20%, for: 1s}\n")
    over = tmp_path / "over"
    start_ranks(stack.otlp, "starved", 10, over, SLOW_DATA="1", OTEL_TRAIN_ALERTS=str(own))
    try:
        found = until(
            lambda: stack.query('ALERTS{alertname="data_starved", dl_run_id="starved", alertstate="firing"}'), 1
        )
        assert "warning" == found[0][0]["severity"]
        until(lambda: [a for a in stack.alertmanager() if a["labels"]["alertname"] == "data_starved"], 1)
    finally:
        over.touch()


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("promtool", ["check", "config", "--syntax-only", "prometheus/prometheus.yml"]),
        ("promtool", ["check", "rules", "prometheus/rules/otel_train.yml"]),
        ("promtool", ["test", "rules", "prometheus/rules-tests.yml"]),
        ("amtool", ["check-config", "alertmanager/alertmanager.yml"]),
    ],
)
def test_their_own_tools_agree(programs, program, arguments):
    """Configurations are right, and the rules' unit tests pass."""
    done = subprocess.run([str(build.program(program)), *arguments], cwd=STACK, capture_output=True, text=True)
    assert 0 == done.returncode, done.stdout + done.stderr


def test_versions_are_those_of_the_compose_file():
    """What the tests run is what the containers are."""
    from otel_train.stack.programs import BUILDER, MODULES

    services = yaml.safe_load((STACK.parent / "docker-compose.yml").read_text())["services"]
    images = {name: service["image"].rpartition(":")[2].lstrip("v") for name, service in services.items()}
    built = {module.path.rpartition("/")[2]: module.shown for module in MODULES}
    assert BUILDER.shown == images["otel-collector"]
    for path in (STACK.parent / "deploy" / "kubernetes").glob("*.yaml"):
        assert set(re.findall(r"opentelemetry-collector-contrib:(\S+)", path.read_text())) <= {BUILDER.shown}
    assert built == {name: images[name] for name in built}
