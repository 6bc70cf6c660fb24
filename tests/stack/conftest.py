"""The real collector, Jaeger, Prometheus and Alertmanager. Where CI is set they have to be there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from backends import Stack

from otel_train.stack import build, files, native

TRAINING = Path(__file__).parent / "training.py"


@pytest.fixture(scope="session")
def programs():
    """Skip without them, but fail in CI."""
    lacking = build.missing()
    if lacking:
        why = f"not found: {', '.join(lacking)}. Type: otel-train stack build"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)


@pytest.fixture(scope="session")
def offset(worker_id):
    """Of ports: each process of the tests has its own, all below those that connections are given (32768)."""
    return 10000 + 100 * int(worker_id.removeprefix("gw") if worker_id.startswith("gw") else 7)


@pytest.fixture(scope="session")
def stack(programs, offset, tmp_path_factory):
    """All parts, up."""
    directory = tmp_path_factory.mktemp("stack")
    files.write(directory)
    native.up(directory, offset, print)
    yield Stack(directory, offset)
    native.down(directory, print)
    assert not [process for process in native.processes(directory) if process.running()]


@pytest.fixture
def start_ranks(tmp_path):
    """Starts ranks of one run that send to an address; returns their processes. The service is the run's id."""
    started = []

    def start(otlp, run_id, *arguments, ranks=1, **more):
        environ = {
            **os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": otlp, "OTEL_TRAIN_DIR": str(tmp_path / "runs"),
            "OTEL_TRAIN_RUN_ID": run_id, "OTEL_SERVICE_NAME": run_id, "WORLD_SIZE": str(ranks), **more,
        }  # fmt: skip
        command = [sys.executable, str(TRAINING), *map(str, arguments)]
        started.extend(subprocess.Popen(command, env={**environ, "RANK": str(rank)}) for rank in range(ranks))
        return started[-ranks:]

    yield start
    for process in started:
        process.kill()
        process.wait()
