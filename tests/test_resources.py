"""``resources.csv``, the thread that writes it, and what a backend sees of it."""

import csv
import io
import multiprocessing
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import otel_train
from otel_train import guard
from otel_train import resource_names as names
from otel_train.derive.aggregate import Aggregate, add_resources
from otel_train.derive.resource_totals import scan_resources
from otel_train.errors import SettingsError
from otel_train.file_lock import FileLock
from otel_train.identity import Identity
from otel_train.resource_names import RESOURCES, column, series, series_of
from otel_train.runlog import resources
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.resources import ResourceWriter, read_resources
from otel_train.runlog.runs import runs_in
from otel_train.runlog.storage import Folder, Memory
from otel_train.samplers.sampler import SamplerUnavailable
from otel_train.sampling import Sampling, Source, host_lock, is_alone, sources
from otel_train.settings import load
from otel_train.testing import record

ROOT = Path(__file__).parent.parent
POWER = series(names.HW_POWER, hw__id="GPU-1", hw__type="gpu")
LOAD = series(names.CPU_LOAD, otel_train__window="1m")

TEXT = st.text(min_size=1, max_size=20)
SERIES = st.tuples(
    st.sampled_from(sorted(RESOURCES)),
    st.dictionaries(st.from_regex(r"[a-z][a-z.]{0,8}", fullmatch=True), TEXT, max_size=3).map(
        lambda pairs: tuple(sorted(pairs.items()))
    ),
)


@given(SERIES)
def test_a_column_names_its_series(key):
    """Whatever an attribute's value has in it."""
    assert key == series_of(column(key))


@pytest.mark.parametrize("name", ["", "{a=b}", "name{", "name{a}", "name{=b}", "a}b"])
def test_what_is_no_column(name):
    """A name that was damaged is refused, not guessed at."""
    with pytest.raises(ValueError, match="column is named"):
        series_of(name)


@given(st.lists(st.dictionaries(SERIES, st.floats(allow_nan=True, width=32), min_size=1, max_size=4), max_size=12))
def test_what_is_written_is_read(rows):
    """Rows with series that come and go, and with values that are no number, which are missing."""
    storage = Memory()
    writer = ResourceWriter(storage, 1 << 30)
    for number, row in enumerate(rows):
        writer.write(number, row)
    found = list(read_resources(storage))
    assert list(range(len(rows))) == [time for time, _, _ in found]
    for row, (_, read, _) in zip(rows, found, strict=True):
        finite = {key: value for key, value in row.items() if abs(value) < float("inf")}
        assert pytest.approx(finite, rel=1e-8, abs=0) == read
    for index, (_, _, position) in enumerate(found):
        assert found[index + 1 :] == list(read_resources(storage, position))


def test_a_spreadsheet_reads_it(tmp_path):
    """One header, one row a sample, as any CSV reader has it; also a mount point with a comma in its name."""
    odd = series(names.FILESYSTEM_USAGE, system__filesystem__mountpoint='/mnt/a,b "c"')
    writer = ResourceWriter(Folder(tmp_path), 1 << 30)
    writer.write(1.5, {POWER: 700, odd: 12.25})
    writer.write(6.5, {POWER: 650.5})
    (path,) = tmp_path.iterdir()
    assert "resources.csv" == path.name
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert ["unix_s", "hw.power{hw.id=GPU-1;hw.type=gpu}", column(odd)] == list(rows[0])
    assert ["700", "650.5"] == [row[column(POWER)] for row in rows]
    assert ["12.25", ""] == [row[column(odd)] for row in rows]


def test_a_new_series_begins_a_file(tmp_path):
    """Nothing that is written is written again: the next file has the columns of the first, and the new one."""
    writer = ResourceWriter(Folder(tmp_path), 1 << 30)
    writer.write(1, {LOAD: 1})
    writer.write(2, {LOAD: 2, POWER: 700})
    writer.write(3, {POWER: 650})
    assert ["resources-00000001.csv", "resources.csv"] == sorted(path.name for path in tmp_path.iterdir())
    assert [{LOAD: 1}, {LOAD: 2, POWER: 700}, {POWER: 650}] == [row for _, row, _ in read_resources(Folder(tmp_path))]


class Headers(Memory):
    """Notes each time that a file is read from its beginning."""

    def __init__(self):
        super().__init__()
        self.read_from_start = []

    def read(self, name, offset=0, length=-1):
        if not offset:
            self.read_from_start.append(name)
        return super().read(name, offset, length)


