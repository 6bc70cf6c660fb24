"""A profiled window, judged: its operators, its device, what bounds it, and what to do about it."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from otel_train.profiles import spans
from otel_train.profiles.device import (
    COMMUNICATION,
    COPIES,
    DATA,
    LAUNCH,
    MATH,
    MEMORY,
    QUEUED,
    SYNCHRONISATION,
    DeviceTimes,
    device_times,
)
from otel_train.profiles.operators import Row, Table, main_thread, tabulate
from otel_train.profiles.peaks import flops, peak_flops
from otel_train.profiles.spans import Spans
from otel_train.profiles.synchronisations import Wait, waits
from otel_train.profiles.trace import (
    ANNOTATION,
    BLOCK_NAME,
    MARK,
    OPERATOR,
    RUNTIME,
    STEP_NAME,
    Trace,
    marked_steps,
)
from otel_train.runlog.layout import DATA_WAIT

INPUT, COMPUTE = "input", "compute"

SMALL_S = 10e-6
"""An operator on the host whose calls take less is mostly the price of calling it: torch needs 1 to 5 µs a call."""

MOST_OF_A_WINDOW_NS, MOST_OF_AN_EVENT_NS = 10_000_000, 10_000
"""What the profiler can cost inside a window, and more for each event on the host: 3 ms until CUPTI lets the first
launch pass and 4 µs an event on the H200's host, 1 µs an event on a fast CPU."""

MATRIX_OPERATOR = re.compile(r"::(mm|bmm|addmm|baddbmm|linear|.*conv.*|.*matmul.*|.*attention.*|lstm|gru|_.*_linear)$")
COLLECTIVE_OPERATOR = re.compile(r"^(c10d|gloo|nccl|mpi|_c10d_functional)\b|record_param_comms")
LOADER_MARK = re.compile(r"^enumerate\(DataLoader\)#.*__next__$")
"""How torch marks the wait for a batch."""


@dataclass(frozen=True)
class Analysis:
    """What a window of one rank was. Times in s."""

    window_s: float
    table: Table
    device: DeviceTimes | None
    """None where nothing ran on a GPU."""
    slowdown_s: float | None
    """By how much the profiler made the window longer than its steps usually are; None where that is not known."""
    shares: dict[str, float]
    """What each class takes of the window (the GPU's, where there is one) without the slowdown; they add up to 1."""
    waits: list[Wait]
    """Where the host waited for the GPU, the longest first."""
    flops: float | None
    mfu: float | None
    """Of the device's peak, over the window without the slowdown; None where shapes or the device are not known."""

    @property
    def bound(self) -> str:
        """The largest class."""
        return max(self.shares, key=lambda what: self.shares[what])


def window_of(trace: Trace) -> tuple[int, int, int | None]:
    """Start, end and thread: of the steps or block that we marked, of the last step that torch marked, or of all."""
    own = [index for index in trace.of(MARK) if trace.named(index).startswith((STEP_NAME, BLOCK_NAME))]
    if own:
        return int(trace.start_ns[own].min()), int(trace.end_ns[own].max()), int(trace.thread[own[0]])
    steps = marked_steps(trace)
    if steps:
        return *steps[-1], None
    host = trace.of(OPERATOR, ANNOTATION)
    host = host if len(host) else np.arange(len(trace))
    return int(trace.start_ns[host].min()), int(trace.end_ns[host].max()), None


