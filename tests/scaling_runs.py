"""Runs at several world sizes whose steps take what the tests say, written with the real writers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from log_builder import MS, LogBuilder

from otel_train.derive.summary import RunSummary, summarize_run
from otel_train.runlog.runs import Run

CPU = {"cpu": {"model": "Xeon", "count": 2}}

Phases = Mapping[str, float]
"""Milliseconds by phase, in the order of the step; ``gap`` is time in no phase, at the end."""


def build_ranks(
    directory: Path,
    run_id: str,
    ranks: Sequence[Callable[[int], Phases]],
    samples: int | None = 32,
    steps: int = 40,
    **identity: Any,
) -> RunSummary:
    """A run with a rank for each function, which gives the phases of the step of that number."""
    told = {"world_size": len(ranks), "hardware": CPU, "end": {"unix_ns": 1}, "service_name": "train"} | identity
    for rank, phases_of in enumerate(ranks):
        builder = LogBuilder(directory, run_id, rank, monotonic_ns=rank * 10**13, **told)
        for number in range(steps):
            write_step(builder, number, phases_of(number), samples)
    return summarize_run(Run(directory / run_id))


def write_step(builder: LogBuilder, number: int, phases: Phases, samples: int | None) -> None:
    """One step: its phases one after the other."""
    slots, at_ns = [], 0
    for name, milliseconds in phases.items():
        duration = round(milliseconds * MS)
        if name != "gap" and duration:
            slots.append((name, at_ns, duration))
        at_ns += duration
    known = {} if samples is None else {"samples": samples}
    builder.step(number, at_ns, slots, **known)
