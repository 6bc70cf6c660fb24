"""The stack as plain processes on loopback, which outlive the command that started them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import requests

from otel_train.errors import StackError
from otel_train.stack import build, files
from otel_train.stack.services import SERVICES, Service

READY_S = 60.0
GONE_S = 30.0
"""The collector and Prometheus write what they hold before they end."""
LOOK_S = 0.2
LAST_LINES = 5
NATIVE = tuple(service for service in SERVICES if service.program is not None)


@dataclass(frozen=True)
class Process:
    """A service that was started. ``created``, s since the epoch, tells it from another process of its id."""

    name: str
    pid: int
    created: float
    offset: int

    def running(self) -> bool:
        """Is it still this process, and alive?"""
        try:
            found = psutil.Process(self.pid)
            return found.status() != psutil.STATUS_ZOMBIE and abs(found.create_time() - self.created) < 1.0
        except psutil.NoSuchProcess:
            return False


def processes(directory: Path) -> list[Process]:
    """Those that ``up`` started there, running or not."""
    path = _state(directory)
    return [Process(**each) for each in json.loads(path.read_text())] if path.is_file() else []


def up(directory: Path, offset: int, say: build.Say) -> None:
    """Start all parts and wait until each is ready. Raises ``StackError``, and leaves nothing running then."""
    running = [process for process in processes(directory) if process.running()]
    if len(running) == len(NATIVE):
        say("the stack is up already")
        return
    if running:
        down(directory, say)
    lacking = build.missing(tuple(service.program or "" for service in NATIVE))
    build.build(tuple(lacking), say)
    _check_ports(offset)
    where = files.write_natively(directory, offset)
    started: list[Process] = []
    try:
        for service in NATIVE:
            started.append(_start(service, directory, where, offset))
            _state(directory).write_text(json.dumps([asdict(process) for process in started], indent=1))
            _wait_ready(service, started[-1], directory)
            say(f"{service.name} is ready")
    except (StackError, OSError, KeyboardInterrupt):
        down(directory, say)
        raise


def down(directory: Path, say: build.Say) -> None:
    """Stop all parts, the last started first; their data stays."""
    for process in reversed(processes(directory)):
        if process.running():
            stop(process)
            say(f"{process.name} has ended")
    _state(directory).unlink(missing_ok=True)


def stop(process: Process) -> None:
    """Ask it to end, and end it after ``GONE_S``."""
    _send(process, signal.SIGTERM)
    until = time.monotonic() + GONE_S
    while process.running():
        _reap(process.pid)
        if time.monotonic() > until:
            _send(process, signal.SIGKILL)
        time.sleep(LOOK_S)


def _send(process: Process, which: signal.Signals) -> None:
    """To the process, unless it has ended by itself meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, which)


def _reap(pid: int) -> None:
    """Where it is a child of this very process."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def restart(name: str, directory: Path, offset: int) -> Process:
    """Start a part that has ended, again."""
    service = next(service for service in NATIVE if service.name == name)
    process = _start(service, directory, directory / "native", offset)
    others = [each for each in processes(directory) if each.name != name]
    _state(directory).write_text(json.dumps([asdict(each) for each in [*others, process]], indent=1))
    _wait_ready(service, process, directory)
    return process


def is_ready(service: Service, offset: int) -> bool:
    """Does it answer that it is?"""
    try:
        return requests.get(service.health_url(offset), timeout=2).status_code == 200
    except requests.RequestException:
        return False


def log_of(name: str, directory: Path) -> Path:
    """What it says."""
    return directory / "logs" / f"{name}.log"


def _state(directory: Path) -> Path:
    return directory / "processes.json"


def _start(service: Service, directory: Path, where: Path, offset: int) -> Process:
    data = directory / "data" / service.name
    data.mkdir(parents=True, exist_ok=True)
    log = log_of(service.name, directory)
    log.parent.mkdir(exist_ok=True)
    port = (service.page or 0) + offset
    arguments = [argument.format(data=data, port=port) for argument in service.arguments]
    binary = build.program(service.program or "")
    assert binary is not None
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(binary), *arguments], cwd=where, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    process.returncode = 0  # it outlives us: Popen has nothing to complain of
    return Process(service.name, process.pid, psutil.Process(process.pid).create_time(), offset)


def _wait_ready(service: Service, process: Process, directory: Path) -> None:
    until = time.monotonic() + READY_S
    while not is_ready(service, process.offset):
        log = log_of(service.name, directory)
        if not process.running():
            raise StackError(f"{service.name} ended when it started:\n{_last_lines(log)}\nAll of it: {log}")
        if time.monotonic() > until:
            raise StackError(
                f"{service.name} was not ready after {READY_S:.0f} s:\n{_last_lines(log)}\nAll of it: {log}"
            )
        time.sleep(LOOK_S)


def _last_lines(log: Path) -> str:
    return "\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-LAST_LINES:])


def _check_ports(offset: int) -> None:
    """Raises ``StackError`` where one is taken, with who has it as far as that can be seen."""
    for service in NATIVE:
        for port in service.ports:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port + offset))
                except OSError as error:
                    raise StackError(
                        f"port {port + offset}, which {service.name} needs, is taken{_holder(port + offset)} "
                        f"({error.strerror}). Free it, or move all ports: otel-train stack up --native "
                        "--port-offset 10000"
                    ) from None


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        return ""
    return ""
