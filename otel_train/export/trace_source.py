"""Spans from a log: kept steps, events with a duration, and the intervals that hold them, in order of their ends."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from otel_train import names
from otel_train.derive.gpu import gpu_times
from otel_train.derive.intervals import LONGEST_NS, START_UP, Closed, Interval, is_boundary
from otel_train.derive.kept import HISTORY, Keeping
from otel_train.export.batches import Batch, Cursor, EventReader, position_of
from otel_train.runlog.events import Event, Position
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.records import Records
from otel_train.sinks.spans import SpanData, SpanMaker

MOST_SPANS = 512
"""Spans in a request, or a few more: a step is not split."""

MOST_ERRORS = 64
"""Errors remembered until their step is over."""

MOST_HAPPENED = 100
"""Events remembered until their interval is over: a span has at most 128 of them."""
HAPPENINGS = frozenset({names.ALERT, names.NONFINITE, names.OUT_OF_MEMORY, names.LEVEL})
"""What has no duration, is rare, and is told as an event of the interval's span."""


@dataclass(frozen=True)
class TraceSource:
    """The spans of one rank."""

    log: RankLog
    keep_every: int | str
    slow_factor: float

    def batches(self, cursor: Cursor, final: bool) -> Iterator[Batch]:
        """Batches of ``SpanData``."""
        return _Pass(self, cursor).batches(final)


@dataclass
class _Passed:
    """The chunk that is being read: from which ordinal, when its steps ended, which slow ones were left out."""

    first: int
    ends: "np.ndarray[Any, np.dtype[np.int64]]" = field(default_factory=lambda: np.empty(0, np.int64))
    suppressed: "np.ndarray[Any, np.dtype[np.int64]]" = field(default_factory=lambda: np.empty(0, np.int64))
    before: int = 0
    """The index of the next kept step, which is not counted before its spans are made."""


