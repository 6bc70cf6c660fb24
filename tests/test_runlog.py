"""The run log: what is written is read back, at any moment, whole; what is unknown is refused."""

import json
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_train.errors import RunLogError, RunNotFound, UnknownFormat
from otel_train.recorder.phase_slots import merge
from otel_train.runlog.events import Event, EventWriter, Position, read_events
from otel_train.runlog.layout import (
    COUNT_SHIFT,
    DEPTH_SHIFT,
    FORMAT_VERSION,
    PHASE_SLOTS,
    SCALAR_STRUCT,
    SEGMENT_BYTES,
    STEP_BYTES,
    STEP_STRUCTS,
)
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.records import SCALAR, STEP, SegmentReader
from otel_train.runlog.runs import find_run, runs_in, state_of
from otel_train.runlog.segments import SegmentWriter
from otel_train.runlog.storage import Folder, Memory

DOCUMENT = Path(__file__).parent.parent / "docs" / "run-log.md"


def test_document_has_the_version_and_the_layout():
    """docs/run-log.md names the version, and each field at its offset."""
    text = DOCUMENT.read_text()
    assert f"Format version: **{FORMAT_VERSION}**" in text
    for name, (_, offset) in [(name, STEP.fields[name][:2]) for name in STEP.names]:
        what = re.escape(name if name != "reserved" else "reserved")
        assert re.search(rf"^\| {offset} \|[^|]*\| `?{what}`?", text, re.MULTILINE), (name, offset)


def test_struct_and_numpy_agree():
    """What the hot path packs is what numpy reads, field by field."""
    what = 3 | 2 << DEPTH_SHIFT | 5 << COUNT_SHIFT
    packed = STEP_STRUCTS[1].pack(1, 2, 3, 4, 5, 6, 7, 9 | 1 << 16, what, 0.5, 1.5)
    record = np.frombuffer(packed.ljust(STEP_BYTES, b"\0"), STEP)[0]
    names = ("step", "start_ns", "duration_ns", "samples", "tokens", "padded_tokens", "epoch", "flags", "phase_count")
    assert (1, 2, 3, 4, 5, 6, 7, 9, 1) == tuple(int(record[name]) for name in names)
    assert (3, 2, 5, 0.5, 1.5) == tuple(record["phases"][0].tolist())
    scalar = np.frombuffer(SCALAR_STRUCT.pack(1, 2, 3, 0, 0.25), SCALAR)[0]
    assert (1, 2, 3, 0.25) == (scalar["step"], scalar["time_ns"], scalar["name"], scalar["value"])


@settings(max_examples=25, deadline=None)
@given(count=st.integers(0, 20_000), start=st.integers(0, 20_000), seed=st.integers(0, 9))
def test_what_is_written_is_read(count, start, seed):
    """Any number of records, over any number of segments, read from any ordinal, comes back equal and in order."""
    storage, values = Memory(), np.random.default_rng(seed).integers(-(2**63), 2**63, (count, 3))
    writer = SegmentWriter(storage, "steps", STEP_BYTES, 1 << 40)
    for row in values.tolist():
        writer.append(STEP_STRUCTS[0], *row, 0, 0, 0, 0, 0)
    parts = list(SegmentReader(storage, "steps", STEP).read(start))
    got = [tuple(record) for _, part in parts for record in part[["step", "start_ns", "duration_ns"]].tolist()]
    assert [tuple(row) for row in values[start:].tolist()] == got
    assert count == writer.total == SegmentReader(storage, "steps", STEP).bounds()[1]
    expected = start
    for first, part in parts:
        assert expected == first
        expected += len(part)


def test_uncommitted_record_is_not_read():
    """A record that was packed but not committed, as by a process killed in between, is not there."""
    storage = Memory()
    writer = SegmentWriter(storage, "steps", STEP_BYTES, 1 << 30)
    writer.append(STEP_STRUCTS[0], 1, 2, 3, 0, 0, 0, 0, 0)
    STEP_STRUCTS[0].pack_into(writer.buffer, 128 + STEP_BYTES, 9, 9, 9, 0, 0, 0, 0, 0)
    ((_, records),) = SegmentReader(storage, "steps", STEP).read()
    assert [1] == records["step"].tolist()


def test_the_oldest_go_first():
    """A log over its budget keeps the newest segments; ordinals show the gap."""
    storage = Memory()
    writer = SegmentWriter(storage, "steps", STEP_BYTES, 3 * SEGMENT_BYTES)
    for number in range(5 * writer.capacity + 10):
        writer.append(STEP_STRUCTS[0], number, 0, 0, 0, 0, 0, 0, 0)
    reader = SegmentReader(storage, "steps", STEP)
    oldest, end = reader.bounds()
    assert (3 * writer.capacity, 5 * writer.capacity + 10) == (oldest, end)
    first, records = next(reader.read(0))
    assert (oldest, oldest) == (first, int(records["step"][0]))
    assert len(storage.names()) * SEGMENT_BYTES <= 3 * SEGMENT_BYTES


