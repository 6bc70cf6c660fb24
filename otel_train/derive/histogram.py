"""Base-2 exponential histograms of OpenTelemetry's data model, filled from arrays.

The mapping is the data model's "logarithm method" with its exact treatment of powers of two
(opentelemetry-specification, ``metrics/data-model.md``, "Exponential Buckets", "All Scales: Use the Logarithm
Function"), the one that the SDK uses too: bucket ``i`` at scale ``s`` holds ``(b**i, b**(i+1)]`` with ``b = 2**2**-s``.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

Integers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Values: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

MAX_BUCKETS = 160
"""As the SDK: a histogram has so many buckets at most, at the finest scale with which its values fit."""

MAX_SCALE = 20

_SMALLEST = float(np.finfo(np.float64).smallest_normal)
_PER_LOG = math.ldexp(1 / math.log(2), MAX_SCALE)


def bucket_indices(values: Values) -> Integers:
    """The bucket of each value above 0 at scale 20; at a coarser scale it is this, shifted right by the difference."""
    values = np.maximum(values, _SMALLEST)
    mantissas, exponents = np.frexp(values)
    floors = (exponents.astype(np.int64) - 1) << MAX_SCALE
    indices = np.floor(np.log(values) * _PER_LOG).astype(np.int64)
    # The logarithm may round across a power of two, which is a boundary at every scale.
    indices = np.clip(indices, floors, floors + (1 << MAX_SCALE) - 1)
    return np.where(mantissas == 0.5, floors - 1, indices)


@dataclass
class Histogram:
    """A distribution of values from 0 up: count, sum, extremes, and buckets ``offset``, ``offset + 1``, …"""

    count: int = 0
    sum: float = 0.0
    min: float = math.inf
    max: float = -math.inf
    zeros: int = 0
    scale: int = MAX_SCALE
    offset: int = 0
    buckets: Integers = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, values: Values, counts: Integers | None = None) -> None:
        """Add finite values, each once, or as often as ``counts`` says. About 0.05 µs a value."""
        if not len(values):
            return
        weights = np.ones(len(values), np.int64) if counts is None else counts
        self.count += int(weights.sum())
        self.sum += float(values.sum() if counts is None else values @ counts)
        self.min, self.max = min(self.min, float(np.min(values))), max(self.max, float(np.max(values)))
        positive = values > 0
        if not positive.all():
            self.zeros += int(weights[~positive].sum())
            values, weights = values[positive], weights[positive]
        if len(values):
            self._add_indices(bucket_indices(values), None if counts is None else weights)

    def merge(self, other: "Histogram") -> None:
        """Add another histogram's values, at the finer scale with which both fit."""
        self.count += other.count
        self.sum += other.sum
        self.min, self.max = min(self.min, other.min), max(self.max, other.max)
        self.zeros += other.zeros
        if not len(other.buckets):
            return
        indices = other.offset + np.arange(len(other.buckets))
        if other.scale < self.scale:
            self._coarsen(other.scale)
        self._make_room(int(indices[0]) >> (other.scale - self.scale), int(indices[-1]) >> (other.scale - self.scale))
        np.add.at(self.buckets, (indices >> (other.scale - self.scale)) - self.offset, other.buckets)

    def copy(self) -> "Histogram":
        """The same values, apart from this one's."""
        return replace(self, buckets=self.buckets.copy())

    def to_json(self) -> list[Any]:
        """As a list that JSON can hold; ``from_json`` is the inverse."""
        extremes = [self.min, self.max] if self.count else [0.0, 0.0]
        return [self.count, self.sum, *extremes, self.zeros, self.scale, self.offset, self.buckets.tolist()]

    @classmethod
    def from_json(cls, content: list[Any]) -> "Histogram":
        """What ``to_json`` gave."""
        count, total, low, high, zeros, scale, offset, buckets = content
        return cls(count, total, low, high, zeros, scale, offset, np.array(buckets, np.int64)) if count else cls()

    def _add_indices(self, indices: Integers, counts: Integers | None) -> None:
        low, high = int(np.min(indices)) >> (MAX_SCALE - self.scale), int(np.max(indices)) >> (MAX_SCALE - self.scale)
        self._make_room(low, high)
        found = np.bincount((indices >> (MAX_SCALE - self.scale)) - self.offset, counts, len(self.buckets))
        self.buckets += np.rint(found).astype(np.int64)

    def _make_room(self, low: int, high: int) -> None:
        """Have a bucket for each index from ``low`` to ``high`` (at the present scale), coarsening if it must be."""
        if len(self.buckets):
            low, high = min(low, self.offset), max(high, self.offset + len(self.buckets) - 1)
        shift = 0
        while (high >> shift) - (low >> shift) >= MAX_BUCKETS:
            shift += 1
        self._coarsen(self.scale - shift)
        low, high = low >> shift, high >> shift
        if not len(self.buckets):
            self.offset, self.buckets = low, np.zeros(high - low + 1, np.int64)
        else:
            after = high - (self.offset + len(self.buckets) - 1)
            self.buckets = np.pad(self.buckets, (self.offset - low, after))
            self.offset = low

    def _coarsen(self, scale: int) -> None:
        shift = self.scale - scale
        self.scale = scale
        if not shift or not len(self.buckets):
            return
        indices = (self.offset + np.arange(len(self.buckets))) >> shift
        self.offset = int(indices[0])
        self.buckets = np.bincount(indices - self.offset, self.buckets).astype(np.int64)
