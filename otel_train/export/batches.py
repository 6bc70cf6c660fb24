"""What a source gives the exporter, and how a source reads the log's events."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from otel_train.resource_names import Series
from otel_train.runlog.events import Event, Position
from otel_train.runlog.ranklog import RankLog

Cursor: TypeAlias = dict[str, Any]
"""How far a signal's backend has acknowledged, and the state to go on from there. Content of ``cursor.json``."""


@dataclass(frozen=True)
class Batch:
    """Items for one request, and the signal's cursor once they are acknowledged. Without items it moves at once."""

    items: list[Any]
    cursor: Cursor
    lost: int = 0
    """Records that the log no longer had."""


class Source(Protocol):
    """Makes one signal's batches from a log and a cursor, and from nothing else: a retry makes the same ones again."""

    def batches(self, cursor: Cursor, final: bool) -> Iterator[Batch]:
        """What is new since the cursor; with ``final``, also what would otherwise wait for more."""
        ...


class EventReader:
    """Events one at a time with a look at the next, from a position on."""

    def __init__(self, log: RankLog, position: Position) -> None:
        self.position = position
        """After the last event taken."""
        self._events = log.events(position)
        self._next = next(self._events, None)

    @property
    def next_ns(self) -> int | None:
        """When the next event is over; None at the end."""
        return None if self._next is None else self._next[0].end_ns

    def take(self, wanted: Callable[[Event], bool]) -> Iterator[tuple[Event, Position]]:
        """Take events, each with the position after it, up to the first that is not wanted."""
        while self._next is not None and wanted(self._next[0]):
            event, self.position = self._next
            self._next = next(self._events, None)
            yield event, self.position

    def take_until(self, time_ns: int) -> Iterator[tuple[Event, Position]]:
        """Take the events that were over by then, up to the first that was not."""
        return self.take(lambda event: event.end_ns <= time_ns)


class RowReader:
    """Samples of resources likewise, by their time on the rank's monotonic clock."""

    def __init__(self, log: RankLog, position: Position) -> None:
        self.position = position
        """After the last row taken."""
        self._anchor = log.anchor
        self._rows = log.resources(position)
        self._next = next(self._rows, None)

    @property
    def next_ns(self) -> int | None:
        """When the next sample was taken; None at the end."""
        return None if self._next is None else self._anchor.to_monotonic_ns(self._next[0] * 1e9)

    def take_until(self, time_ns: int) -> Iterator[tuple[int, dict[Series, float]]]:
        """Take the rows until then: time and values."""
        while self._next is not None and (at_ns := self._anchor.to_monotonic_ns(self._next[0] * 1e9)) <= time_ns:
            _, row, self.position = self._next
            self._next = next(self._rows, None)
            yield at_ns, row


def position_of(cursor: Cursor, of: str = "events") -> Position:
    """The place in the event log, or in that of ``resources``, that a cursor has."""
    return Position(*cursor.get(of, (0, 0)))
