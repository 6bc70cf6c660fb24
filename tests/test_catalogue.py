"""Measures by name: each is the report's own figure, and is documented."""

from pathlib import Path

import pytest
from report_run import build_run

from otel_train.derive import catalogue
from otel_train.derive.summary import summarize_run
from otel_train.errors import UnknownMeasure
from otel_train.report.as_json import run_as_dict
from otel_train.runlog.runs import Run

DOCS = Path(__file__).parent.parent / "docs" / "measures.md"


@pytest.fixture
def run(tmp_path):
    """Two ranks of 40 steps, with everything in them."""
    return summarize_run(Run(build_run(tmp_path, ranks=2)))


def test_measures_are_the_reports(run):
    """A name stands for the figure that the JSON report has."""
    told = run_as_dict(run)["merged"]
    expected = {
        "steps": told["steps"]["training"],
        "samples_per_second": told["throughput"]["samples_per_s"]["wall"],
        "tokens_per_second.stepping": told["throughput"]["tokens_per_s"]["stepping"],
        "step_time.p95": told["step_time"]["p95_s"],
        "data_wait.share": told["starvation"]["share"],
        "packing_efficiency": told["packing_efficiency"],
        "checkpoint.time": 1.0,
        "log.loss.last": told["scalars"]["loss"]["last"],
        "resource.process.memory.peak.max": 2097152.0,
        "phase.attention.time": 0.001,
    }
    assert pytest.approx(expected) == {name: catalogue.find(name).of(run) for name in expected}


def test_every_measure_gives_a_number_or_none(run):
    """Of a run that lacks much of it, too."""
    for name in catalogue.names():
        value = catalogue.find(name.replace("<name>", "absent").replace("<column>", "absent")).of(run)
        assert value is None or isinstance(value, int | float), name


def test_a_name_that_is_none():
    """The error says which come near."""
    with pytest.raises(UnknownMeasure, match=r"'token_per_second'; allowed are tokens_per_second"):
        catalogue.find("token_per_second")


def test_documented():
    """docs/measures.md is the catalogue."""
    assert catalogue.table() in DOCS.read_text(), "docs/measures.md is old: paste catalogue.table() into it"
    assert all(catalogue.find(name).meaning for name in catalogue.names())