def test_prepared_segment_is_used(tmp_path):
    """The background makes the next segment ready; the writer moves into it, and the file is whole from the start."""
    writer = SegmentWriter(Folder(tmp_path), "steps", STEP_BYTES, 1 << 30)
    writer.prepare()
    assert ["steps-00000000.bin"] == [path.name for path in tmp_path.iterdir()]
    for number in range(writer.capacity - 1):
        writer.append(STEP_STRUCTS[0], number, 0, 0, 0, 0, 0, 0, 0)
    writer.prepare()
    sizes = {path.name: (path.stat().st_size, path.stat().st_blocks * 512) for path in tmp_path.iterdir()}
    assert {"steps-00000000.bin", "steps-00000001.bin"} == set(sizes)
    assert all(size == SEGMENT_BYTES <= allocated for size, allocated in sizes.values())
    writer.append(STEP_STRUCTS[0], 0, 0, 0, 0, 0, 0, 0, 0)
    assert writer.capacity == writer.total


@pytest.mark.parametrize(
    ("offset", "value"), [(0, b"SOMETHNG"), (8, struct.pack("<I", 99)), (12, struct.pack("<I", 64))]
)
def test_unknown_segment_is_refused(tmp_path, offset, value):
    """Another magic, version or record size is an error that says what was got and what is read."""
    writer = SegmentWriter(Folder(tmp_path), "steps", STEP_BYTES, 1 << 30)
    writer.append(STEP_STRUCTS[0], 1, 2, 3, 0, 0, 0, 0, 0)
    with open(tmp_path / "steps-00000000.bin", "r+b") as file:
        file.seek(offset)
        file.write(value)
    with pytest.raises(UnknownFormat, match=f"version {FORMAT_VERSION} with records of {STEP_BYTES}"):
        list(SegmentReader(Folder(tmp_path), "steps", STEP).read())


def test_unknown_run_is_refused(tmp_path):
    """A run.json of another version names the otel_train that wrote it; none at all is no run log."""
    (tmp_path / "run.json").write_text(json.dumps({"format_version": 99, "otel_train_version": "7.0"}))
    with pytest.raises(UnknownFormat, match=r"got run log format 99.*otel_train 7.0"):
        RankLog.open(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunLogError, match="holds no run log"):
        RankLog.open(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "5",
        json.dumps({"format_version": FORMAT_VERSION}),
        json.dumps({"format_version": FORMAT_VERSION, "run_id": 1, "rank": 0, "anchor": 5}),
    ],
)
def test_half_a_run_json_is_refused(tmp_path, content):
    """A run.json without what a reader needs is an error of ours, not a traceback."""
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunLogError):
        RankLog.open(tmp_path)


def test_damaged_files_cost_what_is_damaged(tmp_path):
    """A segment cut short gives its whole records; a damaged line of events or names is left out."""
    writer = SegmentWriter(Folder(tmp_path), "steps", STEP_BYTES, 1 << 30)
    for number in range(100):
        writer.append(STEP_STRUCTS[0], number, 2, 3, 0, 0, 0, 0, 0)
    os.truncate(tmp_path / "steps-00000000.bin", 3000)
    reader = SegmentReader(Folder(tmp_path), "steps", STEP)
    assert list(range((3000 - 128) // 128)) == [int(record["step"]) for _, part in reader.read() for record in part]
    lines = [Event("a", 1).to_line(), b"{broken\n", b"[]\n", Event("b", 2).to_line()]
    (tmp_path / "events-00000000.jsonl").write_bytes(b"".join(lines))
    assert ["a", "b"] == [event.kind for event, _ in read_events(Folder(tmp_path))]


def test_segment_being_made_is_not_there_yet(tmp_path):
    """A reader that meets a segment without its header, or an empty file, goes on without it."""
    writer = SegmentWriter(Folder(tmp_path), "steps", STEP_BYTES, 1 << 30)
    writer.append(STEP_STRUCTS[0], 1, 2, 3, 0, 0, 0, 0, 0)
    (tmp_path / "steps-00000001.bin").write_bytes(bytes(SEGMENT_BYTES))
    (tmp_path / "steps-00000002.bin").write_bytes(b"")
    reader = SegmentReader(Folder(tmp_path), "steps", STEP)
    assert [1] == [int(record["step"]) for _, records in reader.read() for record in records]
    assert (0, 1) == reader.bounds()


plain = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False), st.text())
events = st.builds(
    Event,
    kind=st.text(min_size=1),
    start_ns=st.integers(0, 2**63),
    duration_ns=st.none() | st.integers(0, 2**63),
    step=st.none() | st.integers(0, 2**40),
    thread=st.none() | st.text(),
    error=st.none() | st.fixed_dictionaries({"type": st.text(), "message": st.text()}),
    attributes=st.dictionaries(st.text(), plain, max_size=4),
)


