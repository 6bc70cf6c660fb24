"""Fixed-size records in preallocated, memory-mapped segments: the writing side.

A record is whole once the segment's committed count includes it, and that count is written last. A process that is
killed between two bytecodes leaves whole records only.
"""

import contextlib
import mmap
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
    """Writes records of one size. One thread writes (``buffer``, ``offset``, ``commit``); another may ``prepare``.

    Keeps the newest ``budget`` bytes: a full segment more, and the oldest is removed. Readers see the gap and count it.
    """

    __slots__ = (
        "_budget",
        "_committed",
        "_lock",
        "_number",
        "_oldest",
        "_record_bytes",
        "_spare",
        "_stem",
        "_storage",
        "buffer",
        "capacity",
        "count",
        "end",
        "offset",
    )

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
        self.end = RECORDS_OFFSET + self.capacity * record_bytes
        self._open(self._create(0))

    @property
    def total(self) -> int:
        """Records committed since the log began."""
        return self._number * self.capacity + self.count

    def commit(self) -> None:
        """Make the record at ``offset`` part of the log and move on."""
        self.count = count = self.count + 1
        self._committed[0] = count
        self.offset = offset = self.offset + self._record_bytes
        if offset == self.end:
            self._advance()

    def prepare(self) -> None:
        """Off the training thread: have the next segment ready before this one is full."""
        if self._spare is None and self.count * 2 > self.capacity:
            with self._lock:
                if self._spare is None:
                    self._spare = self._create(self._number + 1)

    def _advance(self) -> None:
        with self._lock:
            following = self._spare or self._create(self._number + 1)
            self._spare = None
            self._number += 1
            self._open(following)

    def _open(self, segment: mmap.mmap) -> None:
        self.buffer = segment
        self._committed = memoryview(segment)[COMMITTED_OFFSET : COMMITTED_OFFSET + COMMITTED.size].cast("Q")
        self.offset = RECORDS_OFFSET
        self.count = 0

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