def test_who_reads_on_reads_a_header_once():
    """Each look finds the rows since the last one, a new file's too; no header is parsed again for it."""
    storage, headers, position, found = Headers(), {}, None, []
    writer = ResourceWriter(storage, 1 << 30)
    for number in range(10):
        writer.write(number, {LOAD: number} if number < 6 else {LOAD: number, POWER: 700})
        rows = list(read_resources(storage, position, headers))
        found += [(time, len(row)) for time, row, _ in rows]
        position = rows[-1][2]
    assert [(number, 1 if number < 6 else 2) for number in range(10)] == found
    assert ["resources.csv", "resources-00000001.csv"] == storage.read_from_start


def test_it_is_bounded(monkeypatch):
    """The oldest files go; a reader that was there goes on with what is left."""
    monkeypatch.setattr(resources, "RESOURCES_SEGMENT_BYTES", 200)
    storage = Memory()
    writer = ResourceWriter(storage, 400)
    writer.write(0, {POWER: 0})
    ((_, _, position),) = read_resources(storage)
    for number in range(1, 200):
        writer.write(number, {POWER: number})
    assert 2 == len(storage.names())
    times = [time for time, _, _ in read_resources(storage, position)]
    assert 199 == times[-1]
    assert list(range(int(times[0]), 200)) == times


def test_series_that_come_and_go(monkeypatch):
    """Each begins a file, which costs the others no history: what counts is bytes. What is gone has no column later."""
    monkeypatch.setattr(resources, "RESOURCES_SEGMENT_BYTES", 4000)
    storage = Memory()
    writer = ResourceWriter(storage, 20_000)
    for number in range(200):
        interface = series(names.NETWORK_IO, network__interface__name=f"veth{number // 20}")
        writer.write(number * 60, {POWER: number, interface: number})
    rows = list(read_resources(storage))
    assert [number * 60 for number in range(200)] == [time for time, _, _ in rows]
    last, _, _ = storage.read("resources-00000009.csv").partition(b"\n")
    assert 4 == last.count(b",") + 1


def test_more_series_than_columns(monkeypatch, caplog):
    """They are left out, and that is said."""
    monkeypatch.setattr(resources, "MOST_COLUMNS", 3)
    storage = Memory()
    writer = ResourceWriter(storage, 1 << 30)
    keys = [series(names.CPU_LOAD, otel_train__window=str(number)) for number in range(5)]
    for _ in range(2):
        writer.write(1, dict.fromkeys(keys, 1.0))
    assert [3, 3] == [len(row) for _, row, _ in read_resources(storage)]
    assert ["resources.csv"] == storage.names()
    assert "more than 3 resource series" in caplog.text


@pytest.mark.parametrize("damage", [b"3,4\n", b"x,1\n", b"\n", b"1,2,3,4\n", b"\xff\xfe,1\n"])
def test_a_damaged_line_costs_itself(damage, caplog):
    """A line that is no row is left out, and said once; half a line is still being written."""
    storage = Memory()
    writer = ResourceWriter(storage, 1 << 30)
    writer.write(1, {LOAD: 1, POWER: 2})
    storage.open_append("resources.csv")(damage)
    writer.write(2, {LOAD: 3, POWER: 4})
    storage.open_append("resources.csv")(b"3,1")
    assert [1, 2] == [time for time, _, _ in read_resources(storage)]
    assert "damaged line" in caplog.text


def test_logs_of_earlier_versions():
    """Plain names, without attributes."""
    storage = Memory()
    storage.replace("resources.csv", b"unix_s,process.memory.usage,process.memory.peak\n1,10,20\n2,,30\n")
    log = RankLog(storage)
    totals = scan_resources(log, (1.0, 2.0))
    assert (10, 10, 1) == (totals["process.memory.usage"].max, totals["process.memory.usage"].last, 1)
    assert 25 == totals["process.memory.peak"].mean


def test_a_mean_is_of_the_time_in_which_it_trained():
    """What was sampled before the first step and after the last counts for the highest and the last value alone."""
    storage = Memory()
    storage.replace("resources.csv", b"unix_s,hw.gpu.utilization\n1,1\n2,0.5\n3,0.25\n4,0\n")
    log = RankLog(storage)
    total = scan_resources(log, (1.5, 3.0))["hw.gpu.utilization"]
    assert (1, 0, 0.375) == (total.max, total.last, total.mean)
    assert scan_resources(log, (5.0, 6.0))["hw.gpu.utilization"].mean is None


def test_document_is_generated():
    """The table of metrics in ``docs/telemetry.md`` is the one in the code."""
    assert names.table() in (ROOT / "docs" / "telemetry.md").read_text()


