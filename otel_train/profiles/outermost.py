"""The operators that no other operator called, at their true times: child spans of a profiled step's phases."""

from dataclasses import dataclass

import numpy as np

from otel_train.profiles.trace import ANNOTATION, OPERATOR, STEP_MARK, Column, Trace

MOST_SPANS = 256
"""Of a profile: a transformer of 12 layers calls some 400 of them a step, most of them for a few µs."""


@dataclass(frozen=True)
class Outermost:
    """One call. Times in Unix ns."""

    name: str
    start_ns: int
    end_ns: int


def outermost(trace: Trace, start_ns: int, end_ns: int) -> tuple[list[Outermost], int]:
    """The ``MOST_SPANS`` longest calls in the window, of all threads, in their order; how many more there are."""
    host = trace.of(OPERATOR, ANNOTATION)
    host = host[(trace.start_ns[host] >= start_ns) & (trace.end_ns[host] <= end_ns)]
    host = host[[not trace.named(index).startswith(STEP_MARK) for index in host]] if len(host) else host
    parts = [_of_thread(trace, host[trace.thread[host] == each]) for each in np.unique(trace.thread[host])]
    found = np.concatenate(parts) if parts else host
    kept = found[np.argsort(-trace.duration_ns[found], kind="stable")[:MOST_SPANS]]
    calls = [
        Outermost(trace.named(index), int(trace.start_ns[index]), int(trace.end_ns[index])) for index in np.sort(kept)
    ]
    return calls, len(found) - len(kept)


def _of_thread(trace: Trace, indices: Column) -> Column:
    """Of one thread's events, in their order, those that begin when all before them are over."""
    before = np.concatenate(([np.iinfo(np.int64).min], np.maximum.accumulate(trace.end_ns[indices])[:-1]))
    found: Column = indices[trace.start_ns[indices] >= before]
    return found
