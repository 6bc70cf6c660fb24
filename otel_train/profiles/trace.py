"""A trace that torch wrote (Chrome's format), as columns.

Read in pieces, since the training may be going on beside it: ``pause`` is called every ``PIECE`` events.
"""

import gzip
import json
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from otel_train.errors import OtelTrainError

Column: TypeAlias = np.ndarray[Any, np.dtype[Any]]

OPERATOR, ANNOTATION, RUNTIME, OVERHEAD, PYTHON, KERNEL, COPY, SET, MARK, ALLOCATION = range(10)
"""``MARK`` is our own: a step or a phase, on the thread that is trained on."""
OWN = "otel_train"
"""The category, and the process, of what we add to a trace."""
USUAL_NS = "usual_ns"
"""A key of what we add: how long the profiled steps would have taken without the profiler."""
STEP_NAME, BLOCK_NAME = "step ", "block "
"""What the names of steps and blocks begin with there; a number, or a name, follows."""
CATEGORIES = {
    "cpu_op": OPERATOR,
    "user_annotation": ANNOTATION,
    "cuda_runtime": RUNTIME,
    "cuda_driver": RUNTIME,
    "xpu_runtime": RUNTIME,
    "overhead": OVERHEAD,
    "python_function": PYTHON,
    "kernel": KERNEL,
    "gpu_memcpy": COPY,
    "gpu_memset": SET,
    OWN: MARK,
}
"""torch's categories and ours; of the others, none takes time by itself."""

ON_DEVICE = (KERNEL, COPY, SET)
PIECE = 100
STEP_MARK = "ProfilerStep#"
"""How torch's own profiler names a step."""


class UnreadableTrace(OtelTrainError):
    """It is no trace that torch wrote. Says what it is, and what can be read."""


@dataclass(frozen=True)
class Trace:
    """Events by columns, times in Unix ns, in the order of their starts (the longer one first)."""

    names: list[str]
    name: Column
    kind: Column
    start_ns: Column
    end_ns: Column
    thread: Column
    """The thread of what runs on the host, the stream of what runs on a device."""
    device: Column
    """-1 on the host."""
    correlation: Column
    """Links a launch with what it launched; 0 for none."""
    link: Column
    """The operator's own id, and that of the operator that launched; 0 for none."""
    bytes: Column
    """Of copies; -1 where it is not known. Of an allocation; what is freed is negative."""
    shapes: dict[int, list[Any]] = field(default_factory=dict)
    """Of operators, by index, where they were recorded."""
    device_name: str | None = None
    usual_ns: float | None = None
    """How long the window's steps usually take, where whoever recorded the trace knew it."""

    def __len__(self) -> int:
        return len(self.start_ns)

    @property
    def duration_ns(self) -> Column:
        """Of each event."""
        durations: Column = self.end_ns - self.start_ns
        return durations

    def named(self, index: int) -> str:
        """An event's name."""
        return self.names[int(self.name[index])]

    def of(self, *kinds: int) -> Column:
        """Indices of the events of these kinds."""
        return np.flatnonzero(np.isin(self.kind, kinds))


def read_trace(path: Path, pause: Callable[[], None] = lambda: None) -> Trace:
    """Read a ``.json`` or ``.json.gz`` that torch wrote. Raises ``UnreadableTrace``, ``OSError``."""
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if content[:2] == GZIP else content).decode()
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise UnreadableTrace(f"{path} is no trace ({error}); {ALLOWED}") from None
    return parse_trace(text, str(path), pause)


GZIP = b"\x1f\x8b"
ALLOWED = "allowed is a Chrome trace as torch.profiler writes it, .json or .json.gz"


def parse_trace(text: str, called: str = "the trace", pause: Callable[[], None] = lambda: None) -> Trace:
    """The same from its text. Raises ``UnreadableTrace``."""
    columns = _Columns()
    head: dict[str, Any] = {}
    decoder = json.JSONDecoder()
    try:
        at = _skip(text, text.index("{") + 1)
        while text[at] != "}":
            key, at = decoder.raw_decode(text, at)
            at = _skip(text, text.index(":", at) + 1)
            if key == "traceEvents":
                at = _read_events(text, at, columns, decoder, pause)
            else:
                head[key], at = decoder.raw_decode(text, at)
            at = _skip(text, at)
    except (ValueError, IndexError, TypeError, AttributeError, KeyError) as error:
        raise UnreadableTrace(f"{called} is no trace ({error}); {ALLOWED}") from None
    if not columns.times_us:
        raise UnreadableTrace(f"{called} holds no operators and no kernels; {ALLOWED}")
    devices = head.get("deviceProperties") or [{}]
    own = head.get(OWN)
    usual_ns = own.get(USUAL_NS) if isinstance(own, dict) else None
    return columns.as_trace(int(head.get("baseTimeNanoseconds", 0)), devices[0].get("name"), usual_ns)


