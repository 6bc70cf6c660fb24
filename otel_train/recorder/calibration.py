"""What the hot path costs here: measured once at ``init()``, on a scratch record, in about 2 ms.

The cost of a run is then counts times these, which a reader can tell from the record; timing each call as it runs
would cost as much again.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from otel_train.recorder.hot_path import Recorder
from otel_train.recorder.scopes import Phase, Step
from otel_train.runlog.layout import STEP_BYTES
from otel_train.runlog.segments import SegmentWriter
from otel_train.runlog.storage import Memory

ROUNDS = 9
STEPS = 40


@dataclass(frozen=True)
class Calibration:
    """Nanoseconds of the training thread for a step without phases, for each phase, for each wait for data, and for a
    hook's own function around a call."""

    step_ns: float
    phase_ns: float
    data_wait_ns: float
    hook_ns: float = 0.0


def calibrate() -> Calibration:
    """Time the scopes' own methods over an empty loop: the median of some rounds."""
    recorder = Recorder(time.perf_counter_ns, SegmentWriter(Memory(), "steps", STEP_BYTES, 1), lambda event: None)
    recorder.claim()
    enter_step, exit_step = recorder._step_methods()
    enter_phase, exit_phase = recorder._phase_methods()
    step, phase = Step((1, None, None, None)), Phase("calibration", 1)

    def plain() -> None:
        for _ in range(STEPS):
            enter_step(step)
            exit_step(step, None, None, None)

    def with_phase() -> None:
        for _ in range(STEPS):
            enter_step(step)
            enter_phase(phase)
            exit_phase(phase, None, None, None)
            exit_step(step, None, None, None)

    def with_wait() -> None:
        for _ in range(STEPS):
            start = recorder.clock()
            recorder.waited(recorder, start, recorder.clock(), 1, 1)
            enter_step(step)
            exit_step(step, None, None, None)

    bare, phased, waited = (
        statistics.median(_time(loop) for _ in range(ROUNDS)) for loop in (plain, with_phase, with_wait)
    )
    return Calibration(bare, max(phased - bare, 0.0), max(waited - bare, 0.0), _hook_ns())


def _hook_ns() -> float:
    """What a function around another costs, without what it records."""

    def nothing(*args: object, **kwargs: object) -> bool:
        return True

    def hook(*args: object, **kwargs: object) -> object:
        if not nothing():
            return nothing(*args, **kwargs)
        try:
            return nothing(*args, **kwargs)
        finally:
            nothing()

    def hooked() -> None:
        for _ in range(STEPS):
            hook(1, key=2)

    def plain() -> None:
        for _ in range(STEPS):
            nothing(1, key=2)

    with_hook, without = (statistics.median(_time(loop) for _ in range(ROUNDS)) for loop in (hooked, plain))
    return max(with_hook - without, 0.0)


def _time(loop: Callable[[], None]) -> float:
    start = time.perf_counter_ns()
    loop()
    return (time.perf_counter_ns() - start) / STEPS
