"""Builds run logs with the real writers, from plain numbers: what a recorder would have left, without running one."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from otel_train.clock import Anchor
from otel_train.resource_names import Series
from otel_train.runlog.events import Event, EventWriter
from otel_train.runlog.layout import (
    COUNT_SHIFT,
    DEPTH_SHIFT,
    FORMAT_VERSION,
    GPU_BYTES,
    GPU_STRUCTS,
    MISSING,
    NAMES,
    PHASES_SHIFT,
    RUN_JSON,
    SCALAR_STRUCT,
    STEP_BYTES,
    STEP_STRUCTS,
    rank_folder,
)
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.resources import ResourceWriter
from otel_train.runlog.segments import SegmentWriter
from otel_train.runlog.storage import Folder, Storage

MS = 1_000_000
SECOND = 1_000_000_000
EPOCH_2025_NS = 1_735_689_600 * SECOND
"""2025-01-01T00:00:00Z: where the logs begin, unless told otherwise."""

PhaseTuple = tuple[Any, ...]
"""Name, start after the step's start in ns, duration in ns, and optionally depth and occurrences."""


class LogBuilder:
    """One rank's log in ``directory/run_id``. Everything written is there at once for ``log`` to read."""

    def __init__(
        self,
        directory: Path,
        run_id: str = "run-a",
        rank: int = 0,
        budget: int = 64 << 20,
        unix_ns: int = EPOCH_2025_NS,
        monotonic_ns: int = 0,
        storage: Storage | None = None,
        **identity: Any,
    ) -> None:
        self.path = directory / run_id / rank_folder(rank)
        if storage is None:
            self.path.mkdir(parents=True)
            storage = Folder(self.path)
        self.storage = storage
        self.identity = {
            "format_version": FORMAT_VERSION,
            "otel_train_version": "0.1.0",
            "run_id": run_id,
            "rank": rank,
            "anchor": vars(Anchor(unix_ns, monotonic_ns)),
            "process": {"pid": 1, "host": "elsewhere", "start_ticks": None},
            **identity,
        }
        self.save_identity()
        self._budget = budget
        self._names: dict[tuple[str, str], int] = {}
        self._append_name = storage.open_append(NAMES)
        for name in ("other", "data_wait", "step"):
            self.name("phase", name)
        self.steps = SegmentWriter(storage, "steps", STEP_BYTES, budget)
        self.events = EventWriter(storage, budget)
        self._scalars: SegmentWriter | None = None
        self._gpu: SegmentWriter | None = None
        self._resources: ResourceWriter | None = None
        self.end_ns = monotonic_ns
        """When the last step was over."""

    @property
    def log(self) -> RankLog:
        """A reader of what was written so far."""
        return RankLog(self.storage)

    def save_identity(self, **changes: Any) -> None:
        """Write ``run.json``, with some keys changed."""
        self.identity.update(changes)
        self.storage.replace(RUN_JSON, json.dumps(self.identity).encode())

    def name(self, table: str, name: str) -> int:
        """The id of a phase or scalar name, a new one when it is new."""
        key = (table, name)
        if key not in self._names:
            self._names[key] = sum(known == table for known, _ in self._names)
            entry = {"table": table, "id": self._names[key], "name": name}
            self._append_name(json.dumps(entry).encode() + b"\n")
        return self._names[key]

    def step(
        self,
        number: int,
        duration_ns: int,
        phases: Sequence[PhaseTuple] = (),
        start_ns: int | None = None,
        samples: int = MISSING,
        tokens: int = MISSING,
        padded_tokens: int = MISSING,
        epoch: int = MISSING,
        flags: int = 0,
    ) -> None:
        """Record one step; by itself it starts where the last one ended."""
        start = self.end_ns if start_ns is None else start_ns
        slots: list[float] = []
        for given in phases:
            name, phase_start, phase_duration, depth, count = (*given, *(0, 1)[len(given) - 3 :])
            what = self.name("phase", name) | depth << DEPTH_SHIFT | count << COUNT_SHIFT
            slots += [what, phase_start, phase_duration]
        self.steps.append(
            STEP_STRUCTS[len(phases)], number, start, duration_ns, samples, tokens, padded_tokens,
            epoch, flags | len(phases) << PHASES_SHIFT, *slots,
        )  # fmt: skip
        self.end_ns = start + duration_ns

    def gpu(self, step: int, phases: dict[str, int], memory: tuple[int, int, int, int] = (0, -1, -1, -1)) -> None:
        """What a step was on the GPU: ns by phase; retries, allocated, reserved and peak bytes."""
        if self._gpu is None:
            self._gpu = SegmentWriter(self.storage, "gpu", GPU_BYTES, self._budget)
        slots = [field for name, ns in phases.items() for field in (self.name("phase", name) | 1 << COUNT_SHIFT, ns)]
        self._gpu.append(GPU_STRUCTS[len(phases)], step, self.end_ns, len(phases), *memory, *slots)

    def scalar(self, step: int, value: float, name: str = "loss", time_ns: int | None = None) -> None:
        """Record one value given to ``log()``."""
        if self._scalars is None:
            self._scalars = SegmentWriter(self.storage, "scalars", SCALAR_STRUCT.size, self._budget)
        writer, at = self._scalars, self.end_ns if time_ns is None else time_ns
        writer.append(SCALAR_STRUCT, step, at, self.name("scalar", name), 0, value)

    def resources(self, time_ns: int, row: dict[Series, float]) -> None:
        """Record one sample."""
        if self._resources is None:
            self._resources = ResourceWriter(self.storage, self._budget)
        self._resources.write(self.log.anchor.to_unix_ns(time_ns) / 1e9, row)

    def event(self, kind: str, start_ns: int, duration_ns: int | None = None, **fields: Any) -> None:
        """Record one event."""
        self.events.write(Event(kind, start_ns, duration_ns, **fields))
