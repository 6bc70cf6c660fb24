"""One rank's log, opened for reading: by the run's own threads, by another process, after the process died."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from otel_train.clock import Anchor
from otel_train.errors import RunLogError, UnknownFormat
from otel_train.resource_names import Series
from otel_train.runlog.events import Event, Position, read_events
from otel_train.runlog.layout import FORMAT_VERSION, NAMES, RUN_JSON
from otel_train.runlog.records import GPU, SCALAR, STEP, SegmentReader
from otel_train.runlog.resources import Headers, ResourceTable, read_resource_tables, read_resources
from otel_train.runlog.storage import Folder, Storage

NEEDED = frozenset({"run_id", "rank", "anchor"})
"""Keys of ``run.json`` without which nothing can be read."""


@dataclass(frozen=True)
class RankLog:
    """What one rank recorded. Reading never writes; all of it may still be growing."""

    storage: Storage

    @classmethod
    def open(cls, path: Path) -> "RankLog":
        """Open a rank's folder. Raises ``RunLogError`` when it holds no run log, ``UnknownFormat`` a newer one."""
        log = cls(Folder(path))
        log.identity  # noqa: B018  reading it is the check
        return log

    @cached_property
    def identity(self) -> dict[str, Any]:
        """``run.json`` as it was when first read: who, where, with what. See ``docs/run-log.md``."""
        return self.read_identity()

    def read_identity(self) -> dict[str, Any]:
        """``run.json`` as it is now: its ``end`` appears when the run shuts down."""
        try:
            identity: dict[str, Any] = json.loads(self.storage.read(RUN_JSON))
        except (FileNotFoundError, ValueError) as error:
            raise RunLogError(f"{self.storage.location} holds no run log: {error}") from error
        if not isinstance(identity, dict):
            raise RunLogError(f"{self.storage.location} holds no run log: {RUN_JSON} is no JSON object")
        if identity.get("format_version") != FORMAT_VERSION:
            raise UnknownFormat(
                f"{self.storage.location}: got run log format {identity.get('format_version')!r}; this otel_train "
                f"reads format {FORMAT_VERSION}. Read it with otel_train {identity.get('otel_train_version', '?')}."
            )
        if not set(identity) >= NEEDED or not isinstance(identity["anchor"], dict):
            missing = ", ".join(sorted(NEEDED - set(identity))) or "a usable anchor"
            raise RunLogError(f"{self.storage.location} holds no whole run log: {RUN_JSON} lacks {missing}")
        return identity

    @property
    def run_id(self) -> str:
        """The id that all ranks of the run share."""
        return str(self.identity["run_id"])

    @property
    def rank(self) -> int:
        """Global rank, 0 for a process on its own."""
        return int(self.identity["rank"])

    @cached_property
    def anchor(self) -> Anchor:
        """Places the rank's monotonic times on the calendar."""
        return Anchor(**self.identity["anchor"])

    @property
    def steps(self) -> SegmentReader:
        """The step records."""
        return SegmentReader(self.storage, "steps", STEP)

    @property
    def scalars(self) -> SegmentReader:
        """The values given to ``log()``."""
        return SegmentReader(self.storage, "scalars", SCALAR)

    @property
    def gpu(self) -> SegmentReader:
        """What steps were on the GPU."""
        return SegmentReader(self.storage, "gpu", GPU)

    def events(self, start: Position | None = None) -> Iterator[tuple[Event, Position]]:
        """The events from a position on, each with the position after it."""
        return read_events(self.storage, start)

    def resources(
        self, start: Position | None = None, headers: Headers | None = None
    ) -> Iterator[tuple[float, dict[Series, float], Position]]:
        """The samples from a position on: Unix time in s, the series that have a value, the position after it.

        ``headers`` is for who reads on again and again: ``read_resources``.
        """
        return read_resources(self.storage, start, headers)

    def resource_tables(self) -> Iterator[ResourceTable]:
        """All samples, a file at a time, as arrays: for who reads them once."""
        return read_resource_tables(self.storage)

    def names(self, table: str) -> dict[int, str]:
        """Name ids of a table, ``phase`` or ``scalar``, as they are now."""
        try:
            content = self.storage.read(NAMES)
        except FileNotFoundError:
            return {}
        entries = [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines() if line.strip()]
        return {entry["id"]: entry["name"] for entry in entries if entry["table"] == table}
