"""Grafana's dashboards: written by code, about metrics that there are."""

import json
import re
from pathlib import Path

import pytest
import yaml

from otel_train import names
from otel_train.derive.aggregate import UNITS
from otel_train.prometheus_names import COUNTER, GAUGE, HISTOGRAM, prometheus_name, resource_name
from otel_train.resource_names import RESOURCES

GRAFANA = Path(__file__).parents[1] / "stack" / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))


def expressions(path):
    """Of all panels."""
    return [target["expr"] for panel in json.loads(path.read_text())["panels"] for target in panel.get("targets", ())]


def test_the_files_are_what_the_code_writes(monkeypatch):
    """Written anew whenever it changes: ``python -m stack.dashboards``."""
    pytest.importorskip("grafana_foundation_sdk", reason="it needs Python 3.11 or newer")
    monkeypatch.syspath_prepend(str(GRAFANA.parents[1]))
    from stack.dashboards.files import contents

    assert {path.name: path.read_text() for path in FILES} == contents()


def test_names_are_those_that_prometheus_gives():
    """Unit, total and ratio as the chain of real programs showed them (tests/stack)."""
    assert "dl_step_duration_seconds" == prometheus_name(names.STEP_DURATION, HISTOGRAM)
    assert "dl_step_count_total" == prometheus_name(names.STEP_COUNT, COUNTER)
    assert "dl_step_rate_per_second" == prometheus_name(names.STEP_RATE, GAUGE)
    assert "otel_train_overhead_share_ratio" == prometheus_name(names.LEVEL_SHARE, GAUGE)
    assert "hw_gpu_utilization_ratio" == resource_name("hw.gpu.utilization")
    assert "system_memory_linux_available_bytes" == resource_name("system.memory.linux.available")
    assert "otel_train_gpu_pcie_rate_bytes_per_second" == resource_name("otel_train.gpu.pcie.rate")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_metric_exists(path):
    """No name that nobody sends: ours, a value given to ``log()``, the collector's own."""
    kinds = (COUNTER, GAUGE, HISTOGRAM)
    known = {prometheus_name(name, kind) for name in UNITS for kind in kinds} | set(map(resource_name, RESOURCES))
    known |= {prometheus_name(f"dl.{kind}.duration", HISTOGRAM) for kind in ("checkpoint", "evaluation")} | {"dl_loss"}
    for expression in expressions(path):
        for metric in re.findall(r"\b([a-z_]+)(?=\{|\[)", expression):
            assert metric in known or metric.startswith("otelcol_"), expression


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_panels_say_what_they_are(path):
    """A title, a sentence, a unit, a data source that is provisioned."""
    sources = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "otel_train.yaml").read_text())["datasources"]
    panels = [panel for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row"]
    assert panels
    for panel in panels:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["datasource"]["uid"] in {source["uid"] for source in sources}
        assert panel["type"] == "table" or panel["fieldConfig"]["defaults"]["unit"]


def test_dashboards_are_provided():
    """By a provider of files, with the fields that Grafana's page on provisioning names, where compose mounts them."""
    text = (GRAFANA / "provisioning" / "dashboards" / "otel_train.yaml").read_text()
    (provider,) = yaml.safe_load(text)["providers"]
    documented = {
        "name", "orgId", "folder", "folderUid", "type", "disableDeletion", "updateIntervalSeconds", "allowUiUpdates",
        "options",
    }  # fmt: skip
    assert documented >= set(provider)
    assert ("file", ["path"]) == (provider["type"], list(provider["options"]))
    compose = yaml.safe_load((GRAFANA.parents[1] / "docker-compose.yml").read_text())
    assert f"./stack/grafana/dashboards:{provider['options']['path']}:ro" in compose["services"]["grafana"]["volumes"]


def test_exemplars_lead_to_traces_and_back():
    """The label that Prometheus has them under, and the labels that a span's run and rank are there."""
    prometheus, jaeger = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "otel_train.yaml").read_text())[
        "datasources"
    ]
    assert [{"name": "trace_id", "datasourceUid": jaeger["uid"]}] == prometheus["jsonData"][
        "exemplarTraceIdDestinations"
    ]
    metrics = jaeger["jsonData"]["tracesToMetrics"]
    assert prometheus["uid"] == metrics["datasourceUid"]
    assert {names.RUN_ID: "dl_run_id", names.RANK: "dl_rank"} == {tag["key"]: tag["value"] for tag in metrics["tags"]}
    run = json.loads((GRAFANA / "dashboards" / "run.json").read_text())
    assert any(target.get("exemplar") for panel in run["panels"] for target in panel.get("targets", ()))