@settings(max_examples=50, deadline=None)
@given(written=st.lists(events, max_size=10), cut=st.integers(0, 200))
def test_events_are_read_as_written(written, cut):
    """Events of any content come back equal; from any position on; a line still being written is left for later."""
    storage = Memory()
    writer = EventWriter(storage, 1 << 30)
    for event in written:
        writer.write(event)
    found = list(read_events(storage))
    assert written == [event for event, _ in found]
    positions = [Position(), *(position for _, position in found)]
    start = min(cut, len(written))
    assert written[start:] == [event for event, _ in read_events(storage, positions[start])]
    storage.open_append("events-00000000.jsonl")(b'{"kind": "half')
    assert written == [event for event, _ in read_events(storage)]


def test_events_are_bounded():
    """The oldest segment of events goes when the budget is used up."""
    storage = Memory()
    writer = EventWriter(storage, 8 << 20)
    for number in range(150):
        writer.write(Event("note", number, attributes={"text": "x" * 100_000}))
    kept = [event.start_ns for event, _ in read_events(storage)]
    assert 149 == kept[-1]
    assert list(range(kept[0], 150)) == kept
    assert sum(len(storage.read(name)) for name in storage.names()) <= 8 << 20


slots = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 3), st.integers(0, 10**6), st.integers(0, 10**6)))


@given(slots)
def test_merging_keeps_the_times(given_slots):
    """However many phases: they fit, and the times and counts at depth 0 add up to what they were."""
    flat = [
        field
        for identity, depth, start, duration in given_slots
        for field in (identity | depth << DEPTH_SHIFT | 1 << COUNT_SHIFT, start, duration)
    ]
    merged = merge(flat)
    assert len(merged) <= 3 * PHASE_SLOTS
    twice = merge(merged)

    def top(slots):
        own = [index for index in range(0, len(slots), 3) if not slots[index] >> DEPTH_SHIFT & 0xFF]
        return sum(slots[index] >> COUNT_SHIFT for index in own), sum(slots[index + 2] for index in own)

    assert top(flat) == top(merged) == top(twice)


def make_run(directory, run_id, rank=0, **more):
    """A run on disk with nothing but its identity."""
    folder = directory / run_id / f"rank-{rank:05d}"
    folder.mkdir(parents=True)
    anchor = {"unix_ns": 5, "monotonic_ns": 1}
    identity = {"format_version": FORMAT_VERSION, "run_id": run_id, "rank": rank, "anchor": anchor, **more}
    (folder / "run.json").write_text(json.dumps(identity))
    return folder


def test_finding_runs(tmp_path):
    """By id, prefix, path of the run or a rank, or the newest; otherwise an error that says what there is."""
    for run_id in ("abc-1", "abc-2", "abd"):
        make_run(tmp_path, run_id)
    make_run(tmp_path, "abd", rank=1)
    (tmp_path / "not a run").mkdir()
    assert {"abc-1", "abc-2", "abd"} == {run.id for run in runs_in(tmp_path)}
    assert "abd" == find_run(tmp_path, None).id == find_run(tmp_path, "abd").id == find_run(tmp_path, "abd").path.name
    assert "abc-1" == find_run(tmp_path, "abc-1").id
    assert "abd" == find_run(tmp_path, str(tmp_path / "abd")).id
    assert "abd" == find_run(tmp_path, str(tmp_path / "abd" / "rank-00001")).id
    assert [0, 1] == [rank.rank for rank in find_run(tmp_path, "abd").ranks()]
    for wanted, words in (("ab", "more than one"), ("xyz", "no run in"), (str(tmp_path / "not a run"), "is no run")):
        with pytest.raises(RunNotFound, match=words):
            find_run(tmp_path, wanted)
    with pytest.raises(RunNotFound, match="otel-train demo"):
        find_run(tmp_path / "nowhere", None)


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({"end": {"unix_ns": 9}}, "finished"),
        ({"end": {"error": {"type": "ValueError"}}}, "failed"),
        ({"process": {"pid": 1, "host": "elsewhere.example"}}, "unknown"),
        ({"process": {"pid": 1, "host": "HERE", "start_ticks": -1}}, "died"),
        ({"process": {"pid": "OWN", "host": "HERE"}}, "running"),
    ],
    ids=lambda value: str(value),
)
def test_states(tmp_path, more, state):
    """A run is over when it said so; it died when its process is gone, or another one has its number."""
    import os
    import socket

    process = more.get("process", {})
    if process.get("host") == "HERE":
        process = {**process, "host": socket.gethostname(), "pid": os.getpid() if process["pid"] == "OWN" else 1}
        more = {"process": process}
    assert state == state_of(RankLog.open(make_run(tmp_path, "run", **more)))