# -- the thread ----------------------------------------------------------------------------------------------------


class Scripted:
    """A sampler that does what it is told, a thing a call."""

    def __init__(self, *script):
        self.script = list(script)
        self.calls = 0

    def sample(self):
        self.calls += 1
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, Exception):
            raise step
        return step


def test_a_source_that_fails(monkeypatch, caplog):
    """No value, one warning, tried again after 2, 4, 8 s; it stops no other, and comes back as if nothing had been."""
    monkeypatch.delenv("OTEL_TRAIN_RAISE", raising=False)
    bad = Scripted(OSError("gone"), OSError("gone"), OSError("gone"), {POWER: 5})
    good = Scripted({LOAD: 1})
    sampling = Sampling([Source("power", lambda: bad), Source("load", lambda: good)], 1, lambda row: None)
    rows = [sampling.read(float(now)) for now in range(16)]
    assert [0, 2, 6, 14, 15] == [0, 2, 6, *(now for now, row in enumerate(rows) if POWER in row)]
    assert 5 == bad.calls
    assert all(row[LOAD] == 1 for row in rows)
    assert 1 == caplog.text.count("cannot read power")
    assert 3 == guard.counts["sampler power"]


def test_a_source_that_cannot_be_made(monkeypatch, caplog):
    """What the machine has not is never tried again and not a word; a constructor that fails is a failure."""
    monkeypatch.delenv("OTEL_TRAIN_RAISE", raising=False)
    tries = Counter()

    def absent():
        tries["absent"] += 1
        raise SamplerUnavailable("no such thing")

    def broken():
        tries["broken"] += 1
        raise PermissionError("denied")

    sampling = Sampling([Source("absent", absent), Source("broken", broken)], 1, lambda row: None)
    for now in range(8):
        assert {} == sampling.read(float(now))
    assert {"absent": 1, "broken": 3} == dict(tries)
    assert "denied" in caplog.text
    assert "absent" not in caplog.text


def test_slow_sources_have_their_own_pace():
    """What costs milliseconds is read seldom; in between it has no value."""
    energy = Scripted({POWER: 1})
    sampling = Sampling([Source("energy", lambda: energy, every_s=30)], 5, lambda row: None)
    assert [0, 30, 60] == [now for now in range(0, 65, 5) if sampling.read(float(now))]


def test_the_thread_writes_rows_and_a_last_one():
    """Rows at the interval, one more at the end; a thread of its own."""
    rows, threads, third = [], set(), threading.Event()

    def write(row):
        rows.append(row)
        threads.add(threading.current_thread().name)
        if len(rows) == 3:
            third.set()

    sampling = Sampling([Source("load", lambda: Scripted({LOAD: 1}))], 0.01, write)
    sampling.start()
    assert third.wait(30)
    sampling.stop()
    assert not sampling.is_alive()
    assert {"otel_train.resources"} == threads
    assert len(rows) >= 4
    assert sampling.cpu_ns > 0


def test_a_source_that_hangs_holds_up_nothing(monkeypatch, caplog):
    """The end of the run waits for it no longer than it is told to; after a minute it is said which one it is."""
    entered, release = threading.Event(), threading.Event()

    class Hanging:
        def sample(self):
            entered.set()
            release.wait(60)
            return {LOAD: 1}

    rows = []
    sampling = Sampling([Source("network file system", Hanging)], 0.01, rows.append)
    sampling.start()
    assert entered.wait(30)
    sampling.look()
    assert "" == caplog.text
    monkeypatch.setattr("otel_train.sampling.HANGS_S", 0)
    sampling.look()
    assert "has waited for network file system" in caplog.text
    sampling.stop(timeout_s=0.05)
    assert [] == rows
    release.set()
    sampling.join(30)
    assert not sampling.is_alive()


def test_the_host_is_sampled_once(tmp_path):
    """Of two processes of a run on a host one has the host's values; when it ends, the other."""
    first, second = (
        Sampling([Source("load", lambda: Scripted({LOAD: 1}), of_host=True),
                  Source("own", lambda: Scripted({POWER: 2}))], 1, lambda row: None, FileLock(tmp_path / "host.lock"))
        for _ in range(2)
    )  # fmt: skip
    assert {LOAD: 1, POWER: 2} == first.read(0.0)
    assert {POWER: 2} == second.read(0.0)
    first.stop()
    assert {LOAD: 1, POWER: 2} == second.read(1.0)
    second.stop()


