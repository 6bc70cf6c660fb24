"""What a GPU did in a window, and why it did nothing when it did.

Each moment of the window is one of these (s):

- ``math``: a kernel of the kind that multiplies matrices (matmul, convolution, attention) ran;
- ``memory``: only other kernels ran, which read and write far more than they calculate;
- ``copy``: only copies ran;
- ``communication``: only collectives ran: what of them no computation hides;
- idle, and then the kernel that came next had not been launched when the gap began, because
  ``data``: the training waited for its batch; ``synchronisation``: the host had waited for the GPU, and the queue was
  empty; ``launch``: the host was busy with other things, most often with launching;
- idle ``queued``: the next kernel had been launched, but waited for another stream, or for its start.
"""

import re
from dataclasses import dataclass

import numpy as np

from otel_train.profiles import spans
from otel_train.profiles.spans import Spans
from otel_train.profiles.trace import COPY, KERNEL, ON_DEVICE, RUNTIME, Column, Trace

MATH, MEMORY, COPIES, COMMUNICATION = "math", "memory", "copy", "communication"
DATA, SYNCHRONISATION, LAUNCH, QUEUED = "data", "synchronisation", "launch", "queued"

COLLECTIVE = re.compile(r"nccl|rccl|ncclDev|onecclx", re.IGNORECASE)
MATRIX = re.compile(
    r"gemm|gemv|nvjet|cutlass|wgmma|tensorop|_mma_|winograd|fprop|dgrad|wgrad|conv(?!ert)|flash|fmha|sdpa|attention|"
    r"Cijk_|xmma|magma",
    re.IGNORECASE,
)
TENSOR_CORES = re.compile(
    r"nvjet|wgmma|tensorop|hmma|imma|xmma|_mma_|s\d{4,5}(gemm|cudnn)|flash|MFMA|_MI\d", re.IGNORECASE
)
"""Kernels of cuBLAS, cuDNN, CUTLASS and FlashAttention whose names say that they use tensor cores."""

WAITS = re.compile(r"(Stream|Device|Event|Ctx)Synchronize$|^cudaMemcpy$|hipMemcpyWithStream")
"""Calls that return when the GPU is done."""


QUEUE_NS = 100_000
"""A kernel with nothing in its way starts at most so long after its launch: 5 to 50 µs, and more after a pause."""


@dataclass(frozen=True)
class DeviceTimes:
    """A GPU's window, in s. ``times_s`` adds up to it."""

    window_s: float
    """Where the host runs ahead, the GPU's window is later than the host's: from the first to the last kernel that was
    launched in it."""
    times_s: dict[str, float]
    busy_s: float
    """A kernel or a copy ran."""
    kernels: int
    launches_s: float
    """What the host spent in launching."""
    copies: int
    copy_s: float
    """Of copies, hidden ones too."""
    copied_bytes: int | None
    communication_s: float
    """Of collectives, hidden ones too."""
    tensor_core_share: float | None
    """Of the matrix kernels' time, what kernels took that use tensor cores by their name; None without any."""
    waits: int
    """Calls that waited for the GPU."""


def device_times(trace: Trace, start_ns: int, end_ns: int, data: Spans | None = None) -> DeviceTimes | None:
    """The busiest device's; None where nothing ran on one. ``data``: when the host waited for its batch."""
    calls = launches(trace)
    launched = {correlation: int(trace.start_ns[call]) for correlation, call in calls.items()}
    ran = launched_in(trace, calls, start_ns, end_ns)
    if not len(ran):
        return None
    took = np.bincount(trace.device[ran] + 1, trace.duration_ns[ran].astype(float))
    ran = ran[trace.device[ran] == int(np.argmax(took)) - 1]
    window = _window(trace, ran, calls, start_ns, end_ns)
    matrix, tensor, collective = (_named(trace, ran, pattern) for pattern in (MATRIX, TENSOR_CORES, COLLECTIVE))
    kernel = trace.kind[ran] == KERNEL
    matrix &= kernel & ~collective
    pairs = np.clip(np.column_stack((trace.start_ns[ran], trace.end_ns[ran])), *window)
    taken, times = spans.spans(()), {}
    for what, which in (
        (MATH, matrix),
        (MEMORY, kernel & ~matrix & ~collective),
        (COPIES, ~kernel),
        (COMMUNICATION, collective),
    ):
        times[what] = _new_ns(pairs[which], taken) / 1e9
        taken = spans.union(np.concatenate((taken, pairs[which])))
    times |= _idle(trace, ran, taken, window, launched, data if data is not None else spans.spans(()))
    moved = trace.bytes[ran][trace.kind[ran] == COPY]
    launching = _runtime(trace, start_ns, end_ns, re.compile("Launch|Graph"))
    matrix_ns = int(trace.duration_ns[ran][matrix].sum())
    return DeviceTimes(
        (window[1] - window[0]) / 1e9,
        times,
        spans.total_ns(taken) / 1e9,
        int(kernel.sum()),
        int(trace.duration_ns[launching].sum()) / 1e9,
        len(moved),
        spans.total_ns(spans.union(pairs[trace.kind[ran] == COPY])) / 1e9,
        int(moved.sum()) if len(moved) and (moved >= 0).all() else None,
        spans.total_ns(spans.union(pairs[collective])) / 1e9,
        int(trace.duration_ns[ran][matrix & tensor].sum()) / matrix_ns if matrix_ns else None,
        len(_runtime(trace, start_ns, end_ns, WAITS)),
    )