class _Pass:
    """One reading of what is new. All its state is in ``cursor()``, or comes from the log again."""

    def __init__(self, source: TraceSource, cursor: Cursor) -> None:
        log = self._log = source.log
        self._steps = int(cursor.get("steps", 0))
        self._events = EventReader(log, position_of(cursor))
        self._interval = Interval(**cursor.get("interval", {"index": START_UP, "start_ns": _began_ns(log)}))
        self._seen_ns = int(cursor.get("seen_ns", self._interval.start_ns))
        self._errors = [Event(**error) for error in cursor.get("errors", ())]
        self._happened = [Event(**event) for event in cursor.get("happened", ())]
        self._slot = int(cursor.get("slow_slot", -1))
        self._keeping = Keeping(source.keep_every, source.slow_factor, self._slot, log.anchor.monotonic_ns)
        self._maker = SpanMaker(log.run_id, log.rank, log.anchor)
        self._passed = _Passed(self._steps)
        self._spans: list[SpanData] = []
        self._lost = 0

    def batches(self, final: bool) -> Iterator[Batch]:
        """The log's steps as of now, with the events around them, then the events after them."""
        _, end = self._log.steps.bounds()
        self._recall()
        for first, records in self._log.steps.read(self._steps):
            if first >= end:
                break
            self._lost += first - self._steps
            self._steps = first
            yield from self._chunk(first, records[: end - first])
        for event, position in self._events.take(lambda event: True):
            self._add_event(event, position)
            yield from self._when_full()
        if final:
            self._close_last()
        yield self._batch()

    def _recall(self) -> None:
        for first, records in self._log.steps.read(max(self._steps - HISTORY, 0)):
            if first >= self._steps:
                break
            self._keeping.recall(records[: self._steps - first])

    def _chunk(self, first: int, records: Records) -> Iterator[Batch]:
        began_ns = int(records["start_ns"][0])
        yield from self._events_until(began_ns)
        self._end_intervals(self._interval.leave_start_up(began_ns))
        decision = self._keeping.decide(first, records)
        if decision.kept:
            self._maker = replace(self._maker, phase_names=self._log.names("phase"))
        gpu = gpu_times(self._log, records["step"][decision.kept], self._maker.phase_names) if decision.kept else {}
        self._passed = passed = _Passed(first, records["start_ns"] + records["duration_ns"], decision.suppressed)
        for index, reason, slot in zip(decision.kept, decision.reasons, decision.slots, strict=True):
            passed.before = index
            yield from self._events_until(int(passed.ends[index]))
            self._pass_time(int(passed.ends[index]))
            self._count(index + 1)
            self._slot = slot
            errors = self._errors_in(records[index])
            times = gpu.get(int(records[index]["step"]), {})
            self._spans += self._maker.step(records[index], reason, errors, self._interval.index, times)
            yield from self._when_full()
        passed.before = len(records)
        yield from self._events_until(int(passed.ends[-1]))
        self._pass_time(int(passed.ends[-1]))
        self._count(len(records))
        self._errors = [error for error in self._errors if error.start_ns > passed.ends[-1]]

    def _count(self, index: int) -> None:
        """The chunk's steps before ``index`` ended in this interval, but for those counted already."""
        first, before = self._passed.first, self._steps - self._passed.first
        self._interval.used = True
        self._interval.steps += index - before
        suppressed = self._passed.suppressed
        self._interval.suppressed += int(np.count_nonzero((suppressed >= before) & (suppressed < index)))
        self._steps = first + index

    def _count_until(self, time_ns: int) -> None:
        index = min(int(self._passed.ends.searchsorted(time_ns, "right")), self._passed.before)
        if self._passed.first + index > self._steps:
            self._count(index)

    def _pass_time(self, now_ns: int) -> None:
        self._seen_ns = max(self._seen_ns, now_ns)
        if self._interval.is_too_long(now_ns):
            self._count_until(self._interval.start_ns + LONGEST_NS)
        self._end_intervals(self._interval.pass_time(now_ns))

    def _events_until(self, end_ns: int) -> Iterator[Batch]:
        """The events before a step's end; of those at the same instant, its error, but not what ended with it."""
        for event, position in self._events.take(
            lambda event: event.end_ns < end_ns or (event.end_ns == end_ns and event.duration_ns is None)
        ):
            self._add_event(event, position)
            yield from self._when_full()

    def _add_event(self, event: Event, position: Position) -> None:
        self._pass_time(event.end_ns)
        if event.duration_ns is not None:
            self._interval.used = True
            self._spans.append(self._maker.event(event, position, self._interval.index))
            if event.kind == names.PROFILE:
                self._spans += self._maker.operators(event, position)
            if is_boundary(event):
                self._count_until(event.end_ns)
                self._end_intervals(self._interval.close(event.end_ns))
        elif event.kind == names.ERROR:
            self._errors = [*self._errors, event][-MOST_ERRORS:]
        elif event.kind in HAPPENINGS:
            self._interval.used = True
            self._happened = [*self._happened, event][-MOST_HAPPENED:]

    def _errors_in(self, record: Any) -> Iterable[Event]:
        start_ns, end_ns = int(record["start_ns"]), int(record["start_ns"] + record["duration_ns"])
        own = [error for error in self._errors if error.step == record["step"] and error.start_ns >= start_ns]
        self._errors = [error for error in self._errors if error.start_ns > end_ns]
        return [error for error in own if error.start_ns <= end_ns]

    def _close_last(self) -> None:
        end = self._log.read_identity().get("end", {})
        end_ns = max(self._seen_ns, int(end.get("monotonic_ns", 0)))
        self._end_intervals(self._interval.close(end_ns))

    def _end_intervals(self, closed: Iterable[Closed]) -> None:
        """Their spans, each with what happened before its end."""
        for interval in closed:
            happened = [event for event in self._happened if event.start_ns <= interval.end_ns]
            self._happened = [event for event in self._happened if event.start_ns > interval.end_ns]
            self._spans.append(self._maker.interval(interval, happened))

    def _when_full(self) -> Iterator[Batch]:
        if len(self._spans) >= MOST_SPANS:
            yield self._batch()

    def _batch(self) -> Batch:
        spans, lost = self._spans, self._lost
        self._spans, self._lost = [], 0
        return Batch(spans, self._cursor(), lost)

    def _cursor(self) -> Cursor:
        return {
            "steps": self._steps,
            "events": [self._events.position.segment, self._events.position.offset],
            "interval": dict(vars(self._interval)),
            "seen_ns": self._seen_ns,
            "errors": [vars(error) for error in self._errors],
            "happened": [vars(event) for event in self._happened],
            "slow_slot": self._slot,
        }


def _began_ns(log: RankLog) -> int:
    """When the process began, on the rank's monotonic clock; the run's beginning where that is not known."""
    anchor = log.anchor
    started_ns = log.identity.get("process", {}).get("started_unix_ns", anchor.unix_ns)
    return anchor.monotonic_ns - max(anchor.unix_ns - int(started_ns), 0)