def test_who_shares_a_host(tmp_path):
    """A process on its own needs no lock; ranks of one host share one file, of several hosts one each."""
    alone = Identity("run", 0, None, 1)
    ranks = [Identity("run", rank, rank, 4, {"LOCAL_WORLD_SIZE": "2"}) for rank in range(2)]
    one_a_host = Identity("run", 1, 0, 4, {"LOCAL_WORLD_SIZE": "1"})
    assert [True, False, True] == [is_alone(alone), is_alone(ranks[0]), is_alone(one_a_host)]
    assert host_lock(alone, tmp_path, "a") is None
    assert "host-a_b.lock" == host_lock(ranks[0], tmp_path, "a/b")._path.name
    assert host_lock(ranks[0], None, "a")._path == host_lock(ranks[1], None, "a")._path


def test_every_source_can_be_made(tmp_path):
    """Each is there, or says that the machine has no such thing: a GPU here."""
    made = {}
    for source in sources(Identity("run", 0, None, 1), lambda: [tmp_path]):
        try:
            made[source.name] = source.make()
        except SamplerUnavailable:
            made[source.name] = None
    assert {"CPUs", "host memory", "file systems", "the process", "torch's allocator"} <= {
        name for name, sampler in made.items() if sampler is not None
    }
    for name, sampler in made.items():
        assert sampler is None or isinstance(sampler.sample(), dict), name


# -- a run ---------------------------------------------------------------------------------------------------------


def test_a_run_has_samples():
    """Its own process and its host, at its end at the latest; nothing that fails."""
    with record() as run, otel_train.trace_step():
        pass
    (*_, (_, row, _)) = run.log.resources()
    assert row[names.PROCESS_MEMORY_USAGE, ()] > 0
    assert 0 < row[names.MEMORY_UTILIZATION, ()] < 1
    assert not [site for site in guard.counts if site.startswith("sampler")]


@pytest.mark.parametrize("interval", ["0", "0.01", "soon", "inf"])
def test_a_pace_that_would_cost_too_much(interval):
    """Refused with what is allowed."""
    with pytest.raises(SettingsError, match=r"OTEL_TRAIN_RESOURCE_INTERVAL is '.*'; allowed is seconds, at least 0\.1"):
        load(environ={"OTEL_TRAIN_RESOURCE_INTERVAL": interval})


def test_ranks_of_a_host(tmp_path):
    """Real ranks: each has its own process, one of them has the host."""
    program = (
        "import otel_train, sys\n"
        "with otel_train.init(resource_interval_s=0.1):\n"
        "    with otel_train.trace_step(): pass\n"
        "    print('up', flush=True); sys.stdin.readline()\n"
    )
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OTEL_TRAIN_DIR": str(tmp_path), "PYTHONPATH": str(ROOT), "RANK": str(rank),
                 "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OTEL_TRAIN_RUN_ID": "ranks"},
        )
        for rank in range(2)
    ]  # fmt: skip
    assert ["up\n", "up\n"] == [rank.stdout.readline() for rank in ranks]
    (run,) = runs_in(tmp_path)
    logs = run.ranks()

    def seen(log):
        return {metric for _, row, _ in log.resources() for metric, _ in row}

    while not all(names.PROCESS_THREADS in seen(log) for log in logs):
        pass
    hosts = [log for log in logs if names.CPU_TIME in seen(log)]
    for rank in ranks:
        rank.communicate("\n")
    assert 1 == len(hosts)


def test_counters_of_a_stretch():
    """A counter adds what it rose by; what goes up and down, and a gauge, has its last value."""
    cpu = series(names.CPU_TIME, cpu__mode="user")
    memory = (names.PROCESS_MEMORY_USAGE, ())
    first, second = Aggregate(), Aggregate()
    add_resources(first, {cpu: 5, memory: 10, LOAD: 1}, Aggregate())
    add_resources(first, {cpu: 8, memory: 20, LOAD: 2}, Aggregate())
    assert ({cpu: 8}, {memory: 20}, {LOAD: 2}) == (first.sums, first.parts, first.gauges)
    add_resources(second, {cpu: 9, LOAD: 3}, first)
    assert ({cpu: 1}, {}, {LOAD: 3}) == (second.sums, second.parts, second.gauges)


def test_a_forked_child_samples_nothing():
    """It inherits neither the thread nor the host's lock."""
    with record():
        pipe, end = multiprocessing.get_context("fork").Pipe()

        def child():
            end.send([thread.name for thread in threading.enumerate()])

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        alive = pipe.recv()
        process.join()
    assert "otel_train.resources" not in alive
