"""Other processes of the training: DataLoader workers and forked children have no part in its record."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
from otlp_receiver import OtlpReceiver

import otel_train
from otel_train import active
from otel_train.runlog.ranklog import RankLog
from otel_train.testing import record

HERE = Path(__file__).parent


@pytest.mark.parametrize("arguments", [(), ("--unguarded",)], ids=["guarded", "unguarded"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_dataloader_workers(tmp_path, method, arguments):
    """No thread, no run, no record, no request comes from a worker, however it is started; samples are counted."""
    (tmp_path / "seen").mkdir()
    with OtlpReceiver() as receiver:
        environ = {
            **os.environ,
            "PYTHONPATH": str(HERE.parent),
            "OTEL_TRAIN_DIR": str(tmp_path / "runs"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "SEEN": str(tmp_path / "seen"),
        }
        command = [sys.executable, str(HERE / "worker_training.py"), method, *arguments]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=200)
        assert 0 == done.returncode, done.stderr
        processes = {resource["process.pid"] for resource in receiver.resources}
    workers = {path.name: path.read_text() for path in (tmp_path / "seen").iterdir()}
    assert 4 == len(workers)
    assert {""} == set(workers.values()), "a worker had a thread of ours"
    assert 1 == len(processes), "a worker sent something"
    (path,) = (tmp_path / "runs").glob("*/rank-*")
    log = RankLog.open(path)
    records = [record for _, part in log.steps.read() for record in part]
    assert [4] * 16 == [int(record["samples"]) for record in records]
    assert {"epoch", "health"} == {event.kind for event, _ in log.events()}
    assert 0 == log.scalars.bounds()[1]


def _in_child(pipe):
    with otel_train.trace_step(), otel_train.trace_phase("child"):
        otel_train.log(loss=2.0)
    otel_train.shutdown()
    pipe.send((active.session is None, active.recorder is None))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_child(tmp_path):
    """A forked child has no run: what it calls does nothing, and the parent's goes on."""
    with otel_train.init(dir=tmp_path / "runs") as run:
        with otel_train.trace_step():
            ours, theirs = multiprocessing.Pipe()
            child = multiprocessing.get_context("fork").Process(target=_in_child, args=(theirs,))
            child.start()
            assert (True, True) == ours.recv()
            child.join(30)
        with otel_train.trace_step():
            pass
        assert 0 == child.exitcode
        log = RankLog.open(run.path)
        assert (2, 0, False) == (log.steps.bounds()[1], log.scalars.bounds()[1], "end" in log.read_identity())


def _train_in_child(directory):
    otel_train.init(dir=directory)
    with otel_train.trace_step():
        pass


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_child_that_trains(tmp_path, method):
    """A child that calls ``init()`` itself has a run of its own, closed at its end without ``shutdown()``."""
    child = multiprocessing.get_context(method).Process(target=_train_in_child, args=(tmp_path / "runs",))
    child.start()
    child.join(60)
    assert 0 == child.exitcode
    (path,) = (tmp_path / "runs").glob("*/rank-*")
    log = RankLog.open(path)
    assert (1, True) == (log.steps.bounds()[1], "end" in log.read_identity())


def test_interpreter_exit_inside_a_step(tmp_path):
    """``sys.exit`` in the middle of a step: the step is recorded as failed, and the run is closed."""
    program = "import otel_train, sys\notel_train.init()\nwith otel_train.trace_step(): sys.exit(4)\n"
    environ = {**os.environ, "PYTHONPATH": str(HERE.parent), "OTEL_TRAIN_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60)
    assert (4, "") == (done.returncode, done.stderr)
    (path,) = tmp_path.glob("*/rank-*")
    log = RankLog.open(path)
    assert [1] == [int(flags) for _, part in log.steps.read() for flags in part["flags"]]
    assert "end" in log.read_identity()


def test_fork_server_of_tests_is_not_ours():
    """The in-memory run of ``testing`` survives a fork like any other."""
    with record() as run:
        child = os.fork()
        if child == 0:
            os._exit(0 if active.session is None else 1)
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with otel_train.trace_step():
            pass
    assert 1 == len(run.steps)
