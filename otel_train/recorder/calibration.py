"""What the hot path costs here: measured once at ``init()``, on a scratch record, in some milliseconds.

The cost of a run is then counts times these, which a reader can tell from the record; timing each call as it runs
would cost as much again. Each is measured with cold caches, as a training step leaves them: in a tight loop the same
calls take a third of that, which no step ever sees.
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

IN_A_LOOP = 4.0
"""What hooks cost in a real loop, as a multiple of what is measured here: 16 to 26 µs a step against 5.4, on CPython
3.10 and 3.13 (``benchmarks/hook_cost.py``). A step evicts code and branch history too, which copying bytes does not."""

SAMPLES = 15
PHASES = 3
COLD_BYTES = 1 << 20
"""Copied before each sample: more than the fast caches hold."""


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
        enter_step(step)
        exit_step(step, None, None, None)

    def with_phases() -> None:
        enter_step(step)
        for _ in range(PHASES):
            enter_phase(phase)
            exit_phase(phase, None, None, None)
        exit_step(step, None, None, None)

    def with_wait() -> None:
        start = recorder.clock()
        recorder.add_wait(recorder, start, recorder.clock(), 1, 1)
        enter_step(step)
        exit_step(step, None, None, None)

    bare, phased, waited = (_cold_ns(act) for act in (plain, with_phases, with_wait))
    return Calibration(bare, max(phased - bare, 0.0) / PHASES, max(waited - bare, 0.0), _hook_ns())


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

    hooked = _cold_ns(lambda: hook(1, key=2))
    plain = _cold_ns(lambda: nothing(1, key=2))
    return max(hooked - plain, 0.0)


def _cold_ns(act: Callable[[], object]) -> float:
    """What a call takes after the caches were used for something else: the median of some."""
    cold, other = bytearray(COLD_BYTES), bytes(COLD_BYTES)
    times = []
    for _ in range(SAMPLES):
        cold[:] = other
        start = time.perf_counter_ns()
        act()
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times)
