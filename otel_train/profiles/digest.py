"""From a window that was profiled to its event, and to its trace in the run's folder."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from otel_train import guard, names
from otel_train.derive.phases import phase_name
from otel_train.profiles import spans
from otel_train.profiles.analysis import analyze
from otel_train.profiles.outermost import outermost
from otel_train.profiles.summary import summary_of
from otel_train.profiles.trace import BLOCK_NAME, OWN, STEP_NAME, USUAL_NS, Trace, parse_trace
from otel_train.profiles.window import Window
from otel_train.runlog.events import Event
from otel_train.runlog.layout import DATA_WAIT, EVALUATION, MISSING, PROFILED, PROFILES
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.records import STEP, Records

MOST_TRACES = 20
"""Kept of a rank; the oldest goes first."""
LARGEST_TRACE = 256 * 2**20
"""Bytes as torch writes it: beyond it the trace is not kept, what it says is."""
RECENT = 64
"""Steps whose median is the usual one."""
LOOK_BACK = 1024
"""Records among which the window's steps are."""


def digest(
    log: RankLog, folder: Path | None, window: Window, written: Path, thread: int, pause: Callable[[], None]
) -> tuple[Event, float]:
    """Read and judge what torch has written, and keep it in the rank's folder, where there is one.

    Returns the event, and the usual step's time in ns, 0 where it is not known. Raises ``LookupError`` where the record
    lacks the steps.
    """
    records, usual_ns = window_records(log, window)
    start_ns, end_ns = window.began_ns, window.ended_ns
    if window.name is None:
        if not len(records):
            raise LookupError(f"the steps from {window.first} on that were profiled are not in the record")
        start_ns, end_ns = int(records["start_ns"][0]), int(records["start_ns"][-1] + records["duration_ns"][-1])
    text = written.read_text()
    pause()
    trace = parse_trace(text, pause=pause)
    names_of = log.names("phase")
    anchor = log.anchor
    waits = spans.union(spans.spans(
        (anchor.to_unix_ns(begin), anchor.to_unix_ns(end))
        for name, begin, end, _ in phases_of(records, names_of) if name == DATA_WAIT
    ))  # fmt: skip
    without_ns = usual_ns * len(records) if window.name is None else None
    analysis = analyze(trace, anchor.to_unix_ns(start_ns), anchor.to_unix_ns(end_ns), waits, thread, pause, without_ns)
    attributes = summary_of(analysis)
    if window.spans:
        attributes |= spans_of(trace, records, start_ns, end_ns, log)
    if folder is not None:
        marks = [(f"{BLOCK_NAME}{window.name}", start_ns, end_ns)] if window.name is not None else []
        marks += marks_of(records, names_of)
        path = keep(folder / PROFILES, file_name(window), with_marks(text, marks, log, thread, without_ns), pause)
        attributes |= {names.PROFILE_PATH: str(path)} if path is not None else {}
    attributes |= {names.PROFILE_REASON: window.reason, names.PROFILE_COST: window.cost_ns / 1e9}
    step, epoch = window.first, window.epoch
    if window.name is not None:
        attributes[names.PROFILE_NAME] = window.name
    else:
        attributes[names.PROFILE_STEPS] = len(records)
        step, epoch = int(records["step"][0]), int(records["epoch"][0])
    attributes |= {names.EPOCH_NUMBER: epoch} if epoch != MISSING else {}
    return Event(names.PROFILE, start_ns, end_ns - start_ns, step=step, attributes=attributes), usual_ns


def spans_of(trace: Trace, records: Records, start_ns: int, end_ns: int, log: RankLog) -> dict[str, Any]:
    """The outermost operators as rows of ``names.PROFILE_SPANS``, and how many were left out."""
    to_unix = log.anchor.to_unix_ns
    origin = to_unix(start_ns)
    calls, left_out = outermost(trace, origin, to_unix(end_ns))
    rows = []
    for call in calls:
        step, slot = place_of(records, call.start_ns - origin + start_ns)
        rows.append([call.name, (call.start_ns - origin) / 1e9, (call.end_ns - call.start_ns) / 1e9, step, slot])
    return {names.PROFILE_SPANS: rows, names.PROFILE_SPANS_LEFT_OUT: left_out}


def place_of(records: Records, moment_ns: int) -> tuple[int | None, int]:
    """The step in which a moment of the rank's clock lies, and the innermost phase: its slot in the record and 1."""
    for record in records:
        since = moment_ns - int(record["start_ns"])
        if 0 <= since < int(record["duration_ns"]):
            slots = record["phases"][: int(record["phase_count"])].tolist()
            around = [
                (depth, slot + 1)
                for slot, (_, depth, _, start, took) in enumerate(slots)
                if start <= since < start + took
            ]
            return int(record["step"]), max(around, default=(0, 0))[1]
    return None, 0


