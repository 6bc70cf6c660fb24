"""``events.jsonl``: what is rare enough to be written as text, one JSON object a line, in segments.

An event with a ``duration_ns`` is a span; one without is a point in time.
"""

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from otel_train import guard
from otel_train.runlog.layout import EVENTS_SEGMENT_BYTES, segment_name
from otel_train.runlog.storage import Storage

STEM = "events"


@dataclass(frozen=True)
class Event:
    """One rare thing that happened.

    ``kind`` says what it is (``epoch``, ``checkpoint``, …), ``start_ns`` when on the rank's monotonic clock, ``step``
    which step it hit (or the last one before), ``thread`` the thread when it was not the training thread's own doing,
    ``error`` the type and message of the exception that ended it, ``attributes`` the rest under the names that a
    backend will see.
    """

    kind: str
    start_ns: int
    duration_ns: int | None = None
    step: int | None = None
    thread: str | None = None
    error: dict[str, str] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def end_ns(self) -> int:
        """When it was over; for a point in time, when it happened."""
        return self.start_ns + (self.duration_ns or 0)

    def to_line(self) -> bytes:
        """One line of JSON; what is absent is left out. Not-a-number travels as a string."""
        content = {key: value for key, value in vars(self).items() if value is not None and value != {}}
        return json.dumps(content, separators=(",", ":"), default=str).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Event":
        """The inverse of ``to_line``. Fields of a later minor version are kept out, not refused."""
        content = json.loads(line)
        return cls(**{key: content[key] for key in cls.__dataclass_fields__ if key in content})


@dataclass(frozen=True, order=True)
class Position:
    """A place in the event log: segment number and byte offset in it."""

    segment: int = 0
    offset: int = 0


class EventWriter:
    """Appends events; any thread. About 15 µs an event. Keeps the newest ``budget`` bytes."""

    def __init__(self, storage: Storage, budget: int, first: int = 0) -> None:
        """``first`` is the first segment's number. Raises ``OSError``."""
        self._storage = storage
        self._segments = max(budget // EVENTS_SEGMENT_BYTES, 2)
        self._lock = threading.RLock()  # the garbage collector may run code of ours in the middle of a write
        self.number = first
        self._size = 0
        self._append = storage.open_append(segment_name(STEM, first, "jsonl"))

    def write(self, event: Event) -> None:
        """Append one event. Raises ``OSError``."""
        line = event.to_line()
        with self._lock:
            if self._size + len(line) > EVENTS_SEGMENT_BYTES:
                self._advance()
            self._append(line)
            self._size += len(line)

    def _advance(self) -> None:
        self.number += 1
        self._size = 0
        self._append = self._storage.open_append(segment_name(STEM, self.number, "jsonl"))
        if self.number >= self._segments:
            self._storage.remove(segment_name(STEM, self.number - self._segments, "jsonl"))


def read_events(storage: Storage, start: Position | None = None) -> Iterator[tuple[Event, Position]]:
    """The events from ``start`` on, each with the position after it. A line still being written is left for later."""
    start = start or Position()
    pattern = re.compile(STEM + r"-(\d+)\.jsonl")
    numbers = sorted(int(match[1]) for name in storage.names() if (match := pattern.fullmatch(name)))
    for number in numbers:
        if number < start.segment:
            continue
        offset = start.offset if number == start.segment else 0
        try:
            content = storage.read(segment_name(STEM, number, "jsonl"), offset)
        except FileNotFoundError:  # removed as too old since it was listed
            continue
        for line in content[: content.rfind(b"\n") + 1].splitlines(keepends=True):
            offset += len(line)
            try:
                event = Event.from_line(line)
            except (ValueError, TypeError):  # a damaged line costs itself, not the log
                guard.warn_once(f"events {storage.location}", "a damaged line of %s is left out", storage.location)
                continue
            yield event, Position(number, offset)
