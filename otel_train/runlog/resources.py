"""``resources.csv``: what the machine was doing, one row a sample, a column a series.

The first column is ``unix_s``; the others are named by ``resource_names.column``. A file is never rewritten: when a
series appears that it has no column for, or when it is full, the next one begins, with a header of its own.
"""

import csv
import io
import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from otel_train import guard
from otel_train.resource_names import Series, column, series_of
from otel_train.runlog.events import Position
from otel_train.runlog.layout import RESOURCES, RESOURCES_SEGMENT_BYTES
from otel_train.runlog.storage import Storage

TIME = "unix_s"
NEXT = re.compile(r"resources-(\d+)\.csv")
Numbers: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
MOST_COLUMNS = 4000
"""More series than this are left out, and a warning says so."""
LONGEST_HEADER = 1 << 20
Headers: TypeAlias = dict[int, tuple[int, list[Series | None]]]
"""By a file's number: how long its first line is, and what its columns are."""
ENDED_S = 600.0
"""A series without a value for so long (a network interface that is gone) has no column in the next file."""


class ResourceWriter:
    """Appends rows; one thread. Keeps the newest ``budget`` bytes."""

    def __init__(self, storage: Storage, budget: int, first: int = 0) -> None:
        """Opens nothing yet: a run that is not sampled has no such file. ``first`` is the first file's number."""
        self._storage = storage
        self._budget = max(budget, 2 * RESOURCES_SEGMENT_BYTES)
        self.next_number = first
        self._size = 0
        self._before: deque[tuple[int, int]] = deque()
        """Number and size of the files before this one."""
        self._columns: list[Series] = []
        self._seen_s: dict[Series, float] = {}
        self._append: Callable[[bytes], None] | None = None

    def write(self, unix_s: float, row: Mapping[Series, float]) -> None:
        """Add a row. A series without a value now is an empty cell. Raises ``OSError``."""
        known = set(self._columns)
        self._seen_s.update(dict.fromkeys(row, unix_s))
        added = [key for key in row if key not in known] if len(known) < MOST_COLUMNS else []
        if self._append is None or added:
            current = [key for key in self._columns if unix_s - self._seen_s.get(key, unix_s) < ENDED_S]
            self._seen_s = {key: self._seen_s.get(key, unix_s) for key in (*current, *row)}
            append = self._begin(self._fitting([*current, *added]))
        elif self._size > RESOURCES_SEGMENT_BYTES:
            append = self._begin(self._columns)
        else:
            append = self._append
        cells = (_cell(row.get(key)) for key in self._columns)
        line = ",".join((f"{unix_s:.3f}", *cells)).encode() + b"\n"
        append(line)
        self._size += len(line)

    def _begin(self, columns: list[Series]) -> Callable[[bytes], None]:
        self._append = append = self._storage.open_append(file_name(self.next_number))
        if self._size:
            self._before.append((self.next_number - 1, self._size))
        self.next_number += 1
        while len(self._before) > 1 and self._too_much():
            self._storage.remove(file_name(self._before.popleft()[0]))
        self._columns = columns
        header = io.StringIO()
        csv.writer(header, lineterminator="\n").writerow([TIME, *map(column, columns)])
        line = header.getvalue().encode()
        append(line)
        self._size = len(line)
        return append

    def _too_much(self) -> bool:
        return sum(size for _, size in self._before) + RESOURCES_SEGMENT_BYTES > self._budget

    def _fitting(self, columns: list[Series]) -> list[Series]:
        if len(columns) > MOST_COLUMNS:
            guard.warn_once("columns", "there are more than %d resource series: the last %d are left out of the record",
                            MOST_COLUMNS, len(columns) - MOST_COLUMNS)  # fmt: skip
        return columns[:MOST_COLUMNS]


def read_resources(
    storage: Storage, start: Position | None = None, headers: Headers | None = None
) -> Iterator[tuple[float, dict[Series, float], Position]]:
    """The rows from ``start`` on: Unix time in s, what has a value, and the position after it.

    A line still being written is left for later; a damaged one is left out. ``headers``, empty at first, is for who
    reads on again and again: the last file's header is kept there, since parsing it takes longer than a row.
    """
    start = start or Position()
    headers = {} if headers is None else headers
    for number in _numbers(storage):
        if number < start.segment:
            continue
        try:
            length, columns = _header_of(storage, number, headers)
            offset = max(start.offset if number == start.segment else 0, length)
            content = storage.read(file_name(number), offset)
        except FileNotFoundError:  # removed as too old since it was listed
            continue
        for row in content[: content.rfind(b"\n") + 1].splitlines(keepends=True):
            offset += len(row)
            parsed = _row(row, columns)
            if parsed is None:
                guard.warn_once(f"resources {storage.location}", "a damaged line of %s is left out", storage.location)
            else:
                yield *parsed, Position(number, offset)


