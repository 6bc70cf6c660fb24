"""Which operators and kernels took the time of a window: self times, and each one's part of the window.

*Self time* is an event's time without what it calls, on its own thread: the sum over all is what
``key_averages()`` calls self CPU time. *The part of the window* divides the window's own time: what the training
thread was in, or, while it was in nothing, what another thread was in (the backward of a GPU's autograd engine);
what is left is Python, or waiting.
"""

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from otel_train.profiles import spans
from otel_train.profiles.device import launched_in, launches
from otel_train.profiles.spans import Spans
from otel_train.profiles.trace import (
    ALLOCATION,
    ANNOTATION,
    ON_DEVICE,
    OPERATOR,
    OVERHEAD,
    RUNTIME,
    STEP_MARK,
    Column,
    Trace,
)

ON_HOST = (OPERATOR, ANNOTATION, RUNTIME, OVERHEAD)
PIECE = 200


@dataclass(frozen=True)
class Row:
    """An operator, a call of the device's runtime, or a kernel, over the window. Times in s."""

    name: str
    kind: int
    calls: int
    self_s: float = 0.0
    """On the host, over all threads."""
    total_s: float = 0.0
    """On the host with what it calls, over all threads; of calls inside a call of the same name the outer one's."""
    window_s: float = 0.0
    """Its part of the window."""
    device_s: float = 0.0
    """Of what it launched itself on the device; of a kernel its own time."""
    memory: int | None = None
    """Bytes that it allocated itself less those that it freed, on the device if any were there, else on the host."""
    shapes: str | None = None
    """The shapes of its inputs in the calls that took most of its own time; None where none were recorded."""


@dataclass(frozen=True)
class Table:
    """The rows, the largest first, and what is in none of them."""

    rows: list[Row]
    kernels: list[Row]
    none_s: float
    """The window's time in which no operator ran: Python, and waiting."""
    window_s: float


def innermost(trace: Trace, indices: Column, pause: Callable[[], None] = lambda: None) -> tuple[Spans, Column]:
    """For events of one thread (in the trace's order): when each was the innermost one. Spans and their events."""
    starts, ends = trace.start_ns[indices].tolist(), trace.end_ns[indices].tolist()
    pairs, owners = array("q"), array("q")
    stack: list[tuple[int, int]] = []
    now = 0

    def until(moment: int) -> None:
        nonlocal now
        if moment > now and stack:
            pairs.extend((now, moment))
            owners.append(stack[-1][1])
        now = max(now, moment)

    for place, (index, start, end) in enumerate(zip(indices.tolist(), starts, ends, strict=True)):
        while stack and stack[-1][0] <= start:
            until(stack[-1][0])
            stack.pop()
        until(start)
        stack.append((min(end, stack[-1][0]) if stack else end, index))
        if place % PIECE == 0:
            pause()
    while stack:
        until(stack[-1][0])
        stack.pop()
    return np.array(pairs, np.int64).reshape(-1, 2), np.array(owners, np.int64)


def main_thread(trace: Trace, start_ns: int, end_ns: int) -> int | None:
    """The thread of the window, where nothing else says it: the one that marks steps, else the first at work."""
    host = trace.of(OPERATOR, ANNOTATION, RUNTIME)
    host = host[(trace.end_ns[host] > start_ns) & (trace.start_ns[host] < end_ns)]
    marked = [index for index in host if trace.named(index).startswith(STEP_MARK)]
    first = marked or host[:1]
    return int(trace.thread[first[0]]) if len(first) else None


def tabulate(
    trace: Trace,
    start_ns: int,
    end_ns: int,
    thread: int | None = None,
    pause: Callable[[], None] = lambda: None,
) -> Table:
    """The operators of a window. Events that lie partly in it count with what lies in it."""
    thread = main_thread(trace, start_ns, end_ns) if thread is None else thread
    host = trace.of(*ON_HOST)
    marks = {identity for identity, name in enumerate(trace.names) if name.startswith(STEP_MARK)}
    host = host[~np.isin(trace.name[host], list(marks))]
    threads = _threads(trace, host)
    self_ns, window_ns, allocated = (np.zeros(len(trace), np.int64) for _ in range(3))
    left = spans.spans([(start_ns, end_ns)])
    for each in sorted(set(threads.tolist()), key=lambda known: known != thread):
        pairs, owners = innermost(trace, host[threads == each], pause)
        allocated += _allocated(trace, each, pairs, owners, start_ns, end_ns)
        clipped = np.clip(pairs, start_ns, end_ns)
        np.add.at(self_ns, owners, clipped[:, 1] - clipped[:, 0])
        np.add.at(window_ns, owners, spans.overlap_ns(clipped, left))
        left = spans.intersection(left, spans.gaps(spans.union(clipped), start_ns, end_ns))
    inside = _inside(trace, start_ns, end_ns)
    ran = launched_in(trace, launches(trace), start_ns, end_ns)
    launched_ns = _launched(trace, host, ran)
    rows = _rows(trace, host, threads, inside, (self_ns, window_ns, launched_ns, allocated))
    return Table(
        sorted(rows, key=lambda row: (-max(row.window_s, row.device_s), row.name)),
        sorted(_kernels(trace, ran), key=lambda row: (-row.device_s, row.name)),
        spans.total_ns(left) / 1e9,
        (end_ns - start_ns) / 1e9,
    )


