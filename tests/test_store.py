"""A directory that cannot be written, fills up or disappears: one warning, and recording goes on in memory."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import otel_train
from otel_train import active
from otel_train.resource_names import CPU_LOAD, series
from otel_train.runlog.events import Event
from otel_train.runlog.layout import SEGMENT_BYTES
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.storage import Folder
from otel_train.store import MEMORY_BYTES, Store, open_store

LOAD = series(CPU_LOAD, otel_train__window="1m")


def take_steps(number):
    """Record steps with a value each."""
    for _ in range(number):
        with otel_train.trace_step(samples=1):
            otel_train.log(loss=1.0)


def warnings_of(caplog):
    """What was said, without arguments filled in twice."""
    return [entry.getMessage() for entry in caplog.records if entry.name == "otel_train"]


@pytest.mark.parametrize("obstacle", ["file", "proc"])
def test_directory_that_cannot_be_made(tmp_path, obstacle, caplog):
    """No directory can be had: the run lives in memory, can be read there, and one warning says so."""
    (tmp_path / "file").write_text("")
    directory = tmp_path / "file" if obstacle == "file" else Path("/proc/otel_train")
    with otel_train.init(dir=directory) as run:
        take_steps(10)
        log = RankLog(active.session.store)
        assert 10 == log.steps.bounds()[1]
        assert log.identity["run_id"] == run.id
    assert run.path is None
    assert 1 == len(warnings_of(caplog))
    assert "Set OTEL_TRAIN_DIR" in warnings_of(caplog)[0]


class FullFolder(Folder):
    """A folder on a disk that is full from some moment on. Counts bytes as a quota does."""

    def __init__(self, path, room):
        super().__init__(path)
        self.room = room

    def create_mapped(self, name, size):
        if size > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= size
        return super().create_mapped(name, size)


def test_disk_that_fills_up(tmp_path, caplog):
    """The next segment cannot be allocated: it is made in memory; every step can still be read, in order."""
    store = Store(FullFolder(tmp_path, SEGMENT_BYTES), 1 << 30)
    writer = store.steps()
    from otel_train.runlog.layout import STEP_STRUCTS

    for number in range(2 * writer.capacity + 5):
        writer.append(STEP_STRUCTS[0], number, 0, 0, 0, 0, 0, 0, 0)
    numbers = [int(step) for _, records in RankLog(store).steps.read() for step in records["step"]]
    assert list(range(2 * writer.capacity + 5)) == numbers
    assert ["steps-00000000.bin"] == [path.name for path in tmp_path.glob("steps-*")]
    assert 1 == len(warnings_of(caplog))


def test_memory_is_bounded(tmp_path):
    """What had to move to memory keeps the newest records only, within its bound."""
    store = Store(FullFolder(tmp_path, 0), 1 << 40)
    writer = store.steps()
    from otel_train.runlog.layout import STEP_STRUCTS

    for number in range(40 * writer.capacity):
        writer.append(STEP_STRUCTS[0], number, 0, 0, 0, 0, 0, 0, 0)
    oldest, end = RankLog(store).steps.bounds()
    assert 40 * writer.capacity == end
    assert 0 < (end - oldest) * 128 <= MEMORY_BYTES


def test_readers_go_on_when_the_disk_is_full(tmp_path, caplog):
    """Events and samples that move to memory lie after those on disk: one who has read these finds them."""
    store = Store(FullAppends(tmp_path), 1 << 30)
    log = RankLog(store)
    for number in range(3):
        store.write_event(Event("before", number))
        store.write_resources(number, {LOAD: number})
    *_, (_, position) = log.events()
    *_, (_, _, row) = log.resources()
    store._home.full = True
    store.write_event(Event("after", 3))
    store.write_resources(3, {LOAD: 3})
    assert ["after"] == [event.kind for event, _ in log.events(position)]
    assert [3] == [time for time, _, _ in log.resources(row)]
    assert ["before"] * 3 + ["after"] == [event.kind for event, _ in log.events()]
    assert 1 == len(warnings_of(caplog))


class FullAppends(Folder):
    """A folder on a disk that takes no more bytes once it is said to be full."""

    full = False

    def open_append(self, name):
        append = super().open_append(name)

        def refusing(content):
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            append(content)

        return refusing


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_real_full_disk(tmp_path):
    """On a real file system of 3 MiB: the training goes on to its end, all its steps are there, one warning."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount here: {mounted.stderr.decode()}")
    program = (
        "import otel_train\n"
        "from otel_train import active\n"
        "from otel_train.runlog.ranklog import RankLog\n"
        "with otel_train.init():\n"
        "    for _ in range(60_000):\n"
        "        with otel_train.trace_step(): otel_train.log(loss=1.0)\n"
        "    log = RankLog(active.session.store)\n"
        "    print(log.steps.bounds(), log.scalars.bounds())\n"
    )
    environ = {**os.environ, "OTEL_TRAIN_DIR": str(small), "PYTHONPATH": str(Path(__file__).parent.parent)}
    environ.pop("OTEL_TRAIN_RAISE")
    try:
        done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=120)
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert ("(0, 60000) (0, 60000)\n", 0) == (done.stdout, done.returncode), done.stderr
    assert 1 == done.stderr.count("otel_train cannot write to"), done.stderr


def test_directory_removed_while_running(tmp_path, caplog, monkeypatch):
    """The folder is deleted under the run: training and recording go on, one warning, a clean end."""
    with otel_train.init(dir=tmp_path / "runs") as run:
        take_steps(10)
        shutil.rmtree(run.path)
        take_steps(20_000)
        with otel_train.trace_epoch(1):
            pass
        store = active.session.store
        _, end = RankLog(store).steps.bounds()
        assert 20_010 == end
    assert 1 == len(warnings_of(caplog)), warnings_of(caplog)


def test_an_id_used_twice_overwrites_nothing(tmp_path):
    """The second run of one id and rank gets a folder and an id of its own."""
    first, first_id = open_store(tmp_path, "job-7", 0, 1 << 30)
    second, second_id = open_store(tmp_path, "job-7", 0, 1 << 30)
    other_rank, other_id = open_store(tmp_path, "job-7", 1, 1 << 30)
    assert ("job-7", "job-7-2", "job-7") == (first_id, second_id, other_id)
    assert 3 == len({first.location, second.location, other_rank.location})
