"""A run's records as flat tables."""

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet
import pytest
from log_builder import EPOCH_2025_NS, MS, SECOND, LogBuilder

from otel_train import names
from otel_train.runlog.layout import EVALUATION, FAILED
from otel_train.tables import events_table, scalars_table, steps_table, write_csv, write_json, write_parquet

START = EPOCH_2025_NS / 1e9


@pytest.fixture
def builder(tmp_path: Path) -> LogBuilder:
    """One full step, one with nothing known."""
    made = LogBuilder(tmp_path, rank=3)
    phases = [("data_wait", 0, MS), ("layer", MS, MS, 1), ("forward", MS, 2 * MS), ("data_wait", 3 * MS, MS)]
    made.step(0, 5 * MS, phases, samples=8, tokens=80, padded_tokens=9, epoch=2, flags=FAILED)
    made.step(1, 5 * MS, start_ns=SECOND, flags=EVALUATION)
    return made


def as_csv(table: object) -> list[dict[str, str]]:
    file = io.StringIO()
    write_csv(table, file)  # type: ignore[arg-type]
    return list(csv.DictReader(io.StringIO(file.getvalue())))


def test_a_step_is_a_row_and_a_phase_is_a_column(builder: LogBuilder) -> None:
    """Occurrences of one phase add up; a phase that no step has gets no column."""
    row, _ = as_csv(steps_table([builder.log]))
    assert {
        "rank": "3", "step": "0", "epoch": "2", "start_unix_s": str(START), "duration_s": "0.005", "samples": "8",
        "tokens": "80", "padded_tokens": "9", "failed": "True", "evaluation": "False",
        "phase_data_wait_s": "0.002", "phase_forward_s": "0.002", "phase_layer_s": "0.001",
    } == row  # fmt: skip


def test_what_is_missing_is_an_empty_cell(builder: LogBuilder) -> None:
    """Never a zero."""
    _, row = as_csv(steps_table([builder.log]))
    empty = ("epoch", "samples", "tokens", "padded_tokens", "phase_data_wait_s", "phase_forward_s")
    assert [""] * len(empty) == [row[name] for name in empty]
    assert ("True", str(START + 1)) == (row["evaluation"], row["start_unix_s"])


def test_json_has_null_for_what_is_missing(builder: LogBuilder) -> None:
    """An array with an object a row."""
    file = io.StringIO()
    assert 2 == write_json(steps_table([builder.log]), file)
    first, second = json.loads(file.getvalue())
    assert (8, None, 0.002, None) == (
        first["samples"], second["samples"], first["phase_forward_s"], second["phase_forward_s"]
    )  # fmt: skip


def test_parquet_has_types_and_nulls(builder: LogBuilder, tmp_path: Path) -> None:
    """Integers stay integers where some are missing."""
    path = tmp_path / "steps.parquet"
    assert 2 == write_parquet(steps_table([builder.log]), path)
    table = pyarrow.parquet.read_table(path)
    assert [8, None] == table["samples"].to_pylist()
    types = {name: str(table.schema.field(name).type) for name in ("samples", "duration_s", "failed")}
    assert {"samples": "int64", "duration_s": "double", "failed": "bool"} == types


def test_ranks_with_other_phase_ids_share_columns(tmp_path: Path) -> None:
    """Names count, not ids: rank 1 met the phases in another order."""
    logs = []
    for rank, order in enumerate((("forward", "backward"), ("backward", "forward"))):
        made = LogBuilder(tmp_path, rank=rank)
        made.step(0, 9 * MS, [(name, 0, MS if name == "forward" else 2 * MS) for name in order])
        logs.append(made.log)
    rows = as_csv(steps_table(logs))
    assert [("0", "0.001", "0.002"), ("1", "0.001", "0.002")] == [
        (row["rank"], row["phase_forward_s"], row["phase_backward_s"]) for row in rows
    ]


def test_logged_values_keep_what_is_not_finite(builder: LogBuilder) -> None:
    """In CSV and in JSON it is text; a value from before the first step has none."""
    builder.scalar(-1, float("nan"))
    builder.scalar(4, 0.5, "grad_norm")
    rows = as_csv(scalars_table([builder.log]))
    found = [(row["step"], row["name"], row["value"]) for row in rows]
    assert [("", "loss", "nan"), ("4", "grad_norm", "0.5")] == found
    file = io.StringIO()
    write_json(scalars_table([builder.log]), file)
    assert ["nan", 0.5] == [row["value"] for row in json.loads(file.getvalue())]


def test_events_have_their_attributes(builder: LogBuilder, tmp_path: Path) -> None:
    """As JSON text in a cell, as an object in JSON; a point in time has no duration."""
    builder.event(names.CHECKPOINT, SECOND, SECOND, step=1, attributes={"size": 3})
    builder.event(names.ERROR, 2 * SECOND, error={"type": "ValueError", "message": "bad"})
    save, error = as_csv(events_table([builder.log]))
    assert (str(START + 1), "1.0", '{"size": 3}') == (save["start_unix_s"], save["duration_s"], save["attributes"])
    assert ("", "ValueError", "bad") == (error["duration_s"], error["error_type"], error["error_message"])
    file = io.StringIO()
    write_json(events_table([builder.log]), file)
    assert {"size": 3} == json.loads(file.getvalue())[0]["attributes"]
    assert 2 == write_parquet(events_table([builder.log]), tmp_path / "events.parquet")


def test_an_empty_log_is_an_empty_table(tmp_path: Path) -> None:
    """A header, an empty array."""
    log = LogBuilder(tmp_path).log
    file = io.StringIO()
    assert 0 == write_json(steps_table([log]), file)
    assert [] == json.loads(file.getvalue())
    assert [] == as_csv(events_table([log]))
