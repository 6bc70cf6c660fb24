"""Which level is in force: the one asked for, or the highest below it that the training can afford.

The governor weighs what otel_train costs a step (counts times what was measured at ``init()``) against the median step.
Above the budget it goes a level down, well below it up again, and says so. The change itself happens between two steps,
on the training thread.
"""

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from otel_train import guard, instrumentation
from otel_train.hooks.gpu_timing import READING, GpuTimer
from otel_train.names import GPU_MISSED, LEVEL, LEVEL_NAME, LEVEL_SHARE, LEVEL_STEP_TIME
from otel_train.recorder.calibration import IN_A_LOOP, Calibration
from otel_train.recorder.hot_path import Recorder
from otel_train.recorder.implied import ImpliedSteps
from otel_train.recorder.signals import signals
from otel_train.runlog.events import Event
from otel_train.runlog.layout import EVALUATION, GPU_STRUCTS
from otel_train.runlog.records import SegmentReader
from otel_train.runlog.segments import SegmentWriter

STEPS, PHASES, GPU = "steps", "phases", "gpu"
ORDER = (STEPS, PHASES, GPU)

ENOUGH_STEPS = 20
"""New steps without which the governor does not judge."""

UP_AGAIN = 0.6
"""A level is taken up again when it would cost less than this part of the budget."""

LOOK_FOR_GPU_STEPS = 20
"""Steps after which a training that uses no GPU is taken to use none."""

MODELS_KNOWN_STEPS = 5
"""Steps in which the hooks find the models, and with them their device."""

MARKS = 8
"""Edges of phases in a usual step: data, forward, backward and optimizer, two each."""

GPU_BUDGET = 0.25
"""The part of the budget that GPU times may take: so rarely is a step timed. On a 10 ms step it is one in three."""