def analyze(
    trace: Trace,
    start_ns: int,
    end_ns: int,
    data: Spans | None = None,
    thread: int | None = None,
    pause: Callable[[], None] = lambda: None,
    usual_ns: float | None = None,
) -> Analysis:
    """Judge a window.

    ``data``: when it waited for its batch; else torch's own marks say it. ``usual_ns``: how long its steps take without
    the profiler; else the trace may know it.
    """
    thread = main_thread(trace, start_ns, end_ns) if thread is None else thread
    table = tabulate(trace, start_ns, end_ns, thread, pause)
    data = data_waits(trace) if data is None else data
    device = device_times(trace, start_ns, end_ns, data)
    waited_s = spans.total_ns(spans.clip(data, start_ns, end_ns)) / 1e9
    slowdown_s = _slowdown(trace, start_ns, end_ns, trace.usual_ns if usual_ns is None else usual_ns)
    by_class = host_classes(table, waited_s) if device is None else device_classes(device)
    times = _without(slowdown_s or 0.0, by_class)
    total_s = sum(times.values()) or 1.0
    calculated = flops(trace, start_ns, end_ns)
    peak = peak_flops(trace.device_name)
    mfu = calculated / total_s / peak if calculated and peak and device is not None else None
    return Analysis(
        (end_ns - start_ns) / 1e9, table, device, slowdown_s, {what: took / total_s for what, took in times.items()},
        waits(trace, start_ns, end_ns), calculated, mfu,
    )  # fmt: skip


def _slowdown(trace: Trace, start_ns: int, end_ns: int, usual_ns: float | None) -> float | None:
    """In s: what is beyond the usual time, as far as the profiler can have done it."""
    if not usual_ns:
        return None
    host = trace.of(OPERATOR, ANNOTATION, RUNTIME)
    events = int(((trace.start_ns[host] >= start_ns) & (trace.start_ns[host] < end_ns)).sum())
    most_ns = MOST_OF_A_WINDOW_NS + events * MOST_OF_AN_EVENT_NS
    return min(max(end_ns - start_ns - usual_ns, 0.0), most_ns) / 1e9


def _without(slowdown_s: float, by_class: dict[str, float]) -> dict[str, float]:
    """The profiler's time is the host's, between launches or operators, and after it waited for the GPU."""
    times, left_s = dict(by_class), slowdown_s
    for what in (LAUNCH, SYNCHRONISATION):
        off_s = min(times.get(what, 0.0), left_s)
        if off_s:
            times[what] -= off_s
            left_s -= off_s
    return times


def data_waits(trace: Trace) -> Spans:
    """When the training waited for a batch: as we marked it, or else as torch marks its own loaders."""
    marked = [index for index in trace.of(MARK) if trace.named(index) == DATA_WAIT]
    marked = marked or [index for index in trace.of(ANNOTATION) if LOADER_MARK.search(trace.named(index))]
    return spans.union(spans.spans((int(trace.start_ns[index]), int(trace.end_ns[index])) for index in marked))


def device_classes(device: DeviceTimes) -> dict[str, float]:
    """The GPU's window by class, in s."""
    times = device.times_s
    return {
        INPUT: times[DATA],
        SYNCHRONISATION: times[SYNCHRONISATION],
        LAUNCH: times[LAUNCH] + times[QUEUED],
        COMMUNICATION: times[COMMUNICATION],
        COPIES: times[COPIES],
        COMPUTE: times[MATH],
        MEMORY: times[MEMORY],
    }


def host_classes(table: Table, waited_s: float) -> dict[str, float]:
    """A window without a GPU by class, in s. ``launch`` is Python, and operators too small to be worth their calls."""
    by_class = dict.fromkeys((INPUT, COMMUNICATION, COMPUTE, MEMORY, LAUNCH), 0.0)
    by_class[LAUNCH] = table.none_s
    for row in table.rows:
        by_class[_class_of(row)] += row.window_s
    loader_s = by_class[INPUT]
    rest_s = max(waited_s - loader_s, 0.0)  # what the loader did meanwhile is operators, Python and waiting of its own
    others_s = sum(took for what, took in by_class.items() if what != INPUT)
    if others_s:
        scale = max(others_s - rest_s, 0.0) / others_s
        by_class = {what: took if what == INPUT else took * scale for what, took in by_class.items()}
        by_class[INPUT] = loader_s + min(rest_s, others_s)
    return by_class


def _class_of(row: Row) -> str:
    if LOADER_MARK.search(row.name):
        return INPUT
    if COLLECTIVE_OPERATOR.search(row.name):
        return COMMUNICATION
    if row.kind == ANNOTATION or row.self_s / row.calls < SMALL_S:
        return LAUNCH
    return COMPUTE if MATRIX_OPERATOR.search(row.name) else MEMORY
