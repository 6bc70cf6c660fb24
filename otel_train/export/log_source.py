"""Log records from a log's events: those without a duration, but for what otel_train says of itself."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from otel_train import names
from otel_train.export.batches import Batch, Cursor, EventReader, position_of
from otel_train.runlog.events import Event, Position
from otel_train.runlog.layout import CHILD_SPANS, EVALUATION, FAILED, MISSING
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.records import Records
from otel_train.sinks import ids
from otel_train.sinks.logs import LogData
from otel_train.sinks.spans import Ids

MOST_LOGS = 256
"""Log records in a request."""

PATIENCE_NS = 5_000_000_000
"""An error waits so long for the record of its step, which follows it, so that it can name the step's span."""

RUNNING_TOTALS = (names.HEALTH, names.COLLECTIVES, names.DATA_LOADER)
"""Kinds that are metrics, and nothing that happened."""


@dataclass(frozen=True)
class LogSource:
    """The log records of one rank."""

    log: RankLog

    def batches(self, cursor: Cursor, final: bool) -> Iterator[Batch]:
        """Batches of ``LogData``."""
        events, steps, logs = EventReader(self.log, position_of(cursor)), _Steps(self.log), []
        for event, position in events.take(lambda event: final or not self._is_early(event, steps)):
            if event.duration_ns is None and event.kind not in RUNNING_TOTALS:
                logs.append(LogData(event, self.log.anchor.to_unix_ns(event.start_ns), steps.span_of(event)))
            if len(logs) >= MOST_LOGS:
                yield Batch(logs, _cursor(position))
                logs = []
        yield Batch(logs, _cursor(events.position))

    def _is_early(self, event: Event, steps: "_Steps") -> bool:
        if event.kind != names.ERROR or time.time_ns() - self.log.anchor.to_unix_ns(event.start_ns) > PATIENCE_NS:
            return False
        return steps.at(event.start_ns) is None


def _cursor(position: Position) -> Cursor:
    return {"events": [position.segment, position.offset]}


class _Steps:
    """Finds steps by time. A search reads some 20 records; those that follow in the same segment need none."""

    def __init__(self, log: RankLog) -> None:
        self._log = log
        self._chunk: Records | None = None

    def span_of(self, event: Event) -> Ids | None:
        """Trace and span of the step that the event hit, if that step is kept for sure."""
        if event.step is None or event.kind != names.ERROR:
            return None
        record = self.at(event.start_ns)
        if record is None or record["step"] != event.step or not record["flags"] & (FAILED | CHILD_SPANS):
            return None
        epoch = None if record["epoch"] == MISSING else int(record["epoch"])
        which = (event.step, epoch, bool(record["flags"] & EVALUATION))
        return ids.step_trace_id(self._log.run_id, *which), ids.step_span_id(self._log.run_id, self._log.rank, *which)

    def at(self, time_ns: int) -> Any:
        """The first step that ended at that time or later; None when there is none yet."""
        found = self._in_chunk(time_ns)
        if found is None:
            self._chunk = self._chunk_at(time_ns)
            found = self._in_chunk(time_ns)
        return found

    def _in_chunk(self, time_ns: int) -> Any:
        if self._chunk is None:
            return None
        ends = self._chunk["start_ns"] + self._chunk["duration_ns"]
        index = int(ends.searchsorted(time_ns))
        is_inside = index < len(ends) and (index > 0 or self._chunk["start_ns"][0] <= time_ns)
        return self._chunk[index] if is_inside else None

    def _chunk_at(self, time_ns: int) -> Records | None:
        low, high = self._log.steps.bounds()
        while low < high:
            middle = (low + high) // 2
            chunk = self._from(middle)
            if chunk is not None and chunk["start_ns"][0] + chunk["duration_ns"][0] < time_ns:
                low = middle + 1
            else:
                high = middle
        return self._from(low)

    def _from(self, ordinal: int) -> Records | None:
        return next((records for _, records in self._log.steps.read(ordinal)), None)
