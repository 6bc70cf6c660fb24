"""Arithmetic of spans of time: arrays of shape (n, 2), start and end in ns, without overlaps, in order."""

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np

Spans: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


def spans(pairs: Iterable[tuple[int, int]]) -> Spans:
    """As an array."""
    return np.array(list(pairs), np.int64).reshape(-1, 2)


def union(pairs: Spans) -> Spans:
    """What at least one covers."""
    pairs = pairs[pairs[:, 1] > pairs[:, 0]]
    if not len(pairs):
        return pairs
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    reach = np.maximum.accumulate(pairs[:, 1])
    begins = np.concatenate(([True], pairs[1:, 0] > reach[:-1]))
    ends = np.concatenate((begins[1:], [True]))
    return np.column_stack((pairs[begins, 0], reach[ends]))


def total_ns(covered: Spans) -> int:
    """Their sum."""
    return int((covered[:, 1] - covered[:, 0]).sum())


def clip(covered: Spans, start_ns: int, end_ns: int) -> Spans:
    """What of them lies between two moments."""
    clipped = np.clip(covered, start_ns, end_ns)
    return clipped[clipped[:, 1] > clipped[:, 0]]


def gaps(covered: Spans, start_ns: int, end_ns: int) -> Spans:
    """What between two moments they do not cover."""
    inside = clip(covered, start_ns, end_ns)
    edges = np.concatenate(([start_ns], inside.reshape(-1), [end_ns])).reshape(-1, 2)
    return edges[edges[:, 1] > edges[:, 0]]


def covered_before(covered: Spans, moments: "np.ndarray[Any, np.dtype[np.int64]]") -> Spans:
    """How much of the covered time lies before each moment, in ns."""
    if not len(covered):
        return np.zeros(np.shape(moments), np.int64)
    lengths = covered[:, 1] - covered[:, 0]
    before = np.concatenate(([0], np.cumsum(lengths)))
    index = np.searchsorted(covered[:, 0], moments, side="right")
    last = np.maximum(index - 1, 0)
    beyond = np.where(index > 0, np.maximum(covered[last, 1] - moments, 0), 0)
    return before[index] - beyond


def overlap_ns(pairs: Spans, covered: Spans) -> Spans:
    """How much of each pair the covered time takes: shape (n,), ns. ``pairs`` may overlap."""
    return covered_before(covered, pairs[:, 1]) - covered_before(covered, pairs[:, 0])


def intersection(left: Spans, right: Spans) -> Spans:
    """What both cover."""
    if not len(left) or not len(right):
        return spans(())
    start, end = int(min(left[0, 0], right[0, 0])), int(max(left[-1, 1], right[-1, 1]))
    uncovered = np.concatenate((gaps(left, start, end), gaps(right, start, end)))
    return gaps(union(uncovered), start, end)
