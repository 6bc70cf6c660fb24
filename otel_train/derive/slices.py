"""Parts of a record that grows, cut by its own time: for readers that tell of a run while it goes on.

A part is read as the whole is, so that the measures of an interval are worked out by the functions that the report has.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from otel_train.derive.event_totals import scan_events
from otel_train.derive.gpu import scan_gpu
from otel_train.derive.resource_totals import scan_resources
from otel_train.derive.scan import RankScan
from otel_train.derive.steps import scan_steps
from otel_train.resource_names import Series
from otel_train.runlog.events import Event, Position
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.records import GPU, STEP, Records, SegmentReader
from otel_train.runlog.resources import Headers, ResourceTable

FIRST = Position()


@dataclass(frozen=True)
class Place:
    """How far a reader has come: what it takes next of each file."""

    steps: int = 0
    gpu: int = 0
    events: Position = FIRST
    resources: Position = FIRST


@dataclass(frozen=True)
class Slice(RankLog):
    """A rank's log from one place to another. Values given to ``log()`` are not cut: nobody reads them by parts."""

    start: Place
    end: Place
    events_inside: tuple[tuple[Event, Position], ...]
    rows_inside: tuple[tuple[float, dict[Series, float], Position], ...]

    @property
    def steps(self) -> SegmentReader:
        """Its step records."""
        return _Part(self.storage, "steps", STEP, self.start.steps, self.end.steps)

    @property
    def gpu(self) -> SegmentReader:
        """What steps were on the GPU, as far as it was known by then."""
        return _Part(self.storage, "gpu", GPU, self.start.gpu, self.end.gpu)

    def events(self, start: Position | None = None) -> Iterator[tuple[Event, Position]]:
        """Its events; ``start`` makes no difference."""
        return iter(self.events_inside)

    def resources(
        self, start: Position | None = None, headers: Headers | None = None
    ) -> Iterator[tuple[float, dict[Series, float], Position]]:
        """Its samples; the arguments make no difference."""
        return iter(self.rows_inside)

    def resource_tables(self) -> Iterator[ResourceTable]:
        """Its samples as one table; none without any."""
        rows = [row for _, row, _ in self.rows_inside]
        series = list(dict.fromkeys(key for row in rows for key in row))
        if series:
            values = np.array([[row.get(key, np.nan) for key in series] for row in rows])
            yield ResourceTable(np.array([unix_s for unix_s, _, _ in self.rows_inside]), series, values)


@dataclass(frozen=True)
class _Part(SegmentReader):
    first: int
    last: int

    def read(self, start: int = 0) -> Iterator[tuple[int, Records]]:
        for ordinal, records in super().read(max(start, self.first)):
            if ordinal >= self.last:
                return
            yield ordinal, records[: self.last - ordinal]

    def bounds(self) -> tuple[int, int]:
        return self.first, self.last


def cut(log: RankLog, start: Place, end_ns: int, headers: Headers | None = None) -> Slice:
    """What is recorded from a place on and was over by ``end_ns`` (the rank's monotonic clock).

    A record that comes later than its time (a GPU's, an event of another thread) is in the next part: none is left out,
    and none taken twice. ``headers`` is as for ``RankLog.resources``.
    """
    steps = _end_of(log.steps, start.steps, lambda records: records["start_ns"] + records["duration_ns"], end_ns)
    gpu = _end_of(log.gpu, start.gpu, lambda records: records["time_ns"], end_ns)
    events = []
    for event, position in log.events(start.events):
        if event.end_ns > end_ns:
            break
        events.append((event, position))
    end_unix_s = log.anchor.to_unix_ns(end_ns) / 1e9
    rows = []
    for row in log.resources(start.resources, headers):
        if row[0] > end_unix_s:
            break
        rows.append(row)
    end = Place(
        steps, gpu, events[-1][1] if events else start.events, rows[-1][2] if rows else start.resources
    )  # fmt: skip
    return Slice(log.storage, start, end, tuple(events), tuple(rows))


def scan_slice(part: Slice) -> RankScan:
    """What a part comes to; the means of its resources are of all its samples, and it has no values of ``log()``."""
    return RankScan(part.identity, scan_steps(part), scan_events(part), {}, scan_resources(part, None), scan_gpu(part))


def _end_of(reader: SegmentReader, first: int, times: Callable[[Records], Any], end_ns: int) -> int:
    """The ordinal of the first record after ``end_ns``, or of the one after the last."""
    end = first
    for ordinal, records in reader.read(first):
        later = times(records) > end_ns
        if later.any():
            return ordinal + int(later.argmax())
        end = ordinal + len(records)
    return end
