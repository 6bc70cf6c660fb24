"""Metric points from a log: one set for each interval of the records' own time, so that a late push is dated right."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from otel_train.derive.aggregate import Aggregate, add_event, add_gpu, add_rates, add_resources, add_scalars, add_steps
from otel_train.derive.kept import Keeping
from otel_train.export.batches import Batch, Cursor, EventReader, RowReader, position_of
from otel_train.export.exemplars import ExemplarFinder
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.records import Records, SegmentReader
from otel_train.sinks.metrics import PointSet

SHORTEST_NS = 1_000_000
"""A rate over less time than that would say nothing."""

MOST_SETS = 30
"""Sets of points in a request: five minutes at the usual pace."""


@dataclass(frozen=True)
class MetricSource:
    """The metrics of one rank, a point every ``interval_s``."""

    log: RankLog
    interval_s: float
    keep_every: int | str
    slow_factor: float

    def batches(self, cursor: Cursor, final: bool) -> Iterator[Batch]:
        """Batches of ``PointSet``. An interval that is not over waits, unless this is the last call."""
        return _Pass(self, cursor).batches(final)


class _Pass:
    """One reading of what is new. All its state is in ``cursor()``, the run's totals among it."""

    def __init__(self, source: MetricSource, cursor: Cursor) -> None:
        log = self._log = source.log
        self._every_ns = int(source.interval_s * 1e9)
        self._end_ns = int(cursor.get("end_ns", log.anchor.monotonic_ns))
        self._total = Aggregate.from_json(cursor["total"]) if "total" in cursor else Aggregate()
        self._steps = _Stream(log.steps, int(cursor.get("steps", 0)), _step_ends)
        keeping = Keeping(
            source.keep_every, source.slow_factor, int(cursor.get("slow_slot", -1)), log.anchor.monotonic_ns
        )
        self._exemplars = ExemplarFinder(log, keeping, self._steps.ordinal)
        self._scalars = _Stream(log.scalars, int(cursor.get("scalars", 0)), lambda records: records["time_ns"])
        self._gpu = _Stream(log.gpu, int(cursor.get("gpu", 0)), lambda records: records["time_ns"])
        self._events = EventReader(log, position_of(cursor))
        self._rows = RowReader(log, position_of(cursor, "resources"))

    def batches(self, final: bool) -> Iterator[Batch]:
        """Sets in the order of time, ``MOST_SETS`` a batch."""
        sets: list[PointSet] = []
        while (heads := [head for head in self._heads() if head is not None]) != []:
            boundary_ns = self._boundary_after(min(heads))
            if not final and not self._is_over(boundary_ns):
                break
            sets.append(self._take(boundary_ns))
            if len(sets) >= MOST_SETS:
                yield self._batch(sets)
                sets = []
        yield self._batch(sets)

    def _heads(self) -> list[int | None]:
        return [self._steps.next_ns, self._scalars.next_ns, self._gpu.next_ns, self._events.next_ns, self._rows.next_ns]

    def _boundary_after(self, time_ns: int) -> int:
        """The end of the interval that holds the time, or of the one after the last set for a record that is late."""
        origin_ns = self._log.anchor.monotonic_ns
        number = max(-((origin_ns - time_ns) // self._every_ns), (self._end_ns - origin_ns) // self._every_ns + 1)
        return origin_ns + number * self._every_ns

    def _is_over(self, boundary_ns: int) -> bool:
        """Was anything recorded after it?"""
        if max(self._steps.last_ns, self._scalars.last_ns) > boundary_ns:
            return True
        if any(event.end_ns > boundary_ns for event, _ in self._log.events(self._events.position)):
            return True
        boundary_unix_s = self._log.anchor.to_unix_ns(boundary_ns) / 1e9
        return any(unix_s > boundary_unix_s for unix_s, _, _ in self._log.resources(self._rows.position))

    def _take(self, boundary_ns: int) -> PointSet:
        delta, last_ns = Aggregate(), self._end_ns
        for records in self._steps.take_until(boundary_ns):
            add_steps(delta, records, self._log.names("phase"))
            self._exemplars.see(self._steps.ordinal, records)
            last_ns = max(last_ns, int(_step_ends(records)[-1]))
        for records in self._scalars.take_until(boundary_ns):
            add_scalars(delta, records, self._log.names("scalar"))
            last_ns = max(last_ns, int(records["time_ns"][-1]))
        for records in self._gpu.take_until(boundary_ns):
            add_gpu(delta, records, self._log.names("phase"))
            last_ns = max(last_ns, int(records["time_ns"][-1]))
        for event, _ in self._events.take_until(boundary_ns):
            add_event(delta, event, self._total)
            last_ns = max(last_ns, event.end_ns)
        for time_ns, row in self._rows.take_until(boundary_ns):
            add_resources(delta, row, self._total)
            last_ns = max(last_ns, time_ns)
        return self._set(delta, boundary_ns, last_ns)

    def _set(self, delta: Aggregate, boundary_ns: int, last_ns: int) -> PointSet:
        """The set's points are dated at the interval's end; at the log's end, at its last record."""
        is_cut_short = all(head is None for head in self._heads())
        end_ns = min(max(last_ns, self._end_ns + 1), boundary_ns) if is_cut_short else boundary_ns
        start_ns = max(self._end_ns, min(boundary_ns - self._every_ns, end_ns - 1))
        if end_ns - start_ns >= SHORTEST_NS:
            add_rates(delta, (end_ns - start_ns) / 1e9)
        self._total.merge(delta)
        self._end_ns = end_ns
        to_unix_ns = self._log.anchor.to_unix_ns
        return PointSet(
            delta, self._total.copy(), self._log.anchor.unix_ns, to_unix_ns(start_ns), to_unix_ns(end_ns),
            self._exemplars.take(),
        )  # fmt: skip

    def _batch(self, sets: list[PointSet]) -> Batch:
        cursor = {
            "steps": self._steps.ordinal,
            "scalars": self._scalars.ordinal,
            "gpu": self._gpu.ordinal,
            "events": [self._events.position.segment, self._events.position.offset],
            "resources": [self._rows.position.segment, self._rows.position.offset],
            "end_ns": self._end_ns,
            "slow_slot": self._exemplars.keeping.last_slot,
            "total": self._total.to_json(),
        }
        return Batch(sets, cursor, self._steps.take_lost() + self._scalars.take_lost() + self._gpu.take_lost())


class _Stream:
    """Records of one kind from an ordinal on, taken by time. Cut by ordinal: none is taken twice or left out."""

    def __init__(self, reader: SegmentReader, ordinal: int, times: Callable[[Records], Any]) -> None:
        self.ordinal = ordinal
        """Of the next record to take."""
        self.last_ns = _last_ns(reader, times)
        self._lost = 0
        self._chunks = reader.read(ordinal)
        self._times_of = times
        self._records: Records = np.empty(0, reader.dtype)
        self._times: Any = np.empty(0, np.int64)
        self._fetch()

    @property
    def next_ns(self) -> int | None:
        """The time of the next record; None at the end."""
        return int(self._times[0]) if len(self._times) else None

    def take_until(self, time_ns: int) -> Iterator[Records]:
        """The records up to the first that is later, as arrays that are not empty."""
        while len(self._times):
            later = self._times > time_ns
            count = int(later.argmax()) if later.any() else len(later)
            if not count:
                return
            yield self._records[:count]
            self.ordinal += count
            self._records, self._times = self._records[count:], self._times[count:]
            if not len(self._times):
                self._fetch()

    def take_lost(self) -> int:
        """Records that were gone from the log, since the last call."""
        lost, self._lost = self._lost, 0
        return lost

    def _fetch(self) -> None:
        first, self._records = next(self._chunks, (self.ordinal, self._records[:0]))
        self._times = self._times_of(self._records)
        self._lost += first - self.ordinal
        self.ordinal = first


def _step_ends(records: Records) -> Any:
    return records["start_ns"] + records["duration_ns"]


def _last_ns(reader: SegmentReader, times: Callable[[Records], Any]) -> int:
    _, end = reader.bounds()
    return max((int(times(records)[-1]) for _, records in reader.read(max(end - 1, 0))), default=0)
