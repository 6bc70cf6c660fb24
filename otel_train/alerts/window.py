"""The last half hour of a rank's log as alerts see it: one summary a tick, and what of it is usual.

Reads on as the log grows, and knows the log alone: a run that goes on and one that was recorded are judged alike.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np

from otel_train import names
from otel_train.alerts.baseline import Baseline, weighted_median
from otel_train.derive.phases import phase_id, used_slots
from otel_train.resource_names import FILESYSTEM_USAGE, Series
from otel_train.runlog.events import Event, Position
from otel_train.runlog.layout import DATA_WAIT, EVALUATION, MISSING
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.records import Records, SegmentReader

TICK_S = 5.0
HISTORY = 360
"""Ticks kept: half an hour."""
MOST_POINTS = 3600
"""Of a series, however often it is sampled."""
WARM_UP_STEPS = 10
RECENT_S = 60.0
ENOUGH_OF_IT = 0.8
"""Of the last minute, for a rate: the rest may have been quiet."""
FEW_STEPS = 5
"""With fewer steps in the last minute, the last so many are taken, however long ago."""
SETTLING_S = 10.0
"""So long at most after an evaluation, a checkpoint or a compilation, steps may still be unusual …"""
SETTLING_PART = 0.2
"""… and for this part of the time since the last one."""
FREQUENT = 6
FREQUENT_S = 60.0
"""Where there were so many in so short a time, they are the run's usual way, and disturb nothing."""
DISTURBING = (names.EVALUATION_KIND, names.CHECKPOINT, names.COMPILATION, names.EPOCH)
"""Kinds of event around which steps are unusual."""
COARSE = (FILESYSTEM_USAGE,)
"""What changes so seldom that half an hour says nothing."""
COARSE_S = 60.0
COARSE_POINTS = 360
MOST_EVENTS = 200
"""Of each kind."""
LOADER_SILENT_S = 90.0
"""A loader in use tells of itself every 30 s."""


@dataclass
class Tick:
    """What was recorded in a stretch of time. Times in s, but for ``end_ns``."""

    end_ns: int
    seconds: float
    quiet: bool = False
    """Did an evaluation, a checkpoint or a compilation lie in it?"""
    steps: int = 0
    """Of training."""
    median_s: float = 0.0
    busy_s: float = 0.0
    wait_s: float = 0.0
    samples: int = 0
    gpu_steps: int = 0
    gpu_wait_s: float = 0.0
    """Of the timed steps: how long the GPU had nothing to do for want of data."""
    values: dict[str, float] = field(default_factory=dict)
    """The last finite value of each name given to ``log()``."""
    nonfinite: int = 0


