"""A run's records as flat tables, for other programs: batches of columns, a segment at a time; CSV, JSON, Parquet.

A missing value is None: an empty cell, a null. Times are seconds, moments Unix seconds.
"""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from otel_train.clock import Anchor
from otel_train.derive.phases import PhaseTotals, phase_name, used_slots
from otel_train.errors import OtelTrainError
from otel_train.runlog.events import Event
from otel_train.runlog.layout import EVALUATION, FAILED, MISSING
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.records import Records

INTEGER, NUMBER, TEXT, FLAG, OBJECT = "integer", "number", "text", "flag", "object"

EVENTS_A_BATCH = 1000

STEP_COLUMNS = {
    "rank": INTEGER,
    "step": INTEGER,
    "epoch": INTEGER,
    "start_unix_s": NUMBER,
    "duration_s": NUMBER,
    "samples": INTEGER,
    "tokens": INTEGER,
    "padded_tokens": INTEGER,
    "failed": FLAG,
    "evaluation": FLAG,
}
SCALAR_COLUMNS = {"rank": INTEGER, "step": INTEGER, "time_unix_s": NUMBER, "name": TEXT, "value": NUMBER}
EVENT_COLUMNS = {
    "rank": INTEGER,
    "kind": TEXT,
    "start_unix_s": NUMBER,
    "duration_s": NUMBER,
    "step": INTEGER,
    "thread": TEXT,
    "error_type": TEXT,
    "error_message": TEXT,
    "attributes": OBJECT,
}

Batch = dict[str, list[Any]]


@dataclass(frozen=True)
class Table:
    """Columns with their types, and the rows in batches of lists of equal length."""

    columns: dict[str, str]
    batches: Iterable[Batch]


def steps_table(logs: Sequence[RankLog]) -> Table:
    """A row a step: what is recorded of it, and a column ``phase_<name>_s`` for each phase that any step has.

    A phase's seconds are of all its occurrences in the step, at whatever depth.
    """
    used = _used_phases(logs)
    columns = STEP_COLUMNS | {f"phase_{name}_s": NUMBER for name in used}
    return Table(columns, (_step_batch(log, records, used) for log in logs for _, records in log.steps.read()))


def scalars_table(logs: Sequence[RankLog]) -> Table:
    """A row a value given to ``log()``."""
    return Table(
        SCALAR_COLUMNS,
        (_scalar_batch(log, log.names("scalar"), records) for log in logs for _, records in log.scalars.read()),
    )


def events_table(logs: Sequence[RankLog]) -> Table:
    """A row an event; ``attributes`` is JSON where the format has no nested values."""
    return Table(EVENT_COLUMNS, (batch for log in logs for batch in _event_batches(log)))


TABLES = {"steps": steps_table, "scalars": scalars_table, "events": events_table}


def write_csv(table: Table, file: TextIO) -> int:
    """Write a header and a line a row; returns the number of rows. Not-a-number is ``nan``."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.columns)
    rows = 0
    for batch in table.batches:
        cells = [_as_text(batch[name]) if kind == OBJECT else batch[name] for name, kind in table.columns.items()]
        writer.writerows(zip(*cells, strict=True))
        rows += len(cells[0])
    return rows


def write_json(table: Table, file: TextIO) -> int:
    """Write an array with an object a row; returns the number of rows. Not-a-number is the text ``nan``."""
    rows = 0
    file.write("[")
    for batch in table.batches:
        for values in zip(*(batch[name] for name in table.columns), strict=True):
            row = {name: _json_number(value) for name, value in zip(table.columns, values, strict=True)}
            file.write(("\n" if rows == 0 else ",\n") + json.dumps(row, allow_nan=False))
            rows += 1
    file.write("\n]\n")
    return rows


def write_parquet(table: Table, path: Path) -> int:
    """Write a Parquet file, a row group a batch; returns the number of rows. Needs pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise OtelTrainError(
            "otel-train export --to parquet needs the package pyarrow: pip install 'otel-train[parquet]'"
        ) from error
    types = {
        INTEGER: pyarrow.int64(),
        NUMBER: pyarrow.float64(),
        TEXT: pyarrow.string(),
        FLAG: pyarrow.bool_(),
        OBJECT: pyarrow.string(),
    }
    schema = pyarrow.schema([(name, types[kind]) for name, kind in table.columns.items()])
    rows = 0
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for batch in table.batches:
            cells = {
                name: _as_text(batch[name]) if kind == OBJECT else batch[name] for name, kind in table.columns.items()
            }
            writer.write_batch(pyarrow.RecordBatch.from_pydict(cells, schema))
            rows += len(batch["rank"])
    return rows


