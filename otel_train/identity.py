"""Who this process is in its job: rank, world, launcher, run id. What nobody says is missing, not guessed."""

import hashlib
import os
import secrets
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from otel_train import guard
from otel_train.hooks import process_group
from otel_train.processes import start_ticks_of

RANK_VARIABLES = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
LOCAL_RANK_VARIABLES = ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID")
WORLD_SIZE_VARIABLES = ("WORLD_SIZE", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")

JOB_VARIABLES = ("SLURM_JOB_ID", "KUBEFLOW_TRAINING_JOB_ID", "RAY_JOB_ID", "PBS_JOBID", "LSB_JOBID")
"""The scheduler's id of the job: the same on every rank, and used once."""

RESTART_VARIABLES = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")

LAUNCHER_VARIABLES = (
    *("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "GROUP_RANK", "GROUP_WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_NODEID", "SLURM_STEP_ID"),
    *("KUBERNETES_SERVICE_HOST", "POD_NAME", "POD_NAMESPACE", "HOSTNAME", "KUBEFLOW_TRAINING_JOB_ID", "RAY_JOB_ID"),
)


@dataclass(frozen=True)
class Identity:
    """A process's place in its job."""

    run_id: str
    rank: int
    local_rank: int | None
    world_size: int
    launcher: dict[str, str] = field(default_factory=dict)


def identify(environ: Mapping[str, str] = os.environ, run_id: str | None = None) -> Identity:
    """Read the launcher's variables. ``run_id`` as given, or found as ``find_run_id`` says.

    Ranks that a script starts itself (``mp.spawn``, Lightning) have no such variables, or not all: once their process
    group is up, it knows, and its store is where they agree on an id.
    """
    rank = _first_number(environ, RANK_VARIABLES)
    world_size = _first_number(environ, WORLD_SIZE_VARIABLES) or 1
    with guard.guarded("process group"):
        group = process_group.place()
        if group is not None and group[1] > 1 and group != (rank, world_size):
            rank, world_size = group
            run_id = run_id or process_group.agree_on(find_run_id(environ, 1))
    launcher = {name: environ[name] for name in LAUNCHER_VARIABLES if environ.get(name)}
    return Identity(
        run_id or find_run_id(environ, world_size),
        rank if rank is not None and world_size > 1 else 0,
        _first_number(environ, LOCAL_RANK_VARIABLES),
        world_size,
        launcher,
    )


def find_run_id(environ: Mapping[str, str], world_size: int) -> str:
    """The id that every rank of this launch finds by itself, with no message between them.

    The scheduler's job id; else, for several ranks under one torchrun, a hash of that agent process (host, pid, start
    time), because torchrun's own run id is ``none`` or the same for every job that leaves it out; else, over several
    hosts, a hash of its run id and rendezvous address. A restart is a run of its own: ``.1``, ``.2`` follow. One
    process on its own takes the time and chance.
    """
    restart = _first_number(environ, RESTART_VARIABLES)
    suffix = f".{restart}" if restart else ""
    job = next((environ[name] for name in JOB_VARIABLES if environ.get(name)), None)
    step = environ.get("SLURM_STEP_ID", "")
    if job and world_size > 1:
        return _as_name(f"job-{job}-{step}" if step else f"job-{job}") + suffix
    if world_size > 1:
        return f"run-{_hash(_launch(environ, world_size))}{suffix}"
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"


def _launch(environ: Mapping[str, str], world_size: int) -> str:
    if _first_number(environ, ("LOCAL_WORLD_SIZE",)) == world_size:
        parent = os.getppid()
        return f"{socket.gethostname()} {parent} {start_ticks_of(parent)}"
    return " ".join(environ.get(name, "") for name in ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT"))


def describe_process() -> dict[str, Any]:
    """The process as ``run.json`` holds it."""
    described: dict[str, Any] = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": [sys.executable, *sys.argv] if getattr(sys, "argv", None) else [sys.executable],
        "directory": str(Path.cwd()),
    }
    ticks = start_ticks_of(os.getpid())
    if ticks is not None:
        described["start_ticks"] = ticks
        started = _started_unix_ns(ticks)
        if started is not None:
            described["started_unix_ns"] = started
    return described


def _started_unix_ns(ticks: int) -> int | None:
    try:
        uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError):
        return None
    age_s = uptime_s - ticks / os.sysconf("SC_CLK_TCK")
    return time.time_ns() - int(age_s * 1e9)


def script_name() -> str:
    """The program's name as a service: ``train`` for ``train.py``; ``python`` where there is no script."""
    script = Path(sys.argv[0]) if getattr(sys, "argv", None) and sys.argv[0] else None
    if script is None or script.name in ("-", "-c", "-m"):
        return "python"
    return script.parent.name if script.stem == "__main__" else script.stem


def _first_number(environ: Mapping[str, str], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = environ.get(name, "")
        if value.isdecimal():
            return int(value)
    return None


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _as_name(text: str) -> str:
    return "".join(character if character.isalnum() or character in "._-" else "-" for character in text)[:100]
