"""What the phases of a step take on the GPU: events in its stream at their edges, read when it has passed them.

Nothing here waits for the GPU. An event costs 2.6 µs of the host; whether it was passed is asked after later steps, on
the training thread alone (a query from another thread would end a CUDA graph's capture). While a graph is captured
nothing is recorded or asked. A step that cannot be had in time is left out: no value rather than a late one.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from otel_train import guard
from otel_train.runlog.layout import COUNT_SHIFT, PHASE_SLOTS

MOST_UNDER_WAY = 64
"""Steps whose events the GPU has not passed; a host that is further ahead has its newest steps left out."""

MEMORY_EVERY_NS = 25_000_000
"""The allocator is asked once in so long at most: 23 µs."""

READING = 0.6
"""What reading a step's events costs, as a part of what recording them did."""

TRIALS = 40

Sink = Callable[[int, int, list[int | float], "tuple[int, int, int, int] | None"], None]
"""Takes the step's number, when it ended (monotonic ns), its slots (phase and count, ns), and the allocator's retries,
bytes allocated, reserved and at most allocated, where it was asked."""

Mark = tuple[int, Any]
"""A phase's id, twice, plus one for its end; and the event there."""


class GpuTimer:
    """Times the phases of one device. All calls are the training thread's."""

    def __init__(self, torch: Any, device: Any, clock: Callable[[], int], sink: Sink, marks: list[Mark]) -> None:
        """Makes some events, and times them: ``mark_ns`` is what one costs the host. ``marks`` is the recorder's."""
        self._torch = torch
        self._device = self._whole(torch, device)
        self._clock = clock
        self._sink = sink
        self._capturing: Callable[[], bool] = torch._C._cuda_isCurrentStreamCapturing
        self._free: list[Any] = []
        self._marks = marks
        self._under_way: deque[tuple[int, int, list[Mark], Any]] = deque()
        self._spoiled = False
        self._on = True
        self._broken = False
        self._steps = 0
        self._memory_ns = 0
        self.every = 1
        """One step in so many is timed."""
        self.marked = 0
        """Events recorded so far, those of a step counted at its end."""
        self.dropped = 0
        """Steps without a GPU time: captured, or too far behind."""
        self.mark = self._marker()
        self.mark_ns = self._cost()

    @staticmethod
    def _whole(torch: Any, device: Any) -> Any:
        return torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)

    def is_on(self, device: Any) -> bool:
        """Is this CUDA device the one whose phases are timed?"""
        return bool(self._whole(self._torch, device) == self._device)

    def goes_on_from(self, other: "GpuTimer") -> None:
        """Count on where that one ended. The step under way has events of both devices: it is left out."""
        self.every, self.marked, self.dropped = other.every, self.marked + other.marked, self.dropped + other.dropped
        self._spoiled = True

    def _new(self) -> Any:
        return self._torch.Event(device=self._device, enable_timing=True)

    def _marker(self) -> Callable[[int], None]:
        """``mark(code)``: the edge of a phase, as a closure. About 3.5 µs."""
        free, marks, capturing, new = self._free, self._marks, self._capturing, self._new
        stream_of = None
        if self._device.index != self._torch.cuda.current_device():
            stream_of = self._torch.cuda.current_stream

        def mark(code: int) -> None:
            if not self._on:
                return
            try:
                if capturing():
                    self._spoiled = True
                    return
                event = free.pop() if free else new()
                if stream_of is None:
                    event.record()
                else:  # the model is on another device than the current one
                    event.record(stream_of(self._device))
                marks.append((code, event))
            except Exception as error:  # noqa: BLE001  whatever CUDA says: the training goes on, without GPU times
                self._broken = True
                self._on = False
                guard.report("gpu timing", error)

        return mark

    def _cost(self) -> float:
        if self._capturing():
            return 0.0
        self.mark(0)
        start = time.perf_counter_ns()
        for _ in range(TRIALS):
            self.mark(0)
        cost = (time.perf_counter_ns() - start) / TRIALS
        self._free.extend(event for _, event in self._marks if event.device == self._device)
        self._marks.clear()
        return cost

    def step_over(self, number: int | None, cut: int | None) -> None:
        """A step of that number was recorded: keep its events, the first ``cut``, and read those that were passed.

        None is a step of an evaluation, whose numbers are not the training's: it has no GPU time.
        """
        if self._capturing():
            return
        if cut is None:
            self.next_step()
        marks, spoiled = self._marks[:cut], self._spoiled
        self.marked += len(marks)
        del self._marks[:cut]
        self._spoiled = False
        if number is None or spoiled or len(self._under_way) >= MOST_UNDER_WAY:
            self.dropped += number is not None
            self._free.extend(event for _, event in marks if event.device == self._device)
        elif marks:
            now = self._clock()
            self._under_way.append((number, now, marks, self._memory(now)))
        self._resolve()

    def next_step(self) -> None:
        """What is marked from now on is another step's: is it one of those that are timed?"""
        self._steps += 1
        self._on = self._steps % self.every == 0 and not self._broken

    def _memory(self, now: int) -> "tuple[int, int, int, int] | None":
        if now - self._memory_ns < MEMORY_EVERY_NS:
            return None
        self._memory_ns = now
        statistics = self._torch.cuda.memory_stats_as_nested_dict(self._device)
        allocated = statistics["allocated_bytes"]["all"]
        reserved = statistics["reserved_bytes"]["all"]["current"]
        return statistics["num_alloc_retries"], allocated["current"], reserved, allocated["peak"]

    def _resolve(self) -> None:
        under_way = self._under_way
        while under_way and under_way[0][2][-1][1].query():
            number, time_ns, marks, memory = under_way.popleft()
            self._sink(number, time_ns, slots(marks), memory)
            self._free.extend(event for _, event in marks)

    def finish(self) -> None:
        """At shutdown: read what the GPU has passed by now. It is not waited for."""
        if not self._capturing():
            self._resolve()
            self.dropped += len(self._under_way)


def slots(marks: list[Mark]) -> list[int | float]:
    """The GPU time of each phase, flat: id and count as one number, ns.

    From its first event to its last, the GPU's idle moments between included. Of a wait for data that is what the GPU
    waited: while it has work left, it passes both events one after the other, whatever the host waited.
    """
    times: dict[int, list[float]] = {}
    begun: dict[int, Any] = {}
    for code, event in marks:
        phase = code >> 1
        if not code & 1:
            begun[phase] = event
        elif phase in begun:
            total = times.setdefault(phase, [0, 0.0])
            total[0] += 1
            total[1] += begun.pop(phase).elapsed_time(event) * 1e6
    flat: list[int | float] = []
    for phase, (count, time_ns) in list(times.items())[:PHASE_SLOTS]:
        flat += (phase | int(count) << COUNT_SHIFT, time_ns)
    return flat