def file_name(window: Window) -> str:
    """``step-00001200``, or ``block-<name>-`` and a time where there are more of the name."""
    if window.name is None:
        return f"step-{window.first:08d}"
    return f"block-{re.sub(r'[^A-Za-z0-9._-]+', '_', window.name)[:64]}-{window.began_ns}"


def window_records(log: RankLog, window: Window) -> tuple[Records, float]:
    """The window's steps, and the median time in ns of the steps before it that were not profiled."""
    _, end = log.steps.bounds()
    parts = [part for _, part in log.steps.read(max(end - LOOK_BACK, 0))]
    records = np.concatenate(parts) if parts else np.empty(0, STEP)
    records = records[(records["flags"] & EVALUATION) == 0]
    profiled = (records["flags"] & PROFILED) != 0
    own = profiled & (records["start_ns"] + records["duration_ns"] >= window.began_ns)
    before = records["duration_ns"][~profiled & (records["start_ns"] < window.began_ns)][-RECENT:]
    return records[own][: window.steps], float(np.median(before)) if len(before) else 0.0


def phases_of(records: Records, names_of: dict[int, str]) -> "list[tuple[str, int, int, int]]":
    """Name, start, end (ns, the rank's clock) and depth of each phase of the steps."""
    found = []
    for record in records:
        for slot in record["phases"][: int(record["phase_count"])]:
            begin = int(record["start_ns"]) + round(float(slot["start_ns"]))
            end = begin + round(float(slot["duration_ns"]))
            found.append((phase_name(names_of, int(slot["phase"])), begin, end, int(slot["depth"])))
    return found


def marks_of(records: Records, names_of: dict[int, str]) -> list[tuple[str, int, int]]:
    """Name, start and end (ns, the rank's clock) of the steps, and of their phases in the order of their starts."""
    marks = []
    for record in records:
        start = int(record["start_ns"])
        marks.append((f"{STEP_NAME}{int(record['step'])}", start, start + int(record["duration_ns"])))
    phases = sorted(phases_of(records, names_of), key=lambda phase: (phase[1], -phase[2]))
    return marks + [(name, begin, end) for name, begin, end, _ in phases]


def with_marks(text: str, marks: list[tuple[str, int, int]], log: RankLog, thread: int, usual_ns: float | None) -> str:
    """The trace with our marks as a track of its own, at the top, and with how long the steps usually take."""
    marker = '"traceEvents": ['
    at = text.find(marker)
    base = '"baseTimeNanoseconds":'
    place = text.find(base)
    base_ns = int(json.JSONDecoder().raw_decode(text, _next(text, place + len(base)))[0]) if place >= 0 else 0
    if at < 0:
        return text
    to_unix = log.anchor.to_unix_ns

    def event(name: str, begin: int, end: int) -> dict[str, Any]:
        return {
            "ph": "X", "cat": OWN, "name": name, "pid": OWN, "tid": thread,
            "ts": (to_unix(begin) - base_ns) / 1e3, "dur": (end - begin) / 1e3,
        }  # fmt: skip

    events = [{"ph": "M", "name": "process_sort_index", "pid": OWN, "tid": 0, "args": {"sort_index": -1}}]
    events += [event(*mark) for mark in marks]
    own = f'"{OWN}": {json.dumps({USUAL_NS: usual_ns})},\n' if usual_ns else ""
    text = text[:at] + own + text[at:]
    at += len(own) + len(marker)
    return (
        text[:at]
        + "\n"
        + ",\n".join(map(json.dumps, events))
        + ("," if text[_next(text, at)] != "]" else "")
        + text[at:]
    )


def _next(text: str, at: int) -> int:
    while text[at].isspace():
        at += 1
    return at


PIECE = 1 << 18
"""Characters packed at once; zlib lets go of the GIL meanwhile."""


def keep(folder: Path, name: str, text: str, pause: Callable[[], None]) -> Path | None:
    """Put the trace in the folder, packed, and take the oldest ones away; None if it cannot be kept."""
    if len(text) > LARGEST_TRACE:
        guard.warn_once("large trace", "the trace %s (%d MiB) is too large to keep", name, len(text) >> 20)
        return None
    path = folder / f"{name}.json.gz"
    try:
        folder.mkdir(exist_ok=True)
        with gzip.open(path, "wt", compresslevel=3) as packed:
            for at in range(0, len(text), PIECE):
                packed.write(text[at : at + PIECE])
                pause()
        for oldest in sorted(folder.glob("*.json.gz"), key=lambda known: known.stat().st_mtime)[:-MOST_TRACES]:
            oldest.unlink(missing_ok=True)
    except OSError as error:
        guard.report("trace", error)
        return None
    return path
