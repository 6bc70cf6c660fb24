"""For the users' own tests: a run in memory, and a clock that moves when told to.

::

    clock = FakeClock()
    with record(clock) as run:
        with otel_train.trace_step(samples=8):
            clock.advance(0.25)
    assert [0.25] == [step.duration_s for step in run.steps]
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otel_train.clock import Clock
from otel_train.runlog.events import Event
from otel_train.runlog.layout import CHILD_SPANS, EVALUATION, FAILED, MERGED, MISSING, SKIPPED
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.storage import Memory

__all__ = ["FakeClock", "GpuRecord", "PhaseRecord", "Recording", "ScalarRecord", "StepRecord", "record"]


class FakeClock:
    """Monotonic nanoseconds that pass only when ``advance`` is called."""

    def __init__(self, start_ns: int = 1_000_000_000) -> None:
        self.now_ns = start_ns

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_ns += round(seconds * 1e9)


@dataclass(frozen=True)
class PhaseRecord:
    """A phase of a step; ``start_s`` counts from the step's start. Single precision, as the log has it."""

    name: str
    start_s: float
    duration_s: float
    depth: int = 0
    count: int = 1


@dataclass(frozen=True)
class StepRecord:
    """A step as it was recorded; None is missing."""

    step: int
    duration_s: float
    samples: int | None
    tokens: int | None
    padded_tokens: int | None
    epoch: int | None
    failed: bool
    evaluation: bool
    child_spans: bool
    merged: bool
    phases: tuple[PhaseRecord, ...]
    skipped: bool = False
    queue: int | None = None
    """How many batches the loader had ready when the step asked for its own."""

    def phase(self, name: str) -> PhaseRecord:
        """The step's only phase of that name. Raises ``LookupError``."""
        found = [phase for phase in self.phases if phase.name == name]
        if len(found) != 1:
            raise LookupError(f"the step has {len(found)} phases named {name!r}: {self.phases}")
        return found[0]


@dataclass(frozen=True)
class ScalarRecord:
    """A value given to ``log()``."""

    step: int
    name: str
    value: float


@dataclass(frozen=True)
class GpuRecord:
    """What a step was on the GPU: seconds by phase, of ``data_wait`` what it waited. Memory in bytes, None if not read."""

    step: int
    phases: dict[str, float]
    allocated: int | None
    reserved: int | None
    peak: int | None
    retries: int | None


@dataclass(frozen=True)
class Recording:
    """What a run recorded so far; readable while it goes on and after it ended."""

    log: RankLog

    @property
    def steps(self) -> list[StepRecord]:
        """The steps, those of evaluations among them, in their order."""
        names = self.log.names("phase")
        return [_step(record, names) for _, records in self.log.steps.read() for record in records]

    @property
    def scalars(self) -> list[ScalarRecord]:
        """The logged values, in the order in which they were known."""
        names = self.log.names("scalar")
        return [
            ScalarRecord(int(record["step"]), names[int(record["name"])], float(record["value"]))
            for _, records in self.log.scalars.read()
            for record in records
        ]

    @property
    def gpu(self) -> list[GpuRecord]:
        """What the steps were on the GPU, of those that it has passed."""
        names = self.log.names("phase")
        return [_gpu(record, names) for _, records in self.log.gpu.read() for record in records]

    @property
    def events(self) -> list[Event]:
        """The events, without otel_train's notes on its own health."""
        return [event for event, _ in self.log.events() if event.kind != "health"]


@contextlib.contextmanager
def record(clock: Clock | None = None, **settings: Any) -> Iterator[Recording]:
    """Record into memory: no file, nothing sent; settings as for ``init()``. Raises ``RuntimeError`` inside a run."""
    import time

    from otel_train import active
    from otel_train.session import begin
    from otel_train.settings import load
    from otel_train.store import Store

    if active.session is not None:
        raise RuntimeError("a run is going on already; otel_train.shutdown() ends it")
    loaded = load({"dir": Path("unused"), "run_id": "test", **settings}, environ={})
    store = Store(Memory(), loaded.max_disk)
    session = begin(loaded, {}, clock or time.perf_counter_ns, store)
    try:
        yield Recording(RankLog(store))
    finally:
        session.shutdown()


def _step(record: Any, names: dict[int, str]) -> StepRecord:
    flags = int(record["flags"])
    slots = record["phases"][: int(record["phase_count"])]
    return StepRecord(
        step=int(record["step"]),
        duration_s=int(record["duration_ns"]) / 1e9,
        samples=_known(record["samples"]),
        tokens=_known(record["tokens"]),
        padded_tokens=_known(record["padded_tokens"]),
        epoch=_known(record["epoch"]),
        failed=bool(flags & FAILED),
        evaluation=bool(flags & EVALUATION),
        child_spans=bool(flags & CHILD_SPANS),
        merged=bool(flags & MERGED),
        phases=tuple(
            PhaseRecord(
                names[int(slot["phase"])],
                float(slot["start_ns"]) / 1e9,
                float(slot["duration_ns"]) / 1e9,
                int(slot["depth"]),
                int(slot["count"]),
            )
            for slot in slots
        ),
        skipped=bool(flags & SKIPPED),
        queue=int(record["queue"]) - 1 if record["queue"] else None,
    )


def _gpu(record: Any, names: dict[int, str]) -> GpuRecord:
    slots = record["phases"][: int(record["phase_count"])]
    known = int(record["reserved"]) >= 0
    return GpuRecord(
        int(record["step"]),
        {names[int(slot["phase"])]: float(slot["duration_ns"]) / 1e9 for slot in slots},
        *(int(record[name]) if known else None for name in ("allocated", "reserved", "peak", "retries")),
    )


def _known(value: Any) -> int | None:
    return None if int(value) == MISSING else int(value)
