"""Nothing is sent twice and nothing is left out, wherever an export stops and another one goes on."""

import json
import os
import random

import pytest
from export_setup import MS, SECOND, LogBuilder, Recording, attributes, exporter_of, named, recorded, run_of
from otlp_receiver import OtlpReceiver

from otel_train.derive.aggregate import Aggregate
from otel_train.export import Exporter, Targets, log_source, metric_source, trace_source
from otel_train.file_lock import FileLock
from otel_train.runlog.layout import EVALUATION, FAILED
from otel_train.runlog.storage import Memory


@pytest.fixture
def small_batches(monkeypatch):
    """Many requests, so that there are many places to be cut at."""
    monkeypatch.setattr(trace_source, "MOST_SPANS", 10)
    monkeypatch.setattr(metric_source, "MOST_SETS", 2)
    monkeypatch.setattr(log_source, "MOST_LOGS", 3)


PACES_S = (0.05, 1, 12)
"""So that intervals and slots of time hold many steps, some, or one."""


def write_some(builder, chance, pace_s):
    """A stretch of an eventful run with steps of about ``pace_s``."""
    for _ in range(chance.randrange(1, 120)):
        number, failed = builder.steps.total, chance.random() < 0.03
        duration = int(chance.lognormvariate(0, 0.6) * pace_s * SECOND)
        if failed:
            builder.event("error", builder.end_ns + duration, step=number, error={"type": f"E{number}", "message": ""})
        flags = FAILED * failed | EVALUATION * (chance.random() < 0.1)
        builder.step(number, duration, [("forward", 0, duration // 3)], samples=3, flags=flags)
        builder.scalar(number, chance.random())
        if chance.random() < 0.05:
            builder.event("checkpoint", builder.end_ns, 10 * MS, attributes={"dl.checkpoint.kind": "save"})
        if chance.random() < 0.05:
            builder.event("phase", builder.end_ns, 5 * MS, attributes={"dl.phase": "upload"})


def merged(sets):
    total = Aggregate()
    for points in sets:
        total.merge(points.delta)
    return total


def steps_in(targets):
    """All steps that the last point of a cumulative count has."""
    sums = targets.metrics.items[-1].total.sums
    return sum(count for (name, _), count in sums.items() if name == "dl.step.count")


def span_key(span):
    return tuple(map(str, vars(span).values()))


@pytest.mark.parametrize("seed", range(12))
def test_cut_anywhere_in_a_finished_log(tmp_path, small_batches, seed):
    """Exports that fail at random requests, each followed by a fresh one from the disk, send what one export sends."""
    chance = random.Random(seed)
    builder = LogBuilder(tmp_path, settings={"keep_every": chance.choice([1, 3, "auto"])})
    for _ in range(6):
        write_some(builder, chance, PACES_S[seed % 3])
    expected = recorded(LogBuilder(tmp_path, "copy", storage=_copy(builder)).log)
    kept = Targets(Recording(), Recording(), Recording())
    for target in (kept.traces, kept.metrics, kept.logs):
        target._fails = iter(lambda: chance.random() < 0.3, None)
    for _ in range(400):
        exporter = Exporter(builder.log, kept)
        assert exporter.acquire()
        is_done = exporter.drain(final=True)
        exporter.release()
        if is_done:
            break
    assert is_done
    assert list(map(span_key, expected.traces.items)) == list(map(span_key, kept.traces.items))
    assert expected.logs.items == kept.logs.items
    assert [points.end_ns for points in expected.metrics.items] == [points.end_ns for points in kept.metrics.items]
    assert merged(expected.metrics.items).sums == pytest.approx(merged(kept.metrics.items).sums)
    assert kept.metrics.items[-1].total.sums == pytest.approx(merged(kept.metrics.items).sums)


def _copy(builder):
    """The same log in memory, without a cursor."""
    copy = Memory()
    for name in builder.storage.names():
        if name.endswith(".bin"):
            mapped = copy.create_mapped(name, 1 << 20)
            mapped[:] = builder.storage.open_mapped(name)[:]
        elif name not in ("cursor.json", "export.lock"):
            copy.replace(name, builder.storage.read(name))
    return _Kept(copy)


class _Kept:
    """A storage whose log is there already: the builder's own first files are not written."""

    def __init__(self, storage):
        self._storage = storage
        self.location = storage.location

    def __getattr__(self, name):
        return getattr(self._storage, name)

    def create_mapped(self, name, size):
        return Memory().create_mapped(name, size)

    def open_append(self, name):
        return lambda line: None

    def replace(self, name, content):
        if name != "run.json":
            self._storage.replace(name, content)


@pytest.mark.parametrize("seed", range(12))
def test_a_log_that_grows_between_exports(tmp_path, small_batches, seed):
    """With a run that goes on and a backend that fails now and then, each step arrives once, and so does each event."""
    chance = random.Random(1000 + seed)
    builder = LogBuilder(tmp_path, settings={"keep_every": 1})
    targets = Targets(Recording(), Recording(), Recording())
    targets.traces._fails = targets.metrics._fails = iter(lambda: chance.random() < 0.2, None)
    exporter = Exporter(builder.log, targets)
    for _ in range(15):
        write_some(builder, chance, PACES_S[seed % 3])
        if chance.random() < 0.5:
            exporter.release()
            exporter = Exporter(builder.log, targets)
            assert exporter.acquire()
        for channel in exporter._channels:
            channel.retry_at = 0
        exporter.drain()
    while not exporter.drain(final=True):
        pass
    spans = targets.traces.items
    steps = [span for span in spans if span.name == "dl.step"]
    assert list(range(builder.steps.total)) == [span.attributes["dl.iteration"] for span in steps]
    assert len(spans) == len({span.ids for span in spans})
    failed = [span for span in steps if span.error]
    assert [log.event.step for log in targets.logs.items] == [span.attributes["dl.iteration"] for span in failed]
    assert all(span.error["type"] == f"E{span.attributes['dl.iteration']}" for span in failed)
    assert builder.steps.total == steps_in(targets)
    ends = [points.end_ns for points in targets.metrics.items]
    assert sorted(set(ends)) == ends


def test_over_http_from_two_processes(tmp_path):
    """What the first export left unsent, a second one sends, and the backend has each step and span once."""
    builder = run_of(LogBuilder(tmp_path, settings={"keep_every": 1}), 1500, SECOND)
    with OtlpReceiver() as receiver:
        receiver.paths = {"/v1/metrics": 503}
        first = exporter_of(builder.log, receiver, timeout_s=0.3)
        assert not first.drain()
        first.release()
        run_of(builder, 500, SECOND)
        receiver.paths = {}
        assert exporter_of(builder.log, receiver).drain(final=True)
        iterations = [attributes(span)["dl.iteration"] for span in named(receiver.spans, "dl.step")]
        assert list(range(2000)) == iterations
        counted = [point.as_int for point in receiver.points("dl.step.count")]
        assert (sorted(counted), 2000) == (counted, counted[-1])


def test_records_that_the_log_dropped_are_counted(tmp_path):
    """Old segments went before a backend took them: the rest is sent, and the loss is known."""
    builder = run_of(LogBuilder(tmp_path, budget=2 << 20), 30_000, MS)
    oldest, _ = builder.log.steps.bounds()
    assert oldest > 0
    targets = Targets(Recording(), Recording())
    exporter = Exporter(builder.log, targets)
    assert exporter.drain(final=True)
    assert (oldest, 0) == (exporter.dropped, exporter.pending())
    assert 30_000 - oldest == steps_in(targets)


def test_the_total_goes_on_when_its_records_are_gone(tmp_path):
    """A cumulative count does not fall back because the log dropped what was counted long ago."""
    builder = run_of(LogBuilder(tmp_path, budget=4 << 20), 20_000, MS)
    targets = Targets(metrics=Recording())
    assert Exporter(builder.log, targets).drain(final=True)
    run_of(builder, 15_000, MS)
    exporter = Exporter(builder.log, targets)
    assert exporter.drain(final=True)
    assert 35_000 == steps_in(targets)
    assert 0 == exporter.dropped


def test_half_a_line_is_left_for_later(tmp_path):
    """An event that is still being written is not sent, and not skipped."""
    builder = run_of(LogBuilder(tmp_path), 1)
    append = builder.storage.open_append("events-00000000.jsonl")
    targets = Targets(Recording(), logs=Recording())
    exporter = Exporter(builder.log, targets)
    append(b'{"kind":"epoch","start_ns":0,')
    exporter.drain()
    append(b'"duration_ns":10000000}\n{"kind":"nonfinite","st')
    exporter.drain()
    append(b'art_ns":5}\n')
    exporter.drain()
    exporter.drain(final=True)
    assert ["dl.epoch"] == [span.name for span in targets.traces.items if span.name == "dl.epoch"]
    assert ["nonfinite"] == [log.event.kind for log in targets.logs.items]


def test_a_second_final_drain_sends_nothing(tmp_path):
    """Pushing twice is pushing once."""
    builder = run_of(LogBuilder(tmp_path), 10)
    builder.event("nonfinite", 0)
    first, second = recorded(builder.log), recorded(builder.log)
    assert first.traces.items
    assert [[], [], []] == [second.traces.items, second.metrics.items, second.logs.items]


def test_signals_keep_their_own_place(tmp_path):
    """An export of traces alone leaves the place of metrics as it was."""
    builder = run_of(LogBuilder(tmp_path), 10)
    assert Exporter(builder.log, Targets(metrics=Recording())).drain(final=True)
    assert Exporter(builder.log, Targets(traces=Recording())).drain(final=True)
    cursor = json.loads((builder.path / "cursor.json").read_bytes())
    assert [10, 10] == [cursor[signal]["steps"] for signal in ("traces", "metrics")]


def test_one_exporter_a_rank(tmp_path):
    """A second exporter of the same log is refused until the first lets go; a rank in memory has no rival."""
    builder = run_of(LogBuilder(tmp_path), 1)
    first, second = (Exporter(builder.log, Targets()) for _ in range(2))
    assert first.acquire()
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    in_memory = LogBuilder(tmp_path, "memory", storage=Memory())
    assert all(Exporter(in_memory.log, Targets()).acquire() for _ in range(2))


def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    """The run died and a worker of it lives on: another process can export the run."""
    builder = run_of(LogBuilder(tmp_path), 1)
    lock, rival = FileLock(builder.path / "export.lock"), FileLock(builder.path / "export.lock")
    assert lock.acquire()
    (is_up, up), (end, ended) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.close(ended)
        os.write(up, b"!")
        os.read(end, 1)
        os._exit(0)
    os.read(is_up, 1)
    assert not rival.acquire()
    lock.forget()  # as the end of the process does
    assert rival.acquire()
    os.close(ended)
    os.waitpid(child, 0)
    rival.release()
    for descriptor in (is_up, up, end):
        os.close(descriptor)


def test_a_cursor_that_cannot_be_read(tmp_path, caplog):
    """All is sent anew, and one warning says so."""
    builder = run_of(LogBuilder(tmp_path), 3)
    recorded(builder.log)
    (builder.path / "cursor.json").write_text("{")
    assert recorded(builder.log).traces.items
    assert 1 == sum("cursor.json" in record.getMessage() for record in caplog.records)
