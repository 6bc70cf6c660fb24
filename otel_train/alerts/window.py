"""The last half hour of a rank's log as alerts see it: one summary a tick, and what of it is usual.

Reads on as the log grows, and knows the log alone: a run that goes on and one that was recorded are judged alike.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from otel_train import names
from otel_train.alerts.baseline import Baseline, weighted_median
from otel_train.derive.phases import phase_id, used_slots
from otel_train.resource_names import Series
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
"""So long after an evaluation, a checkpoint or a compilation, steps may still be unusual."""
DISTURBING = (names.EVALUATION_KIND, names.CHECKPOINT, names.COMPILATION, names.EPOCH)
"""Kinds of event around which steps are unusual."""
MOST_EVENTS = 1000


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

    def __init__(self, log: RankLog, going_on: Callable[[], bool] = lambda: False) -> None:
        """``going_on()`` tells whether an evaluation or a checkpoint is going on now: the log has them when over."""
        self._log = log
        self._going_on = going_on
        self._steps = _Reader(log.steps, lambda records: records["start_ns"] + records["duration_ns"])
        self._scalars = _Reader(log.scalars, lambda records: records["time_ns"])
        self._gpu = _Reader(log.gpu, lambda records: records["time_ns"])
        self._events = Position()
        self._resources = Position()
        self.now_ns = log.anchor.monotonic_ns
        self.ticks: deque[Tick] = deque(maxlen=HISTORY)
        self.first_row_s: float | None = None
        self._points: dict[str, dict[Series, deque[tuple[float, float]]]] = {}
        self.events: deque[Event] = deque(maxlen=MOST_EVENTS)
        self.step_time, self.rate = Baseline(), Baseline()
        self.steps = 0
        """Of training, so far."""
        self.step: int | None = None
        """The number of the last one."""
        self.progress_ns = self.now_ns
        """When something was recorded last that shows the training to be alive."""
        self.disturbed_ns = self.now_ns
        """When the last evaluation, checkpoint, compilation or epoch was over."""
        self.workers: int | None = None
        """Of the loader that feeds the training."""

    def advance(self, now_ns: int) -> None:
        """Take in what was recorded up to now, as a tick more."""
        before_ns, self.now_ns = self.now_ns, now_ns
        tick = Tick(now_ns, (now_ns - before_ns) / 1e9)
        for event in self._events_until(now_ns):
            self._take_event(event)
        self._take_steps(tick)
        self._take_gpu(tick)
        self._take_scalars(tick)
        self._take_resources()
        tick.quiet = self._going_on() or self.disturbed_ns + SETTLING_S * 1e9 > before_ns
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
        """The series of a resource metric: points (time in s, value). A series that ended keeps its last ones."""
        return self._points.get(name, {})

    # -- reading ---------------------------------------------------------------------------------------------------

    def _events_until(self, now_ns: int) -> Iterator[Event]:
        for event, position in self._log.events(self._events):
            if event.end_ns > now_ns:
                return
            self._events = position
            yield event

    def _take_resources(self) -> None:
        for unix_s, row, position in self._log.resources(self._resources):
            time_ns = self._log.anchor.to_monotonic_ns(unix_s * 1e9)
            if time_ns > self.now_ns:
                return
            self._resources = position
            time_s = time_ns / 1e9
            self.first_row_s = time_s if self.first_row_s is None else self.first_row_s
            for key, value in row.items():
                of_metric = self._points.setdefault(key[0], {})
                if key not in of_metric:
                    of_metric[key] = deque(maxlen=MOST_POINTS)
                points = of_metric[key]
                points.append((time_s, value))
                while points[0][0] < time_s - HISTORY * TICK_S:
                    points.popleft()

    def _take_event(self, event: Event) -> None:
        if event.kind in (names.HEALTH, names.ALERT):
            return
        self.events.append(event)
        if event.kind in DISTURBING:
            self.disturbed_ns = max(self.disturbed_ns, event.end_ns)
            self.progress_ns = max(self.progress_ns, event.end_ns)
        if event.kind == names.DATA_LOADER and event.attributes.get(names.LOADER_TRAINS):
            self.workers = int(event.attributes.get(names.LOADER_WORKERS, 0))

    def _take_steps(self, tick: Tick) -> None:
        medians: list[tuple[float, float]] = []
        for records in self._steps.until(self.now_ns):
            self.progress_ns = max(self.progress_ns, int(records["start_ns"][-1] + records["duration_ns"][-1]))
            evaluating = (records["flags"] & EVALUATION) != 0
            if evaluating.any():
                last = records[evaluating][-1]
                self.disturbed_ns = max(self.disturbed_ns, int(last["start_ns"] + last["duration_ns"]))
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
        if tick.quiet or not tick.steps or self.steps < WARM_UP_STEPS:
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
