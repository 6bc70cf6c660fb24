"""A memory sweep on a terminal: throughput and memory by size, the largest that fits, and how the next one failed."""

from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.text import Text

from otel_train.bench.memory_sweep import DOES_NOT_FIT, FAILED, FITS, Swept, how
from otel_train.bench.out_of_memory import OutOfMemory
from otel_train.bench.reading import RunRead
from otel_train.derive.catalogue import Measure, find
from otel_train.report import text
from otel_train.report.sections import columns

STYLES = {FITS: "green", DOES_NOT_FIT: "red", FAILED: "red"}


def sweep_table(swept: Swept, metric: Measure, in_unit: Callable[[float | None, str], str]) -> RenderableType:
    """By size, ascending; below it what follows from it."""
    table = columns(
        (metric.name, "right"), ("step p50", "right"), ("peak on GPU", "right"), ("peak of process", "right"),
        ("", "left"), title="Size",
    )  # fmt: skip
    for size, read in sorted(swept.runs, key=lambda run: run[0]):
        step = find("step_time.p50").of(read.summary) if read.summary else None
        what = how(read)
        table.add_row(
            f"  {size}", in_unit(read.value(metric), metric.unit), text.seconds(step), text.size(gpu_peak(read)),
            text.size(read.record.peak_bytes), Text(what, style=STYLES[what]),
        )  # fmt: skip
    return Group(table, *(Text(line) for line in sweep_lines(swept)))


def gpu_peak(read: RunRead) -> int | float | None:
    """Bytes that torch's allocator held at most on a GPU: of the steps, or when it ran out."""
    if read.out_of_memory and read.out_of_memory.peak is not None:
        return read.out_of_memory.peak
    return find("gpu_memory.peak").of(read.summary) if read.summary else None


def sweep_lines(swept: Swept) -> list[str]:
    """The largest that fits, and what happened at the smallest that does not."""
    lines = []
    if swept.largest is not None:
        above = "" if swept.too_large is not None else " (nothing larger was tried)"
        lines.append(f"Largest that fits: {swept.largest}{above}.")
    elif swept.runs:
        lines.append("No size fits.")
    smallest = next((read for size, read in swept.runs if size == swept.too_large), None)
    if smallest is not None and smallest.out_of_memory is not None:
        lines.append(f"{swept.too_large}: {told_of(smallest.out_of_memory)}.")
    for size in swept.sizes(FAILED):
        lines.append(f"{size} failed for another reason, which says nothing about memory: the sweep ended there.")
    return lines


def told_of(found: OutOfMemory) -> str:
    """The sentence, with the allocator's figures as far as they are known."""
    figures = [
        f"{label} {text.size(value)}"
        for label, value in (
            ("asked for", found.requested), ("allocated", found.allocated), ("reserved", found.reserved),
            ("peak", found.peak), ("free", found.free), ("device", found.total),
        )
        if value is not None
    ]  # fmt: skip
    retries = [f"{found.retries} {'retry' if found.retries == 1 else 'retries'}"] if found.retries is not None else []
    step = [f"after step {found.step}"] if found.step is not None else []
    return found.sentence + "".join(f"; {', '.join(part)}" for part in (figures + retries, step) if part)