class Window:
    """Reads one rank's log tick by tick. One thread."""

    def __init__(
        self,
        log: RankLog,
        going_on: Callable[[], bool] = lambda: False,
        metrics: Collection[str] | None = None,
        step_began_ns: Callable[[], int | None] = lambda: None,
    ) -> None:
        """``going_on()`` tells whether an evaluation or a checkpoint is going on now, ``step_began_ns()`` when the step
        that is going on began: the log has them when over.

        ``metrics`` are the resource metrics that are kept; None keeps all.
        """
        self._metrics = metrics
        self._step_began_ns = step_began_ns
        self._log = log
        self._going_on = going_on
        self._steps = _Reader(log.steps, lambda records: records["start_ns"] + records["duration_ns"])
        self._scalars = _Reader(log.scalars, lambda records: records["time_ns"])
        self._gpu = _Reader(log.gpu, lambda records: records["time_ns"])
        self._events = _Rows(log.events, lambda row: row[0].end_ns)
        self._resources = _Rows(
            partial(log.resources, headers={}), lambda row: log.anchor.to_monotonic_ns(row[0] * 1e9)
        )
        self.now_ns = log.anchor.monotonic_ns
        self.ticks: deque[Tick] = deque(maxlen=HISTORY)
        self.first_row_s: float | None = None
        self._points: dict[str, dict[Series, deque[tuple[float, float]]]] = {}
        self._coarse: dict[str, dict[Series, deque[tuple[float, float]]]] = {}
        self.events: defaultdict[str, deque[Event]] = defaultdict(lambda: deque(maxlen=MOST_EVENTS))
        """By kind."""
        self.step_time, self.rate = Baseline(), Baseline(higher_is_better=True)
        self.any_step_time = Baseline()
        """Of quiet ticks too: a bound for silence, where evaluations leave no tick to judge steps by."""
        self.steps = 0
        """Of training, so far."""
        self.step: int | None = None
        """The number of the last one."""
        self.progress_ns = self.now_ns
        """When something was recorded last that shows the training to be alive."""
        self.begun_ns: int | None = None
        """When the first step began, as far as that is known; None before."""
        self.longest_silence_s = 0.0
        """Between two signs of life, with no disturbance in between."""
        self.longest_disturbance_s = 0.0
        self.disturbed_ns = self.now_ns
        """When the last evaluation, checkpoint, compilation or epoch was over."""
        self._settled_ns = self.now_ns + int(SETTLING_S * 1e9)
        """When steps are as usual again after it."""
        self._disturbances: deque[int] = deque(maxlen=FREQUENT)
        self._workers: tuple[int, int] | None = None

    def advance(self, now_ns: int) -> None:
        """Take in what was recorded up to now, as a tick more."""
        before_ns, self.now_ns = self.now_ns, now_ns
        tick = Tick(now_ns, (now_ns - before_ns) / 1e9)
        alive_ns = self.progress_ns
        for event, _ in self._events.until(now_ns):
            self._take_event(event)
        self._take_steps(tick)
        self._take_gpu(tick)
        self._take_scalars(tick)
        self._take_resources()
        if self.begun_ns is None:
            self.begun_ns = self._step_began_ns()
        tick.quiet = self._going_on() or self._settled_ns > before_ns
        if self.progress_ns > alive_ns and self.disturbed_ns < alive_ns:
            self.longest_silence_s = max(self.longest_silence_s, (before_ns - alive_ns) / 1e9)
        self.ticks.append(tick)
        self._learn(tick)

    @property
    def quiet(self) -> bool:
        """Is this no time to judge steps?"""
        return not self.ticks or self.ticks[-1].quiet or self.steps < WARM_UP_STEPS

    @property
    def quiet_now(self) -> bool:
        """Is an evaluation or a checkpoint going on?"""
        return self._going_on()

    def recent(self, seconds: float = RECENT_S, steps: int = FEW_STEPS) -> list[Tick]:
        """The last ticks that are not quiet: those of so many seconds, and more where they have fewer steps."""
        chosen: list[Tick] = []
        seen = 0
        for tick in reversed(self.ticks):
            if tick.end_ns <= self.now_ns - seconds * 1e9 and seen >= steps:
                break
            if not tick.quiet:
                chosen.append(tick)
                seen += tick.steps
        return chosen

    def recent_step_s(self) -> float | None:
        """The median step of the last minute; None with fewer than ``FEW_STEPS`` to judge by."""
        ticks = [tick for tick in self.recent() if tick.steps]
        if sum(tick.steps for tick in ticks) < FEW_STEPS:
            return None
        return weighted_median([(tick.median_s, tick.steps) for tick in ticks])

    def series(self, name: str) -> Mapping[Series, Sequence[tuple[float, float]]]:
        """The series of a resource metric: points (time in s, value). One that ended is gone after half an hour."""
        return self._points.get(name, {})

    def coarse(self, name: str) -> Mapping[Series, Sequence[tuple[float, float]]]:
        """The same of the last six hours, a point a minute: of the metrics in ``COARSE``."""
        return self._coarse.get(name, {})

    @property
    def workers(self) -> int | None:
        """Of the loader that feeds the training; None where none does now."""
        if self._workers is None or self.now_ns - self._workers[1] > LOADER_SILENT_S * 1e9:
            return None
        return self._workers[0]

    # -- reading ---------------------------------------------------------------------------------------------------

    def _take_resources(self) -> None:
        for unix_s, row, _ in self._resources.until(self.now_ns):
            time_s = self._log.anchor.to_monotonic_ns(unix_s * 1e9) / 1e9
            self.first_row_s = time_s if self.first_row_s is None else self.first_row_s
            for key, value in row.items():
                if self._metrics is None or key[0] in self._metrics:
                    self._take_point(key, time_s, value)
        _forget_ended(self._points, self.now_ns / 1e9 - HISTORY * TICK_S)
        _forget_ended(self._coarse, self.now_ns / 1e9 - COARSE_POINTS * COARSE_S)

    def _take_point(self, key: Series, time_s: float, value: float) -> None:
        of_metric = self._points.setdefault(key[0], {})
        if key not in of_metric:
            of_metric[key] = deque(maxlen=MOST_POINTS)
        points = of_metric[key]
        points.append((time_s, value))
        while points[0][0] < time_s - HISTORY * TICK_S:
            points.popleft()
        if key[0] in COARSE:
            self._take_coarse(key, time_s, value)

    def _take_coarse(self, key: Series, time_s: float, value: float) -> None:
        points = self._coarse.setdefault(key[0], {}).setdefault(key, deque(maxlen=COARSE_POINTS))
        if not points or time_s - points[-1][0] >= COARSE_S:
            points.append((time_s, value))

    def _take_event(self, event: Event) -> None:
        if event.kind in (names.HEALTH, names.ALERT):
            return
        self.events[event.kind].append(event)
        if event.kind in DISTURBING:
            began_ns = event.end_ns if event.kind == names.EPOCH else event.start_ns
            self._disturb(began_ns, event.end_ns)
        if event.kind == names.DATA_LOADER and event.attributes.get(names.LOADER_TRAINS):
            self._workers = int(event.attributes.get(names.LOADER_WORKERS, 0)), event.end_ns

    def _disturb(self, began_ns: int, ended_ns: int) -> None:
        """Steps around it are unusual; unless it is like that all the time."""
        self.progress_ns = max(self.progress_ns, ended_ns)
        self.longest_disturbance_s = max(self.longest_disturbance_s, (ended_ns - began_ns) / 1e9)
        self._disturbances.append(ended_ns)
        since_s = (began_ns - self.disturbed_ns) / 1e9
        self.disturbed_ns = max(self.disturbed_ns, ended_ns)
        often = len(self._disturbances) == FREQUENT and ended_ns - self._disturbances[0] < FREQUENT_S * 1e9
        if not often:
            settling_s = min(SETTLING_S, SETTLING_PART * since_s) if since_s > 0 else SETTLING_S
            self._settled_ns = max(self._settled_ns, ended_ns + int(settling_s * 1e9))

    def _take_steps(self, tick: Tick) -> None:
        medians: list[tuple[float, float]] = []
        for records in self._steps.until(self.now_ns):
            self.progress_ns = max(self.progress_ns, int(records["start_ns"][-1] + records["duration_ns"][-1]))
            if self.begun_ns is None:
                self.begun_ns = int(records["start_ns"][0])
            evaluating = (records["flags"] & EVALUATION) != 0
            if evaluating.any():
                last = records[evaluating][-1]
                self.disturbed_ns = max(self.disturbed_ns, int(last["start_ns"] + last["duration_ns"]))
                self._settled_ns = max(self._settled_ns, self.disturbed_ns)
                records = records[~evaluating]
            if len(records):
                medians.append((float(np.median(records["duration_ns"])) / 1e9, len(records)))
                self._add_steps(tick, records)
        tick.median_s = weighted_median(medians) or 0.0

    def _add_steps(self, tick: Tick, records: Records) -> None:
        wait_id = phase_id(self._log.names("phase"), DATA_WAIT)
        waiting = used_slots(records) & (records["phases"]["phase"] == wait_id) & (records["phases"]["depth"] == 0)
        known = records["samples"] != MISSING
        tick.steps += len(records)
        tick.busy_s += float(records["duration_ns"].sum()) / 1e9
        tick.wait_s += float(records["phases"]["duration_ns"][waiting].sum(dtype=np.float64)) / 1e9
        tick.samples += int(records["samples"][known].sum(dtype=np.int64))
        self.steps += len(records)
        self.step = int(records["step"][-1])

    def _take_gpu(self, tick: Tick) -> None:
        for records in self._gpu.until(self.now_ns):
            wait_id = phase_id(self._log.names("phase"), DATA_WAIT)
            used = records["phase_count"][:, None] > np.arange(records["phases"].shape[1])
            waiting = used & (records["phases"]["phase"] == wait_id)
            tick.gpu_steps += len(records)
            tick.gpu_wait_s += float(records["phases"]["duration_ns"][waiting].sum(dtype=np.float64)) / 1e9

    def _take_scalars(self, tick: Tick) -> None:
        for records in self._scalars.until(self.now_ns):
            self.progress_ns = max(self.progress_ns, int(records["time_ns"][-1]))
            known = self._log.names("scalar")
            finite = np.isfinite(records["value"])
            tick.nonfinite += int(np.count_nonzero(~finite))
            for identity in np.unique(records["name"][finite]).tolist():
                values = records["value"][finite & (records["name"] == identity)]
                tick.values[known.get(identity, str(identity))] = float(np.median(values))

    def _learn(self, tick: Tick) -> None:
        if not tick.steps or self.steps < WARM_UP_STEPS:
            return
        self.any_step_time.learn(tick.median_s)
        if tick.quiet:
            return
        self.step_time.learn(tick.median_s)
        rate = self.recent_rate()
        if rate:
            self.rate.learn(rate)

    def recent_rate(self) -> float | None:
        """Samples a second in the last minute, steps where samples are not counted; None where it is not known."""
        ticks = self.recent()
        seconds = sum(tick.seconds for tick in ticks)
        amount = sum(tick.samples for tick in ticks) or sum(tick.steps for tick in ticks)
        return amount / seconds if seconds >= RECENT_S * ENOUGH_OF_IT else None


