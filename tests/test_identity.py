"""Who a process is in its job, as the launchers say it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from otel_train.identity import describe_process, identify

ROOT = Path(__file__).parent.parent
TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "none"}


def test_a_process_on_its_own():
    """No launcher: rank 0 of 1, an id made of time and chance, nothing guessed."""
    one, other = identify({}), identify({})
    assert (0, None, 1, {}) == (one.rank, one.local_rank, one.world_size, one.launcher)
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", one.run_id)
    assert one.run_id != other.run_id


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (TORCHRUN, (3, 1, 8)),
        ({"SLURM_PROCID": "5", "SLURM_LOCALID": "0", "SLURM_NTASKS": "16"}, (5, 0, 16)),
        ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4"}, (2, 2, 4)),
        ({"RANK": "garbage", "WORLD_SIZE": ""}, (0, None, 1)),
        ({"RANK": "7"}, (0, None, 1)),
    ],
    ids=["torchrun", "slurm", "mpi", "garbage", "rank alone"],
)
def test_ranks(environ, expected):
    """Rank, local rank and world size by torchrun, SLURM and MPI; a rank without a world is none."""
    found = identify(environ)
    assert expected == (found.rank, found.local_rank, found.world_size)


def test_ranks_of_a_job_agree_on_its_id():
    """Every rank finds the same id by itself, restarts and other jobs find others."""
    slurm = {"SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "8"}
    assert {"job-77-0"} == {identify({**slurm, "SLURM_PROCID": str(rank)}).run_id for rank in range(8)}
    assert "job-77-0.2" == identify({**slurm, "SLURM_RESTART_COUNT": "2"}).run_id
    elastic = {**TORCHRUN, "MASTER_ADDR": "node-1", "MASTER_PORT": "29500"}
    first = {identify({**elastic, "RANK": str(rank)}).run_id for rank in range(8)}
    assert 1 == len(first)
    assert first != {identify({**elastic, "MASTER_PORT": "29501"}).run_id}
    assert first.pop() + ".1" == identify({**elastic, "TORCHELASTIC_RESTART_COUNT": "1"}).run_id
    assert "mine" == identify(elastic, "mine").run_id


def test_two_torchruns_with_the_same_address_are_two_runs():
    """torchrun's own run id is ``none`` for all: on one host its agent's process makes the difference."""
    program = "from otel_train.identity import identify; print(identify().run_id)"
    launch = f"import subprocess, sys\nfor _ in range(2): subprocess.run([sys.executable, '-c', {program!r}])"
    environ = {**os.environ, **TORCHRUN, "LOCAL_WORLD_SIZE": "8", "PYTHONPATH": str(ROOT)}
    outputs = [
        subprocess.run([sys.executable, "-c", launch], env=environ, capture_output=True, text=True).stdout.split()
        for _ in range(2)
    ]
    (one, same), (other, _) = outputs
    assert one == same != other


def test_process():
    """The process is named so that another one with its number is told apart."""
    described = describe_process()
    assert os.getpid() == described["pid"]
    assert sys.executable == described["command"][0]
    if Path("/proc/self/stat").exists():
        assert isinstance(described["start_ticks"], int)
        age_s = (__import__("time").time_ns() - described["started_unix_ns"]) / 1e9
        assert 0 <= age_s < 3600


def test_ranks_of_a_launch_share_a_run(tmp_path):
    """Real processes of one launch: one run folder, a folder for each rank."""
    program = "import otel_train\nwith otel_train.init():\n    with otel_train.trace_step(): pass\n"
    launch = (
        "import os, subprocess, sys\n"
        "ranks = [subprocess.Popen([sys.executable, '-c', sys.argv[1]], env={**os.environ, 'RANK': str(rank), "
        "'LOCAL_RANK': str(rank), 'WORLD_SIZE': '3', 'LOCAL_WORLD_SIZE': '3'}) for rank in range(3)]\n"
        "sys.exit(max(rank.wait() for rank in ranks))\n"
    )
    environ = {**os.environ, "OTEL_TRAIN_DIR": str(tmp_path / "runs"), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", launch, program], env=environ, check=True, timeout=120)
    (run,) = (tmp_path / "runs").iterdir()
    assert ["rank-00000", "rank-00001", "rank-00002"] == sorted(path.name for path in run.iterdir() if path.is_dir())