@dataclass(frozen=True)
class ResourceTable:
    """The rows of one file: their Unix times in s, the series by column, and the values, not-a-number where empty."""

    times_s: Numbers
    series: list[Series]
    values: Numbers


def read_resource_tables(storage: Storage) -> Iterator[ResourceTable]:
    """The whole record, a file at a time: 0.2 µs a cell, a fifth of what it takes by rows.

    A line still being written is left for later; a damaged one is left out.
    """
    for number in _numbers(storage):
        try:
            length, columns = _header_of(storage, number, {})
            content = storage.read(file_name(number), length)
        except FileNotFoundError:  # removed as too old since it was listed
            continue
        rows = _cells(content[: content.rfind(b"\n") + 1], columns, storage.location)
        wanted = [index for index, key in enumerate(columns) if key is not None]
        if len(rows) and wanted:
            values = np.where(np.isfinite(rows[:, wanted]), rows[:, wanted], np.nan)
            yield ResourceTable(rows[:, 0], [key for key in columns if key is not None], values)


def _cells(content: bytes, columns: list[Series | None], location: str) -> Numbers:
    """A row of numbers for each whole line; not-a-number for an empty cell."""
    if not content.strip():
        return np.empty((0, len(columns)))
    text = content.decode(errors="replace").replace(",,", ",nan,").replace(",,", ",nan,").replace(",\n", ",nan\n")
    try:
        found: Numbers = np.loadtxt(text.splitlines(), delimiter=",", comments=None, ndmin=2)
    except ValueError:
        found = np.empty((0, 0))
    return found if found.shape[1:] == (len(columns),) else _cells_by_line(content, columns, location)


def _cells_by_line(content: bytes, columns: list[Series | None], location: str) -> Numbers:
    rows = [_row(line, columns) for line in content.splitlines()]
    if None in rows:
        guard.warn_once(f"resources {location}", "a damaged line of %s is left out", location)
    found = np.full((len(rows), len(columns)), np.nan)
    for at, row in enumerate(rows):
        if row is not None:
            found[at] = [row[0] if key is None else row[1].get(key, np.nan) for key in columns]
    whole: Numbers = found[[row is not None for row in rows]]
    return whole


def _header_of(storage: Storage, number: int, headers: Headers) -> tuple[int, list[Series | None]]:
    """The length of a file's first line, and its columns. Raises ``FileNotFoundError``."""
    if number in headers:
        return headers[number]
    line, ended, _ = storage.read(file_name(number), 0, LONGEST_HEADER).partition(b"\n")
    found = len(line) + 1, _header(line)
    if ended:  # else it is still being written
        headers.clear()
        headers[number] = found
    return found


def file_name(number: int) -> str:
    """Of the first file, and of those that follow it."""
    return f"{RESOURCES}" if not number else f"resources-{number:08d}.csv"


def _numbers(storage: Storage) -> list[int]:
    numbers = [int(match[1]) for name in storage.names() if (match := NEXT.fullmatch(name))]
    return sorted([*numbers, 0] if RESOURCES in storage.names() else numbers)


def _header(line: bytes) -> list[Series | None]:
    """The series by column; None for the time, and for what is no series' name."""
    found: list[Series | None] = []
    for name in next(csv.reader([line.decode(errors="replace")]), []):
        try:
            found.append(None if name == TIME else series_of(name))
        except ValueError:
            found.append(None)
    return found


def _row(line: bytes, columns: list[Series | None]) -> tuple[float, dict[Series, float]] | None:
    cells = line.rstrip(b"\r\n").split(b",")
    if len(cells) != len(columns):
        return None
    try:
        values = {key: float(cell) for key, cell in zip(columns, cells, strict=True) if key is not None and cell}
        return float(cells[0]), {key: value for key, value in values.items() if math.isfinite(value)}
    except ValueError:
        return None


def _cell(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return ""
    return str(int(value)) if value == int(value) else f"{value:.9g}"