def _forget_ended(points: dict[str, dict[Series, deque[tuple[float, float]]]], before_s: float) -> None:
    """Drop the series without a point since then: a GPU, a mount or an interface that is gone."""
    for of_metric in points.values():
        for key in [key for key, known in of_metric.items() if known[-1][0] < before_s]:
            del of_metric[key]


Row = TypeVar("Row", bound=tuple[Any, ...])


class _Rows(Generic[Row]):
    """What is read from text, up to a time. A file is parsed once: what is not due yet is kept for the next call."""

    def __init__(self, read: Callable[[Any], Iterator[Row]], time_of: Callable[[Row], int]) -> None:
        self._read = read
        self._time_of = time_of
        self._position = Position()
        self._rows: Iterator[Row] = iter(())
        self._next: Row | None = None

    def until(self, now_ns: int) -> Iterator[Row]:
        """Rows in their order; the last field of each is the position after it."""
        fresh = False
        while True:
            row = self._next if self._next is not None else next(self._rows, None)
            if row is None:
                if fresh:
                    return
                fresh, self._rows = True, self._read(self._position)
                continue
            if self._time_of(row) > now_ns:
                self._next = row
                return
            self._next, self._position = None, row[-1]
            yield row


class _Reader:
    """Records of one kind from where the last call ended, up to a time."""

    def __init__(self, reader: SegmentReader, times: Callable[[Records], Any]) -> None:
        self._reader = reader
        self._times = times
        self._ordinal = 0

    def until(self, now_ns: int) -> Iterator[Records]:
        """Chunks that are not empty."""
        for first, records in self._reader.read(self._ordinal):
            count = int(np.searchsorted(self._times(records), now_ns, "right"))
            if count:
                self._ordinal = first + count
                yield records[:count]
            if count < len(records):
                return