def _skip(text: str, at: int) -> int:
    while text[at] in " \t\r\n,":
        at += 1
    return at


def _read_events(text: str, at: int, columns: "_Columns", decoder: json.JSONDecoder, pause: Callable[[], None]) -> int:
    at = _skip(text, at + 1)
    count = 0
    while text[at] != "]":
        event, at = decoder.raw_decode(text, at)
        columns.add(event)
        at = _skip(text, at)
        count += 1
        if count % PIECE == 0:
            pause()
    return at + 1


@dataclass
class _Columns:
    """Grows as events are read. Times stay in µs as they are in the file until the base is known."""

    whole: "array[int]" = field(default_factory=lambda: array("q"))
    """Name, kind, thread, device, correlation, link and bytes of each event: numbers, so that the garbage collector of
    the training has nothing to look at."""
    times_us: "array[float]" = field(default_factory=lambda: array("d"))
    """Start and duration of each."""
    shapes: dict[int, list[Any]] = field(default_factory=dict)
    identities: dict[str, int] = field(default_factory=dict)
    threads: dict[Any, int] = field(default_factory=dict)

    def add(self, event: dict[str, Any]) -> None:
        kind = CATEGORIES.get(event.get("cat", ""))
        if event.get("ph") == "i" and event.get("name") == "[memory]":
            kind = ALLOCATION
        elif event.get("ph") != "X" or kind is None:
            return
        more = event.get("args") or {}
        if kind == OPERATOR and more.get("Input Dims"):
            self.shapes[len(self.times_us) // 2] = more["Input Dims"]
        name, thread = event["name"], event.get("tid", 0)
        if not isinstance(thread, int):
            thread = -1 - self.threads.setdefault(thread, len(self.threads))
        self.times_us.extend((float(event["ts"]), float(event.get("dur", 0.0))))
        self.whole.extend(
            (
                self.identities.setdefault(name, len(self.identities)), kind, thread,
                _device_of(kind, more), int(more.get("correlation", 0)), int(more.get("External id", 0)),
                int(more.get("Bytes" if kind == ALLOCATION else "bytes", -1)),
            )
        )  # fmt: skip

    def as_trace(self, base_ns: int, device_name: str | None, usual_ns: float | None) -> Trace:
        whole = np.array(self.whole, np.int64).reshape(-1, 7).T
        name, kind, thread, device, correlation, link, size = whole
        start_us, took_us = np.array(self.times_us).reshape(-1, 2).T
        start_ns = np.rint(start_us * 1e3).astype(np.int64) + base_ns
        end_ns = np.rint((start_us + took_us) * 1e3).astype(np.int64) + base_ns
        order = np.lexsort((-(end_ns - start_ns), start_ns))
        places = {int(old): new for new, old in enumerate(order)}
        return Trace(
            list(self.identities), name[order], kind[order], start_ns[order], end_ns[order], thread[order],
            device[order], correlation[order], link[order], size[order],
            {places[index]: dims for index, dims in self.shapes.items()}, device_name, usual_ns,
        )  # fmt: skip


def _device_of(kind: int, more: dict[str, Any]) -> int:
    if kind == ALLOCATION:
        return int(more.get("Device Id", -1)) if more.get("Device Type") else -1  # type 0 is the host
    return int(more.get("device", -1)) if kind in ON_DEVICE else -1


def marked_steps(trace: Trace) -> Sequence[tuple[int, int]]:
    """Start and end of each step that torch's profiler marked, in order; empty where there is none."""
    found = [
        (int(trace.start_ns[index]), int(trace.end_ns[index]))
        for index in trace.of(ANNOTATION)
        if trace.named(index).startswith(STEP_MARK)
    ]
    return sorted(found)