def launches(trace: Trace) -> dict[int, int]:
    """The calls that launched something, by correlation."""
    calls = trace.of(RUNTIME)
    return {int(trace.correlation[call]): int(call) for call in calls if trace.correlation[call]}


def launched_in(trace: Trace, calls: dict[int, int], start_ns: int, end_ns: int) -> Column:
    """Kernels, copies and sets that were launched in a window, whenever they ran; calls: what ``launches`` found."""
    ran = trace.of(*ON_DEVICE)
    causes = np.array([calls.get(int(trace.correlation[index]), int(index)) for index in ran], np.int64)
    when = trace.start_ns[causes]
    inside: Column = ran[(when >= start_ns) & (when < end_ns)]
    return inside


def _window(trace: Trace, ran: Column, calls: dict[int, int], start_ns: int, end_ns: int) -> tuple[int, int]:
    """From the first kernel on, if it had to wait in the queue (behind work that was launched before the window)."""
    first = ran[np.argmin(trace.start_ns[ran])]
    begun, call = int(trace.start_ns[first]), calls.get(int(trace.correlation[first]))
    queued = call is not None and begun - int(trace.end_ns[call]) > QUEUE_NS
    return (begun if queued else start_ns), max(end_ns, int(trace.end_ns[ran].max()))


def _named(trace: Trace, indices: Column, pattern: "re.Pattern[str]") -> Column:
    known = np.array([bool(pattern.search(name)) for name in trace.names], bool)
    matching: Column = known[trace.name[indices]]
    return matching


def _runtime(trace: Trace, start_ns: int, end_ns: int, pattern: "re.Pattern[str]") -> Column:
    """Calls of the device's runtime in the window whose name fits."""
    calls = trace.of(RUNTIME)
    calls = calls[(trace.end_ns[calls] > start_ns) & (trace.start_ns[calls] < end_ns)]
    fitting: Column = calls[_named(trace, calls, pattern)]
    return fitting


def _new_ns(pairs: Spans, taken: Spans) -> int:
    """What the pairs cover that was not taken before."""
    covered = spans.union(pairs)
    return spans.total_ns(covered) - int(spans.overlap_ns(covered, taken).sum())


def _idle(
    trace: Trace, ran: Column, busy: Spans, window: tuple[int, int], launches: dict[int, int], data: Spans
) -> dict[str, float]:
    """The gaps, by their reason, in s."""
    order = ran[np.argsort(trace.start_ns[ran], kind="stable")]
    starts = trace.start_ns[order]
    waits = _runtime(trace, *window, WAITS)
    waited = spans.union(np.column_stack((trace.start_ns[waits], trace.end_ns[waits])))
    times = {DATA: 0, SYNCHRONISATION: 0, LAUNCH: 0, QUEUED: 0}
    for start, end in spans.gaps(busy, *window).tolist():
        place = int(np.searchsorted(starts, end))
        launched = end
        if place < len(order) and starts[place] == end:
            launched = launches.get(int(trace.correlation[order[place]]), start)
        late = min(max(launched, start), end)
        for_data = int(spans.overlap_ns(spans.spans([(start, late)]), data)[0])
        times[QUEUED] += end - late
        times[DATA] += for_data
        times[SYNCHRONISATION if _was_waiting(waited, start) else LAUNCH] += late - start - for_data
    return {what: took / 1e9 for what, took in times.items()}


def _was_waiting(waited: Spans, moment: int) -> bool:
    """Did the host wait for the GPU when it became idle?"""
    index = int(np.searchsorted(waited[:, 0], moment, side="right")) - 1
    return index >= 0 and bool(waited[index, 1] >= moment)
