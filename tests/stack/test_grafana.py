"""Dashboards by Grafana's own schema, its typed Go library at the version of the one that writes them; and provisioning
by the types that Grafana publishes of its data sources and their options."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from grafana_schema import PROGRAM
from grafana_types import FOLDER, mistakes

GRAFANA = Path(__file__).parents[2] / "stack" / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))


def do_without(why):
    """Skips; fails in CI."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(why)


@pytest.fixture
def read():
    """Reads dashboards strictly. Skips without the program, but fails in CI."""
    if not PROGRAM.is_file():
        do_without("not built: python tests/stack/grafana_schema.py")
    return lambda *paths: subprocess.run([PROGRAM, *paths], capture_output=True, text=True)


def test_dashboards_are_what_grafana_reads(read):
    """Each field is known, none lacks, each value is allowed."""
    done = read(*DASHBOARDS)
    assert "5 read, 0 wrong\n" == done.stdout, done.stderr


@pytest.mark.parametrize("change", ["unknown", "wrong type", "lacking"])
def test_a_mistake_is_told(read, change, tmp_path):
    """A field that there is not, a number in place of a text, and an option that has to be there."""
    dashboard = json.loads(next(path for path in DASHBOARDS if path.stem == "run").read_text())
    panel = next(panel for panel in dashboard["panels"] if panel["type"] == "stat")
    if change == "unknown":
        panel["colour"] = "red"
    elif change == "wrong type":
        panel["title"] = 7
    else:
        del panel["options"]["graphMode"]
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(dashboard))
    done = read(path)
    assert "1 read, 1 wrong\n" == done.stdout
    assert "panels[" in done.stderr


@pytest.fixture
def datasources():
    """As they ship."""
    if not FOLDER.is_dir():
        do_without("not fetched: python tests/stack/grafana_types.py")
    return yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "otel_train.yaml").read_text())["datasources"]


def test_data_sources_are_what_grafana_publishes(datasources, tmp_path):
    """Of each the fields, and the options that are its type's."""
    assert ["prometheus", "jaeger"] == [each["type"] for each in datasources]
    assert "" == mistakes(datasources, tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda source: source.pop("url"), "'url' is missing"),
        (lambda source: source["jsonData"].update(httpMethods="POST"), "'\"httpMethods\"' does not exist"),
        (lambda source: source["jsonData"].update(prometheusType="Thano"), "'\"Thano\"' is not assignable"),
        (lambda source: source["jsonData"]["exemplarTraceIdDestinations"][0].pop("name"), "'name' is missing"),
    ],
    ids=["lacking", "unknown", "not allowed", "lacking deep inside"],
)
def test_a_mistake_in_a_data_source_is_told(datasources, change, told, tmp_path):
    """So the check can fail."""
    change(datasources[0])
    assert told in mistakes(datasources, tmp_path)
