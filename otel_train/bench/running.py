"""One command, from its start to its end, in a process group of its own. Nothing that it started outlives it."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

RUN_ID = "OTEL_TRAIN_RUN_ID"

POLL_S = 0.05
"""How often it is looked whether the command has ended: 10 µs each, which no training notices."""

GRACE_S = 10.0
"""How long a command may take to end by itself once it is interrupted, and once more when it is terminated."""

KILLED_S = 5.0
"""How long the kernel may take to be done with a killed process."""

PR_SET_PDEATHSIG = 1
"""``prctl(2)``: the signal that a process gets when its parent dies."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    exit_code: int | None
    """Negative: the signal that ended it. None where it could not be started."""
    wall_s: float
    peak_bytes: int | None
    """The kernel's ``ru_maxrss``: the largest of the process and the children that it has waited for."""
    timed_out: bool = False
    interrupted: bool = False


def run_command(
    command: Sequence[str], environment: Mapping[str, str], output: Path, timeout_s: float | None = None
) -> Ended:
    """Run a command to its end; what it prints goes to ``output``. ``environment`` must name its run id.

    After ``timeout_s``, and on a ``KeyboardInterrupt`` here, it gets SIGINT, so that it may close its record, then
    SIGTERM, then SIGKILL. However it ends, what is left of its group, or still carries its run id, is killed.
    """
    began, process = time.monotonic(), None
    timed_out = interrupted = False
    try:
        process = _start(command, environment, output)
        if not _wait(process.pid, timeout_s):
            timed_out = True
            _stop(process.pid)
    except KeyboardInterrupt:
        interrupted = True
        if process is not None:
            _stop(process.pid)
    except OSError as error:
        output.write_text(f"{command[0]} cannot be run: {error.strerror}\n")
    wall_s = time.monotonic() - began
    exit_code, peak_bytes = _reap(process) if process is not None else (None, None)
    _kill_strays(environment[RUN_ID])
    return Ended(exit_code, wall_s, peak_bytes, timed_out, interrupted)


def _start(command: Sequence[str], environment: Mapping[str, str], output: Path) -> "subprocess.Popen[bytes]":
    with output.open("wb") as file:
        return subprocess.Popen(
            list(command), env=dict(environment), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            start_new_session=True, preexec_fn=_die_with_parent(),
        )  # fmt: skip


def _wait(pid: int, timeout_s: float | None) -> bool:
    """Has it ended in time? It is not reaped yet, so that its number is nobody else's."""
    until = time.monotonic() + timeout_s if timeout_s is not None else float("inf")
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() >= until:
            return False
        time.sleep(POLL_S)
    return True


def _stop(pid: int) -> None:
    """Interrupt it as Ctrl-C would, and insist; a second Ctrl-C here kills it at once."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            _signal_group(pid, number)
            if _wait(pid, GRACE_S):
                return
    except KeyboardInterrupt:
        pass
    _signal_group(pid, signal.SIGKILL)
    _wait(pid, KILLED_S)


def _reap(process: "subprocess.Popen[bytes]") -> tuple[int, int]:
    """Kill what is left of its group, then take its exit code and the memory it needed."""
    _signal_group(process.pid, signal.SIGKILL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _kill_strays(run_id: str) -> None:
    for pid in strays(run_id):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def strays(run_id: str) -> list[int]:
    """Processes that carry the run id in their environment: torchrun's workers, which have groups of their own.

    Only where there is a ``/proc``. This process is not among them.
    """
    wanted, found = f"{RUN_ID}={run_id}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is somebody else's
            if wanted in (folder / "environ").read_bytes().split(b"\0") and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found


def _die_with_parent() -> Callable[[], None] | None:
    """What the child does before it becomes the command: ask for SIGTERM when this process is killed. Linux alone."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, parent = ctypes.CDLL(None, use_errno=True).prctl, os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it was killed meanwhile
            os._exit(1)

    return ask


def exit_text(exit_code: int | None) -> str:
    """``exit code 1``, ``ended by SIGKILL``, ``could not be started``."""
    if exit_code is None:
        return "could not be started"
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return f"ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"ended by signal {-exit_code}"


def last_lines(output: Path, count: int) -> list[str]:
    """The last lines that a run printed, without empty ones at the end; at most ``count``."""
    try:
        with output.open("rb") as file:
            file.seek(max(output.stat().st_size - 64 * 1024, 0))
            content = file.read().decode(errors="replace")
    except OSError:
        return []
    return content.replace("\r", "\n").rstrip().splitlines()[-count:]
