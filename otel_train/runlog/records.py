"""Fixed-size records as numpy arrays: the reading side of ``segments``."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from otel_train.errors import UnknownFormat
from otel_train.runlog.layout import (
    COMMITTED,
    COMMITTED_OFFSET,
    FORMAT_VERSION,
    GPU_BYTES,
    MAGIC,
    PHASE_SLOTS,
    RECORDS_OFFSET,
    SEGMENT_BYTES,
    SEGMENT_HEADER,
    STEP_BYTES,
    segment_name,
)
from otel_train.runlog.storage import Storage

Records: TypeAlias = np.ndarray[Any, np.dtype[np.void]]

PHASE = np.dtype(
    [("phase", "u1"), ("depth", "u1"), ("count", "<u2"), ("start_ns", "<f4"), ("duration_ns", "<f4")],
)
"""One phase of a step: name id, depth (0 is the step's own), occurrences, start after the step's start, time."""

STEP = np.dtype(
    [
        ("step", "<i8"),
        ("start_ns", "<i8"),
        ("duration_ns", "<i8"),
        ("samples", "<u4"),
        ("tokens", "<u4"),
        ("padded_tokens", "<u4"),
        ("epoch", "<u4"),
        ("flags", "<u2"),
        ("phase_count", "u1"),
        ("queue", "u1"),
        ("phases", PHASE, (PHASE_SLOTS,)),
    ],
)
"""One step: 128 bytes. ``layout.MISSING`` in a 32-bit field is not known; ``queue`` is one more than the batches that
were ready when the step asked for its own, 0 where that is not known."""

SCALAR = np.dtype([("step", "<i8"), ("time_ns", "<i8"), ("name", "<u4"), ("reserved", "<u4"), ("value", "<f8")])
"""One value given to ``log()``: 32 bytes."""

GPU_PHASE = np.dtype([("phase", "u1"), ("reserved", "u1"), ("count", "<u2"), ("duration_ns", "<f4")])
"""GPU time of one phase of a step; of ``data_wait`` it is what the GPU waited, with nothing to do."""

GPU = np.dtype(
    [
        ("step", "<i8"),
        ("time_ns", "<i8"),
        ("phase_count", "<u4"),
        ("retries", "<u4"),
        ("allocated", "<i8"),
        ("reserved", "<i8"),
        ("peak", "<i8"),
        ("phases", GPU_PHASE, (PHASE_SLOTS,)),
    ],
)
"""What a step was on the GPU: 104 bytes, known some steps later. Memory in bytes, -1 where it was not looked at."""

assert STEP.itemsize == STEP_BYTES
assert GPU.itemsize == GPU_BYTES


@dataclass(frozen=True)
class SegmentReader:
    """The records of one kind (``steps`` or ``scalars``) of one rank, in their order."""

    storage: Storage
    stem: str
    dtype: np.dtype[np.void]

    def read(self, start: int = 0) -> Iterator[tuple[int, Records]]:
        """The whole records from ordinal ``start`` on, a segment at a time: (ordinal of the first, array).

        The arrays are views of the mapped file: no copy. Where older records are gone already, the first ordinal is
        above ``start``. Raises ``UnknownFormat``.
        """
        for number in self._numbers():
            if (number + 1) * self._capacity <= start:
                continue
            first, records = self._segment(number)
            skip = max(start - first, 0)
            if len(records) > skip:
                yield first + skip, records[skip:]

    def bounds(self) -> tuple[int, int]:
        """Ordinals of the oldest record kept and of the one after the newest."""
        numbers = self._numbers()
        if not numbers:
            return 0, 0
        for newest in reversed(numbers):
            first, records = self._segment(newest)
            if len(records) or newest == numbers[0]:
                break
        return numbers[0] * self._capacity, first + len(records)

    @property
    def _capacity(self) -> int:
        return (SEGMENT_BYTES - RECORDS_OFFSET) // self.dtype.itemsize

    def _numbers(self) -> list[int]:
        pattern = re.compile(rf"{self.stem}-(\d+)\.bin")
        return sorted(int(match[1]) for name in self.storage.names() if (match := pattern.fullmatch(name)))

    def _segment(self, number: int) -> tuple[int, Records]:
        name = segment_name(self.stem, number, "bin")
        nothing = number * self._capacity, np.empty(0, self.dtype)
        try:
            mapped = self.storage.open_mapped(name)
        except (FileNotFoundError, ValueError):  # removed as too old, or created and still empty
            return nothing
        if len(mapped) < RECORDS_OFFSET:  # half copied
            return nothing
        magic, version, record_bytes, _, first = SEGMENT_HEADER.unpack_from(mapped, 0)
        if magic == bytes(len(MAGIC)):  # created, its header not yet written
            return nothing
        if magic != MAGIC or version != FORMAT_VERSION or record_bytes != self.dtype.itemsize:
            raise UnknownFormat(
                f"{self.storage.location}/{name}: got format {magic!r} version {version} with records of "
                f"{record_bytes} bytes; this otel_train reads {MAGIC!r} version {FORMAT_VERSION} with records of "
                f"{self.dtype.itemsize}. Read it with the otel_train that wrote it: run.json has its version."
            )
        (committed,) = COMMITTED.unpack_from(mapped, COMMITTED_OFFSET)
        there = (len(mapped) - RECORDS_OFFSET) // self.dtype.itemsize
        return first, np.frombuffer(mapped, self.dtype, min(committed, there), RECORDS_OFFSET)
