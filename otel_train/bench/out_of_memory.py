"""Did a run end for want of memory, and what was told of it: by CUDA's allocator, by the CPU's, by the kernel."""

import re
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from otel_train import names
from otel_train.bench.state import DONE, INTERRUPTED, RunRecord
from otel_train.runlog.events import Event

CUDA, CPU, KERNEL, KILLED = "cuda", "cpu", "kernel", "killed"
"""Who says so: an allocator's event or error; a kill that the control group counted; a SIGKILL that nobody explains."""

CPU_ALLOCATOR = re.compile(r"DefaultCPUAllocator: (?:can't allocate memory|not enough memory)", re.IGNORECASE)
TRIED = re.compile(r"tried to allocate (\d+) bytes")
CUDA_ERROR = re.compile(r"OutOfMemoryError|CUDA out of memory|CUDA error: out of memory")
PYTHON_ERROR = re.compile(r"^(?:\w+\.)*(?:_Array)?MemoryError\b", re.MULTILINE)
WORKER_KILLED = re.compile(r"DataLoader worker \(pid.*?\) is killed by signal: Killed")
BAD_ALLOC = re.compile(r"std::bad_alloc")

SIGKILL_CODES = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""Of the process itself, and of a shell that saw it."""


@dataclass(frozen=True)
class OutOfMemory:
    """How a run ran out of memory. Figures in bytes, of the moment it happened; None where nobody told."""

    source: str
    sentence: str
    step: int | None = None
    device: int | None = None
    requested: int | None = None
    allocated: int | None = None
    reserved: int | None = None
    peak: int | None = None
    free: int | None = None
    total: int | None = None
    retries: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


FIGURES = {
    "device": names.OOM_DEVICE, "requested": names.OOM_REQUESTED, "allocated": names.OOM_ALLOCATED,
    "reserved": names.OOM_RESERVED, "peak": names.OOM_PEAK, "free": names.OOM_FREE, "total": names.OOM_TOTAL,
    "retries": names.OOM_RETRIES,
}  # fmt: skip


def find_out_of_memory(record: RunRecord, events: Sequence[Event], printed: str) -> OutOfMemory | None:
    """Whether a run that failed ran out of memory; None where it did not fail, or for another reason.

    In the order of what is surest: the allocator's own event in the record; an exception in the record, or in what the
    run printed last; a kill that the control group's ``oom_kill`` counted. A SIGKILL without any of these may have come
    from anybody, and is told as that.
    """
    if record.status in (DONE, INTERRUPTED):
        return None
    told = [event for event in events if event.kind == names.OUT_OF_MEMORY]
    if told:
        return _of_event(told[-1])
    errors = [(event.error or {}, event.step) for event in events if event.kind == names.ERROR]
    texts = [(f"{error.get('type', '')}: {error.get('message', '')}", step) for error, step in errors]
    for text, step in [*reversed(texts), (printed, None)]:
        found = _of_text(text, step)
        if found:
            return found
    return _of_kill(record, printed)


def _of_event(event: Event) -> OutOfMemory:
    figures = {field: event.attributes.get(name) for field, name in FIGURES.items()}
    return OutOfMemory(CUDA, "CUDA's allocator ran out of memory", event.step, **figures)


def _of_text(text: str, step: int | None) -> OutOfMemory | None:
    if CPU_ALLOCATOR.search(text):
        tried = TRIED.search(text)
        return OutOfMemory(CPU, "torch's CPU allocator got no memory", step, requested=int(tried[1]) if tried else None)
    if CUDA_ERROR.search(text):
        return OutOfMemory(CUDA, "CUDA ran out of memory; the allocator's figures were not recorded", step)
    if PYTHON_ERROR.search(text) or BAD_ALLOC.search(text):
        return OutOfMemory(CPU, "Python or a library got no memory (MemoryError, bad_alloc)", step)
    return None


def _of_kill(record: RunRecord, printed: str) -> OutOfMemory | None:
    was_killed = record.exit_code in SIGKILL_CODES and record.status != "timed out"
    is_worker = WORKER_KILLED.search(printed) is not None
    if record.oom_kills and (was_killed or is_worker or record.exit_code):
        who = "a worker of its data loader" if is_worker else "it"
        return OutOfMemory(KERNEL, f"the kernel killed {who} for want of memory (oom_kill of its control group)")
    if was_killed or is_worker:
        who = "a worker of its data loader was" if is_worker else "it was"
        return OutOfMemory(KILLED, f"{who} killed (SIGKILL), probably for want of memory: nothing says by whom")
    return None