def _threads(trace: Trace, host: Column) -> Column:
    """The thread of each event of the host; that of the profiler's own overhead is the one that it interrupted."""
    threads: Column = trace.thread[host].copy()
    for place in np.flatnonzero(trace.kind[host] == OVERHEAD):
        start, end = trace.start_ns[host[place]], trace.end_ns[host[place]]
        around = (trace.start_ns[host] <= start) & (trace.end_ns[host] >= end) & (trace.kind[host] != OVERHEAD)
        if around.any():
            threads[place] = threads[np.flatnonzero(around)[-1]]
    return threads


def _allocated(trace: Trace, thread: int, pairs: Spans, owners: Column, start_ns: int, end_ns: int) -> Column:
    """Bytes of each event of a thread: what was allocated while it was the innermost, less what was freed."""
    allocated = np.zeros(len(trace), np.int64)
    changes = _on_one_memory(trace, trace.of(ALLOCATION))
    when = trace.start_ns[changes]
    changes = changes[(trace.thread[changes] == thread) & (when >= start_ns) & (when < end_ns)]
    if len(pairs) and len(changes):
        places = np.searchsorted(pairs[:, 0], trace.start_ns[changes], side="right") - 1
        held = (places >= 0) & (trace.start_ns[changes] < pairs[places, 1])
        np.add.at(allocated, owners[places[held]], trace.bytes[changes[held]])
    return allocated


def _on_one_memory(trace: Trace, changes: Column) -> Column:
    """Of allocations those on the device, if there are any, else those on the host."""
    on_device = changes[trace.device[changes] >= 0]
    return on_device if len(on_device) else changes


def _inside(trace: Trace, start_ns: int, end_ns: int) -> Column:
    """ns of each event in the window."""
    clipped = np.clip(np.column_stack((trace.start_ns, trace.end_ns)), start_ns, end_ns)
    inside: Column = clipped[:, 1] - clipped[:, 0]
    return inside


def _launched(trace: Trace, host: Column, ran: Column) -> Column:
    """ns on the device of what each operator launched itself in the window."""
    launched = np.zeros(len(trace), np.int64)
    operators = host[(trace.kind[host] != RUNTIME) & (trace.link[host] > 0)]
    by_link = dict(zip(trace.link[operators].tolist(), operators.tolist(), strict=True))
    for index in ran:
        owner = by_link.get(int(trace.link[index]))
        if owner is not None:
            launched[owner] += trace.duration_ns[index]
    return launched


def _rows(
    trace: Trace, host: Column, threads: Column, inside: Column, values: tuple[Column, Column, Column, Column]
) -> list[Row]:
    """By name and kind. The values are each event's own ns, its ns of the window and on the device, and its bytes."""
    host, threads = host[inside[host] > 0], threads[inside[host] > 0]
    keys, which, calls = np.unique(
        np.column_stack((trace.name[host], trace.kind[host])), axis=0, return_inverse=True, return_counts=True
    )
    which = which.reshape(-1)
    *sums, memory = (np.bincount(which, value[host], len(keys)) for value in values)
    total = np.bincount(which, np.where(_outermost(trace, host, threads, which), inside[host], 0), len(keys))
    known = len(trace.of(ALLOCATION)) > 0
    shapes = _shapes(trace, host, which, values[0])
    return [
        Row(
            trace.names[name], kind, count, own / 1e9, whole / 1e9, of_window / 1e9, launched / 1e9,
            round(held) if known else None, shapes.get(group),
        )
        for group, ((name, kind), count, own, whole, of_window, launched, held) in enumerate(zip(
            keys.tolist(), calls.tolist(), sums[0].tolist(), total.tolist(), sums[1].tolist(), sums[2].tolist(),
            memory.tolist(), strict=True,
        ))
    ]  # fmt: skip


def _shapes(trace: Trace, host: Column, which: Column, self_ns: Column) -> dict[int, str]:
    """By group of ``which``: the inputs' shapes that its calls spent most of their own time on."""
    spent: dict[int, dict[str, int]] = {}
    for index, group in zip(host.tolist(), which.tolist(), strict=True):
        if index in trace.shapes:
            times = spent.setdefault(group, {})
            written = _written(trace.shapes[index])
            times[written] = times.get(written, 0) + int(self_ns[index])
    return {group: max(times, key=lambda written: times[written]) for group, times in spent.items()}


def _written(dimensions: list[Any]) -> str:
    """``8x256 256x256``: a scalar is nothing, of a list of tensors each is written."""
    parts = []
    for each in dimensions:
        nested = each and isinstance(each[0], list)
        parts += [f"({_written(each)})"] if nested else ["x".join(map(str, each))] if each else []
    return " ".join(parts)


def _outermost(trace: Trace, host: Column, threads: Column, which: Column) -> Column:
    """Which events lie in no other of their name on their thread."""
    outermost = np.ones(len(host), bool)
    starts, ends = trace.start_ns[host], trace.end_ns[host]
    order = np.lexsort((starts, threads, which))
    changes = (np.diff(which[order]) != 0) | (np.diff(threads[order]) != 0)
    for alike in np.split(order, np.flatnonzero(changes) + 1):
        outermost[alike[1:]] = starts[alike[1:]] >= np.maximum.accumulate(ends[alike])[:-1]
    return outermost


def _kernels(trace: Trace, ran: Column) -> list[Row]:
    found: list[Row] = []
    for kind in ON_DEVICE:
        indices = ran[trace.kind[ran] == kind]
        for identity in np.unique(trace.name[indices]).tolist():
            same = indices[trace.name[indices] == identity]
            found.append(Row(trace.names[identity], kind, len(same), device_s=int(trace.duration_ns[same].sum()) / 1e9))
    return found
