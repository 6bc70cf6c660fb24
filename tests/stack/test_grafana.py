"""Dashboards by Grafana's own schema: its typed Go library, at the version of the one that writes them."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from grafana_schema import PROGRAM

DASHBOARDS = sorted((Path(__file__).parents[2] / "stack" / "grafana" / "dashboards").glob("*.json"))


@pytest.fixture
def read():
    """Reads dashboards strictly. Skips without the program, but fails in CI."""
    if not PROGRAM.is_file():
        why = "not built: python tests/stack/grafana_schema.py"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
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
