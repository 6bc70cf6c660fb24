"""The writing end of a rank's log: its folder, or memory when none can be had, and one warning that says so."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from otel_train import guard
from otel_train.resource_names import Series
from otel_train.runlog.events import Event, EventWriter
from otel_train.runlog.layout import GPU_BYTES, NAMES, RUN_JSON, SCALAR_STRUCT, STEP_BYTES, rank_folder
from otel_train.runlog.resources import ResourceWriter
from otel_train.runlog.segments import SegmentWriter
from otel_train.runlog.storage import Folder, Memory, Storage

MEMORY_BYTES = 32 * 2**20
"""What is kept of a run that has no directory: 100,000 steps and more."""

SHARES = {"steps": 0.40, "gpu": 0.25, "scalars": 0.15, "events": 0.10, "resources": 0.10}
"""How the disk allowed to a rank is divided."""

MOST_ATTEMPTS = 1000


class Store:
    """Opens every file of a rank's log for writing. A file that fails moves to memory; the rest stays where it is."""

    def __init__(self, storage: Storage, budget: int) -> None:
        self._home = storage
        self._memory = storage if isinstance(storage, Memory) else Memory()
        self._budget = budget if storage is not self._memory else min(budget, MEMORY_BYTES)
        self._names = self._appender(NAMES)
        self._event_writer = self._try(lambda store: EventWriter(store, self._share("events")))
        self._resources = ResourceWriter(self, self._share("resources"))

    # Storage for the writers and for readers in this process: the home first, then what had to move to memory.

    @property
    def location(self) -> str:
        """Where the home is: a path, or ``memory``."""
        return self._home.location

    @property
    def run_folder(self) -> Path | None:
        """The run's folder, which its ranks share; None where the run is in memory."""
        return self._home.path.parent if isinstance(self._home, Folder) else None

    def create_mapped(self, name: str, size: int) -> Any:
        """As ``Storage``: in memory when the home fails, and then the newest ``MEMORY_BYTES`` only."""
        segment = self._try(lambda store: store.create_mapped(name, size))
        kept = [known for known in self._memory.names() if known.endswith(".bin")]
        stem = name.rpartition("-")[0]
        for oldest in [known for known in kept if known.startswith(stem)][: -max(MEMORY_BYTES // size - 1, 2)]:
            self._memory.remove(oldest)
        return segment

    def open_mapped(self, name: str) -> Any:
        """As ``Storage``."""
        return (self._memory if name in self._memory.names() else self._home).open_mapped(name)

    def open_append(self, name: str) -> Callable[[bytes], None]:
        """As ``Storage``: in memory when the home fails."""
        return self._appender(name)

    def read(self, name: str, offset: int = 0, length: int = -1) -> bytes:
        """As ``Storage``."""
        return (self._memory if name in self._memory.names() else self._home).read(name, offset, length)

    def replace(self, name: str, content: bytes) -> None:
        """As ``Storage``: in memory when the home fails."""
        self._try(lambda store: store.replace(name, content))

    def remove(self, name: str) -> None:
        """As ``Storage``."""
        for store in {id(store): store for store in (self._home, self._memory)}.values():
            with guard.guarded("remove"):
                store.remove(name)

    def names(self) -> list[str]:
        """As ``Storage``."""
        return sorted({*self._home.names(), *self._memory.names()})

    # What the recorder writes with.

    def steps(self) -> SegmentWriter:
        """The writer of step records."""
        return SegmentWriter(self, "steps", STEP_BYTES, self._share("steps"))

    def scalars(self) -> SegmentWriter:
        """The writer of ``log()`` values."""
        return SegmentWriter(self, "scalars", SCALAR_STRUCT.size, self._share("scalars"))

    def gpu(self) -> SegmentWriter:
        """The writer of what steps were on the GPU."""
        return SegmentWriter(self, "gpu", GPU_BYTES, self._share("gpu"))

    def write_event(self, event: Event) -> None:
        """Append an event; when the disk refuses it, to memory, in the next segment: readers go on where they are."""
        try:
            self._event_writer.write(event)
        except OSError as error:
            self._moved(error)
            self._event_writer = EventWriter(self._memory, self._share("events"), self._event_writer.number + 1)
            self._event_writer.write(event)

    def write_name(self, table: str, identity: int, name: str) -> None:
        """Add to the name table, before any record uses the id."""
        line = json.dumps({"table": table, "id": identity, "name": name}).encode() + b"\n"
        try:
            self._names(line)
        except OSError as error:
            self._moved(error)
            content = self.read(NAMES)
            self._names = self._memory.open_append(NAMES)
            self._names(content + line)

    def write_identity(self, identity: dict[str, Any]) -> None:
        """Write ``run.json`` anew."""
        self.replace(RUN_JSON, json.dumps(identity, indent=1, default=str).encode() + b"\n")

    def write_resources(self, unix_s: float, row: Mapping[Series, float]) -> None:
        """Add a row to ``resources.csv``; when the disk refuses it, to memory."""
        try:
            self._resources.write(unix_s, row)
        except OSError as error:
            self._moved(error)
            self._resources = ResourceWriter(self._memory, self._share("resources"), self._resources.next_number)
            self._resources.write(unix_s, row)

    def check(self) -> None:
        """Notice that the folder was removed: what is mapped goes on, new files will be made in memory."""
        if isinstance(self._home, Folder) and not self._home.path.is_dir():
            self._moved(FileNotFoundError("the directory was removed while the run was going on"))

    def _share(self, stem: str) -> int:
        return int(self._budget * SHARES[stem])

    def _appender(self, name: str) -> Callable[[bytes], None]:
        appender: Callable[[bytes], None] = self._try(lambda store: store.open_append(name))
        return appender

    def _try(self, act: Callable[[Storage], Any]) -> Any:
        try:
            return act(self._home)
        except OSError as error:
            if self._home is self._memory:
                raise
            self._moved(error)
            return act(self._memory)

    def _moved(self, error: OSError) -> None:
        guard.warn_once(
            "store",
            "otel_train cannot write to %s (%s). Training and recording go on, in memory: what is recorded from now on "
            "ends with the process. Set OTEL_TRAIN_DIR to a directory with room",
            self._home.location,
            error,
        )


def open_store(directory: Path, run_id: str, rank: int, budget: int) -> tuple[Store, str]:
    """Make the rank's folder and open its files. Returns the store and the run id that the folder has.

    When the run already has this rank (an id used twice, a second process of one job), ``-2``, ``-3``, … is added to
    the id: nothing recorded is overwritten.
    """
    for attempt in range(1, MOST_ATTEMPTS):
        tried = run_id if attempt == 1 else f"{run_id}-{attempt}"
        path = directory / tried / rank_folder(rank)
        try:
            path.mkdir(parents=True)
            return Store(Folder(path), budget), tried
        except FileExistsError:
            continue
        except OSError as error:
            return _in_memory(directory, error, budget), run_id
    return _in_memory(directory, OSError(f"{run_id} was used {MOST_ATTEMPTS} times"), budget), run_id


def _in_memory(directory: Path, error: OSError, budget: int) -> Store:
    guard.warn_once(
        "directory",
        "otel_train cannot record in %s (%s). Training goes on; this run is kept in memory and ends with the process. "
        "Set OTEL_TRAIN_DIR to a directory that can be written",
        directory,
        error,
    )
    return Store(Memory(), budget)