def _used_phases(logs: Sequence[RankLog]) -> list[str]:
    """Names of the phases that any step has, in the order of their ids."""
    used: dict[str, None] = {}
    for log in logs:
        totals, names = PhaseTotals(), log.names("phase")
        for _, records in log.steps.read():
            totals.add(records)
        used |= {phase_name(names, identity): None for identity in sorted({phase for _, _, phase in totals.totals})}
    return list(used)


def _step_batch(log: RankLog, records: Records, used: Sequence[str]) -> Batch:
    count = len(records)
    batch: Batch = {
        "rank": [log.rank] * count,
        "step": records["step"].tolist(),
        "epoch": _known(records["epoch"]),
        "start_unix_s": _moments(log.anchor, records["start_ns"]),
        "duration_s": (records["duration_ns"] / 1e9).tolist(),
        "samples": _known(records["samples"]),
        "tokens": _known(records["tokens"]),
        "padded_tokens": _known(records["padded_tokens"]),
        "failed": ((records["flags"] & FAILED) != 0).tolist(),
        "evaluation": ((records["flags"] & EVALUATION) != 0).tolist(),
    }
    ids = {name: identity for identity, name in log.names("phase").items()}
    slots, phases = used_slots(records), records["phases"]
    for name in used:
        here = slots & (phases["phase"] == ids.get(name, -1))
        seconds = np.where(here, phases["duration_ns"], 0.0).sum(axis=1, dtype=np.float64) / 1e9
        batch[f"phase_{name}_s"] = _where(here.any(axis=1), seconds)
    return batch


def _scalar_batch(log: RankLog, names: dict[int, str], records: Records) -> Batch:
    return {
        "rank": [log.rank] * len(records),
        "step": _where(records["step"] >= 0, records["step"]),
        "time_unix_s": _moments(log.anchor, records["time_ns"]),
        "name": [names.get(identity, f"scalar {identity}") for identity in records["name"].tolist()],
        "value": records["value"].tolist(),
    }


def _event_batches(log: RankLog) -> Iterator[Batch]:
    rows = (_event_row(log, event) for event, _ in log.events())
    while chunk := list(islice(rows, EVENTS_A_BATCH)):
        yield {name: list(cells) for name, cells in zip(EVENT_COLUMNS, zip(*chunk, strict=True), strict=True)}


def _event_row(log: RankLog, event: Event) -> tuple[Any, ...]:
    error = event.error or {}
    return (
        log.rank,
        event.kind,
        log.anchor.to_unix_ns(event.start_ns) / 1e9,
        None if event.duration_ns is None else event.duration_ns / 1e9,
        event.step,
        event.thread,
        error.get("type"),
        error.get("message"),
        event.attributes,
    )


def _moments(anchor: Anchor, monotonic_ns: Any) -> list[float]:
    moments: list[float] = ((monotonic_ns + (anchor.unix_ns - anchor.monotonic_ns)) / 1e9).tolist()
    return moments


def _known(amounts: Any) -> list[Any]:
    return _where(amounts != MISSING, amounts)


def _where(known: Any, values: Any) -> list[Any]:
    return [value if is_known else None for value, is_known in zip(values.tolist(), known.tolist(), strict=True)]


def _as_text(cells: Sequence[Any]) -> list[str]:
    return [json.dumps(cell, default=str) for cell in cells]


def _json_number(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
