"""Whatever happens to the process or the backend, each completed step is on disk and reaches the backend once."""

import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from otlp_receiver import OtlpReceiver

from otel_train.runlog.runs import find_run, state_of

HERE = Path(__file__).parent
EXIT_TIMEOUT_S = 2.0


class Training:
    """A real training process with its counter of completed steps."""

    def __init__(self, tmp_path: Path, *arguments: str, endpoint: str | None = None) -> None:
        self.directory = tmp_path / "runs"
        self.counter = tmp_path / "completed"
        self.counter.write_bytes(bytes(8))
        kept = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
        self.environ = {**kept, "OTEL_TRAIN_DIR": str(self.directory), "PYTHONPATH": str(HERE.parent)}
        if endpoint:
            self.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
        command = [sys.executable, str(HERE / "training_process.py"), *arguments, str(self.counter)]
        self.process = subprocess.Popen(
            command, env=self.environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    @property
    def completed(self) -> int:
        """Steps that the process has completed."""
        return struct.unpack("<Q", self.counter.read_bytes())[0]

    def wait_for(self, steps: int) -> None:
        """Until so many steps are completed; the process must be alive."""
        deadline = time.monotonic() + 60
        while self.completed < steps:
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < deadline, f"{self.completed} of {steps} steps after 60 s"

    def finish(self) -> str:
        """Wait for the end; returns what it said on stderr."""
        _, said = self.process.communicate(timeout=60)
        return said

    def recorded(self) -> list[int]:
        """The step numbers in the log."""
        (rank,) = find_run(self.directory, None).ranks()
        return [int(number) for _, steps in rank.steps.read() for number in steps["step"]]

    def push(self, endpoint: str) -> subprocess.CompletedProcess[str]:
        """``otel-train push`` of the newest run."""
        command = [sys.executable, "-m", "otel_train.cli", "push", "--endpoint", endpoint]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=120)


def delivered_steps(receiver: OtlpReceiver) -> float:
    """The last ``dl.step.count`` that the receiver got: it is cumulative."""
    count = 0.0
    for path, request, _ in receiver.requests:
        if path != "/v1/metrics":
            continue
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == "dl.step.count":
                        count = max([count, *(point.as_int or point.as_double for point in metric.sum.data_points)])
    return count


def span_ids(receiver: OtlpReceiver) -> Counter[bytes]:
    """How often each span arrived."""
    return Counter(
        span.span_id
        for path, request, _ in receiver.requests
        if path == "/v1/traces"
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    )


