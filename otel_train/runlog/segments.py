"""Fixed-size records in preallocated, memory-mapped segments: the writing side.

A record is whole once the segment's committed count includes it, and that count is written last. A process that is
killed between two bytecodes leaves whole records only.
"""

import contextlib
import mmap
import struct
import sys
import threading

from otel_train.runlog.layout import (
    COMMITTED,
    COMMITTED_OFFSET,
    FORMAT_VERSION,
    MAGIC,
    RECORDS_OFFSET,
    SEGMENT_BYTES,
    SEGMENT_HEADER,
    segment_name,
)
from otel_train.runlog.storage import Storage

POPULATE_WRITE = 23
"""``MADV_POPULATE_WRITE`` of Linux 5.14, which Python has no name for yet: without it the training thread takes a page
fault every 32 steps, 4 µs each."""

assert sys.byteorder == "little", "run logs are little-endian, and are written as the processor has its numbers"


class SegmentWriter:
    """Writes records of one size. One thread writes; another may ``prepare``.

    Keeps the newest ``budget`` bytes: a full segment more, and the oldest is removed. Readers see the gap and count it.

    ``append`` is the plain way. The recorder of steps, to which a call more is a tenth of its price, writes into
    ``buffer`` itself, stores the new count in ``committed[0]``, and calls ``advance`` after the last record.
    """

    def __init__(self, storage: Storage, stem: str, record_bytes: int, budget: int) -> None:
        """Raises ``OSError`` when not even the first segment can be had."""
        self._storage = storage
        self._stem = stem
        self._record_bytes = record_bytes
        self._budget = budget
        self._lock = threading.Lock()
        self._number = self._oldest = 0
        self._spare: mmap.mmap | None = None
        self.capacity = (SEGMENT_BYTES - RECORDS_OFFSET) // record_bytes
        self._open(self._create(0))

    @property
    def total(self) -> int:
        """Records committed since the log began."""
        return self._number * self.capacity + self.committed[0]

    def append(self, record: struct.Struct, *values: object) -> None:
        """Write one record and commit it."""
        count = self.committed[0]
        record.pack_into(self.buffer, RECORDS_OFFSET + count * self._record_bytes, *values)
        self.committed[0] = count + 1
        if count + 1 == self.capacity:
            self.advance()

    def prepare(self) -> None:
        """Off the training thread: have the next segment ready before this one is full."""
        if self._spare is None and self.committed[0] * 2 > self.capacity:
            with self._lock:
                if self._spare is None:
                    self._spare = self._create(self._number + 1)

    def advance(self) -> None:
        """The segment is full: go on in the next one, the prepared one if there is."""
        with self._lock:
            following = self._spare or self._create(self._number + 1)
            self._spare = None
            self._number += 1
            self._open(following)

    def _open(self, segment: mmap.mmap) -> None:
        self.buffer = segment
        self.committed = memoryview(segment)[COMMITTED_OFFSET : COMMITTED_OFFSET + COMMITTED.size].cast("Q")

    def _create(self, number: int) -> mmap.mmap:
        while (number + 1 - self._oldest) * SEGMENT_BYTES > self._budget and self._oldest < number - 1:
            self._storage.remove(segment_name(self._stem, self._oldest, "bin"))
            self._oldest += 1
        segment = self._storage.create_mapped(segment_name(self._stem, number, "bin"), SEGMENT_BYTES)
        first = number * self.capacity
        SEGMENT_HEADER.pack_into(segment, 0, MAGIC, FORMAT_VERSION, self._record_bytes, self.capacity, first)
        with contextlib.suppress(OSError, ValueError):  # an older kernel: the faults come later
            segment.madvise(POPULATE_WRITE)
        return segment