class Levels:
    """The level in force. ``govern`` is the keeper's duty; everything else is the training thread's."""

    def __init__(
        self,
        recorder: Recorder,
        implied: ImpliedSteps,
        calibration: Calibration,
        wanted: str,
        budget: float | None,
        open_writer: Callable[[], SegmentWriter],
    ) -> None:
        self._recorder = recorder
        self._implied = implied
        self._calibration = calibration
        self._wanted = wanted
        self._budget = budget
        self._open_writer = open_writer
        self._writer: SegmentWriter | None = None
        self._timer: GpuTimer | None = None
        self._device: Any = None
        """The model's, when the timer was made: None where no model was known."""
        self._looked = 0
        self._judged = 0
        self._phases_a_step = 4.0
        self._undo: list[Callable[[], None]] = []
        self.current = min(wanted, PHASES, key=ORDER.index)
        self.share: float | None = None
        """What otel_train costs a step, as a part of the median step; None before it was judged."""

    def start(self) -> None:
        """Look for a GPU after each of the first steps, where its times are wanted."""
        if self._wanted == GPU:
            self._recorder.after_step.append(self._look_for_gpu)

    def prepare(self) -> None:
        """Off the training thread: have the next segment ready."""
        if self._writer is not None:
            self._writer.prepare()

    @property
    def timed_every(self) -> int:
        """One step in so many has its GPU times; 0 without a GPU."""
        return self._timer.every if self._timer is not None else 0

    @property
    def mark_us(self) -> float:
        """What one event on the GPU costs the host here, in µs; 0 without a GPU."""
        return self._timer.mark_ns / 1e3 if self._timer is not None else 0.0

    @property
    def marks_ns(self) -> float:
        """What marking phases on the GPU has cost so far."""
        return self._timer.mark_ns * self._timer.marked if self._timer is not None else 0.0

    def told(self) -> dict[str, Any]:
        """The level in force, what it costs where that was judged, and the steps whose GPU time could not be had."""
        share = {LEVEL_SHARE: self.share} if self.share is not None else {}
        missed = {GPU_MISSED: self._timer.dropped} if self._timer is not None else {}
        return {LEVEL_NAME: self.current, **share, **missed}

    def finish(self) -> None:
        """At shutdown, on whatever thread."""
        if self._timer is not None:
            with guard.guarded("gpu timing"):
                self._timer.finish()
        while self._undo:
            self._undo.pop()()

    # -- the GPU ---------------------------------------------------------------------------------------------------

    def _look_for_gpu(self) -> None:
        self._looked += 1
        torch: Any = sys.modules.get("torch")
        device = signals.device
        if device is None and instrumentation.is_instrumented() and self._looked < MODELS_KNOWN_STEPS:
            return  # which device is the model's? Not always the current one
        found = torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()
        if found and (device is None or device.type == "cuda") and not torch.cuda.is_current_stream_capturing():
            self._recorder.after_step.remove(self._look_for_gpu)
            self._device = device
            self._timer = self._timer_of(device or torch.device("cuda"))
            self._undo.append(instrumentation.also("host_to_device", torch))
            self._change(GPU)
        elif self._looked >= LOOK_FOR_GPU_STEPS:
            self._recorder.after_step.remove(self._look_for_gpu)

    def _timer_of(self, device: Any) -> GpuTimer:
        return GpuTimer(sys.modules["torch"], device, self._recorder.clock, self._write_gpu, self._recorder.state.marks)

    def _follow(self, timer: GpuTimer, device: Any) -> None:
        """Another model was found: a second training in the process may be on another GPU than the first."""
        self._device = device
        if device.type == "cuda" and not timer.is_on(device):
            timer.finish()
            self._timer = self._timer_of(device)
            self._timer.goes_on_from(timer)
            self._change(GPU)

    def _write_gpu(self, step: int, time_ns: int, slots: list[Any], memory: "tuple[int, int, int, int] | None") -> None:
        if self._writer is None:
            self._writer = self._open_writer()
        retries, allocated, reserved, peak = memory or (0, -1, -1, -1)
        count = len(slots) // 2
        self._writer.append(
            GPU_STRUCTS[count], step, time_ns, count, retries, allocated, reserved, peak, *slots
        )  # fmt: skip

    def _step_over(self) -> None:
        timer = self._timer
        if timer is not None:
            state = self._recorder.state
            timer.step_over(None if state.flags & EVALUATION else state.number, state.cut)
            if signals.device is not self._device:
                self._follow(timer, signals.device)

    # -- changing --------------------------------------------------------------------------------------------------

    def _change(self, level: str) -> None:
        """Between two steps, on the training thread."""
        after_step, timer = self._recorder.after_step, self._timer if level == GPU else None
        if self._step_over in after_step:
            after_step.remove(self._step_over)
        if timer is not None:
            after_step.append(self._step_over)
        self.current = level
        if timer is None:
            self._recorder.change(level != STEPS, None)
        else:
            self._recorder.change(True, timer.mark, timer.next_step)
        if self._recorder.is_active:
            self._implied.activate()

    def _request(self, level: str) -> None:
        def change() -> None:
            self._recorder.after_step.remove(change)
            self._change(level)

        self._recorder.after_step.append(change)

    # -- the governor ----------------------------------------------------------------------------------------------

    def govern(self, steps: SegmentReader) -> None:
        """Judge the steps since the last time, and go a level down or up where they ask for it. Any thread."""
        first, end = steps.bounds()
        if end - max(first, self._judged) < ENOUGH_STEPS or self._budget is None:
            return
        records = np.concatenate([part[["duration_ns", "phase_count"]] for _, part in steps.read(self._judged)])
        self._judged = end
        step_ns = float(np.median(records["duration_ns"]))
        if self.current != STEPS:
            self._phases_a_step = float(np.mean(records["phase_count"]))
        step_ns = max(step_ns, 1.0)
        self._choose_timed_steps(step_ns)
        self.share = self.cost_ns(self.current) / step_ns
        highest = GPU if self._timer is not None else min(self._wanted, PHASES, key=ORDER.index)
        index = ORDER.index(self.current)
        if self.share > self._budget and index > 0:
            self._go(ORDER[index - 1], step_ns, "above")
        elif index < ORDER.index(highest):
            above = ORDER[index + 1]
            if self.cost_ns(above) / step_ns < self._budget * UP_AGAIN:
                self._go(above, step_ns, "well below")

    def cost_ns(self, level: str) -> float:
        """What a step costs at a level: counts times what was measured."""
        measured, instrumented = self._calibration, instrumentation.is_instrumented()
        cost = measured.step_ns + measured.data_wait_ns
        phases = max(self._phases_a_step - 1, 0.0)
        if instrumented:  # hooks run at every level: steps are told from them
            cost += phases * measured.hook_ns
        if level != STEPS:
            cost += phases * measured.phase_ns
        if instrumented:
            cost *= IN_A_LOOP
        if level == GPU and self._timer is not None:
            cost += self._timed_step_ns() / self._timer.every
        return cost

    def _timed_step_ns(self) -> float:
        """What GPU times cost a step that has them."""
        marks = max(2 * self._phases_a_step, MARKS)
        return self._timer.mark_ns * marks * (1 + READING) if self._timer is not None else 0.0

    def _choose_timed_steps(self, step_ns: float) -> None:
        if self._timer is not None and self._budget:
            self._timer.every = max(math.ceil(self._timed_step_ns() / (step_ns * self._budget * GPU_BUDGET)), 1)

    def _go(self, level: str, step_ns: float, where: str) -> None:
        share, budget = self.share or 0.0, self._budget or 0.0
        guard.warn_once(
            f"level {level} {where}",
            "otel_train costs %.1f µs of a step of %.0f µs: %.2f %%, %s its budget of %.2g %%. It goes from level %s "
            "to %s. OTEL_TRAIN_OVERHEAD_BUDGET sets the budget (off: none), OTEL_TRAIN_LEVEL the highest level",
            self.cost_ns(self.current) / 1e3, step_ns / 1e3, share * 100, where, budget * 100, self.current, level,
        )  # fmt: skip
        attributes = {LEVEL_NAME: level, LEVEL_SHARE: share, LEVEL_STEP_TIME: step_ns / 1e9}
        self._recorder.sidelines.event(Event(LEVEL, self._recorder.clock(), attributes=attributes))
        self._request(level)