@pytest.mark.parametrize("way", ["SIGKILL", "SIGTERM", "exit", "raise"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_at_a_random_moment(way, seed, tmp_path):
    """Every step completed before the end is in the log; push delivers each, and each span, exactly once."""
    moment = random.Random(seed).randrange(1, 20_000)
    if way.startswith("SIG"):
        training = Training(tmp_path)
        training.wait_for(moment)
        training.process.send_signal(signal.Signals[way])
    else:
        training = Training(tmp_path, "--steps", str(moment), "--end", way)
    training.finish()
    recorded, completed = training.recorded(), training.completed
    assert completed <= len(recorded) <= completed + 1
    assert list(range(len(recorded))) == recorded
    with OtlpReceiver() as receiver:
        pushed = training.push(receiver.endpoint)
        assert 0 == pushed.returncode, pushed.stdout + pushed.stderr
        assert len(recorded) == delivered_steps(receiver)
        assert {1} == set(span_ids(receiver).values())
        attempts = receiver.attempts
        training.push(receiver.endpoint)
        assert attempts == receiver.attempts, "a second push must have nothing to send"


def test_a_run_that_exports_and_is_killed(tmp_path):
    """Part is acknowledged live, SIGKILL comes, push sends the rest: the last count is every step."""
    with OtlpReceiver() as receiver:
        training = Training(tmp_path, "--pause", "0.001", endpoint=receiver.endpoint)
        assert receiver.arrived.wait(60)
        training.wait_for(training.completed + 200)
        training.process.kill()
        training.finish()
        assert 0 == training.push(receiver.endpoint).returncode
        assert len(training.recorded()) == delivered_steps(receiver)


def test_next_start_sends_what_was_left(tmp_path):
    """A run killed while its backend was away is sent by the next start of the same job, nobody pushing it."""
    with OtlpReceiver() as receiver:
        receiver.status = 503
        killed = Training(tmp_path, "--steps", "500", "--end", "wait", endpoint=receiver.endpoint)
        assert "trained\n" == killed.process.stdout.readline()
        assert receiver.arrived.wait(60)
        killed.process.kill()
        killed.finish()
        receiver.status = 200
        restarted = Training(tmp_path, "--steps", "7", "--end", "wait", endpoint=receiver.endpoint)
        deadline = time.monotonic() + 60
        while 500 != delivered_steps(receiver):
            assert restarted.process.poll() is None, restarted.process.stderr.read()
            assert time.monotonic() < deadline, "not delivered within 60 s"
        restarted.process.communicate("\n", timeout=60)
        assert {1} == set(span_ids(receiver).values())


def test_state_after_each_end(tmp_path):
    """``ls`` tells a run that ended from one that failed, died or goes on."""
    ends = {"return": "finished", "raise": "failed", "exit": "died"}
    for end, state in ends.items():
        (tmp_path / end).mkdir()
        training = Training(tmp_path / end, "--steps", "5", "--end", end)
        training.finish()
        (rank,) = find_run(training.directory, None).ranks()
        assert state == state_of(rank), end


class Backend:
    """A receiver in one of the ways in which backends fail."""

    def __init__(self, how: str) -> None:
        self.receiver = OtlpReceiver()
        self.how = how

    def __enter__(self) -> "Backend":
        self.receiver.__enter__()
        self.endpoint = self.receiver.endpoint
        if self.how == "refused":
            self.receiver.close()
        elif self.how == "hanging":
            self.receiver.hangs = True
        elif self.how == "503":
            self.receiver.status = 503
        else:
            self.receiver.delay_s = 2.0
        return self

    def __exit__(self, *error: object) -> None:
        self.receiver.close()


@pytest.mark.parametrize("how", ["refused", "hanging", "503", "slow"])
def test_a_backend_that_fails(how, tmp_path):
    """Exit takes at most two seconds more, and this machine's noise; the log says so once; nothing is lost."""
    with Backend(how) as backend:
        training = Training(tmp_path, "--steps", "3000", "--end", "wait", endpoint=backend.endpoint)
        assert "trained\n" == training.process.stdout.readline()
        asked = time.monotonic()
        said = training.process.communicate("\n", timeout=60)[1]
        took_s = time.monotonic() - asked
    assert 0 == training.process.returncode, said
    assert took_s < EXIT_TIMEOUT_S + 2.0, f"exit took {took_s:.1f} s"
    assert list(range(3000)) == training.recorded()
    assert 1 >= said.count("cannot reach"), said
    assert 1 >= said.count("otel-train push"), said
    if how != "slow":
        assert "push" in said
    with OtlpReceiver() as healthy:
        pushed = training.push(healthy.endpoint)
        assert 0 == pushed.returncode, pushed.stdout + pushed.stderr
        assert 3000 == delivered_steps(healthy)


def test_without_an_endpoint_nothing_is_sent(tmp_path):
    """No endpoint: no socket is opened, no export thread runs, OpenTelemetry is not imported."""
    program = (
        "import socket, sys, threading\n"
        "def refuse(*arguments): raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = refuse\n"
        "import otel_train\n"
        "with otel_train.init():\n"
        "    with otel_train.trace_step(): pass\n"
        "    names = [thread.name for thread in threading.enumerate()]\n"
        "print('otel_train.export' in names, 'opentelemetry' in sys.modules)\n"
    )
    environ = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    environ |= {"OTEL_TRAIN_DIR": str(tmp_path), "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60)
    assert ("False False\n", "") == (done.stdout, done.stderr)
