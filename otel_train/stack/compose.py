"""The stack as containers: with the docker or podman that is there."""

import shutil
import subprocess
from pathlib import Path

from otel_train.errors import StackError

WAYS = (("docker", "compose"), ("docker-compose",), ("podman", "compose"), ("podman-compose",))
"""In the order of preference."""
READY_S = 300
"""Images are pulled before; starting takes seconds."""


def command() -> list[str]:
    """The first way that works. Raises ``StackError`` that says what is missing."""
    tried = []
    for way in WAYS:
        if shutil.which(way[0]) is None:
            continue
        done = subprocess.run([*way, "version"], capture_output=True, text=True)
        if done.returncode == 0:
            return list(way)
        tried.append(f"{' '.join(way)}: {(done.stderr or done.stdout).strip().splitlines()[-1:] or ['no answer']}")
    found = f" ({'; '.join(tried)})" if tried else ""
    raise StackError(
        "no container engine with compose was found: neither docker compose, docker-compose, podman compose nor "
        f"podman-compose{found}. Install one, or run the stack without: otel-train stack up --native"
    )


def up(directory: Path) -> None:
    """Start all, and wait until what can say so is healthy."""
    _run([*command(), "up", "--detach", "--wait", "--wait-timeout", str(READY_S)], directory, "up")


def down(directory: Path, volumes: bool) -> None:
    """Stop all; with ``volumes`` what they stored goes too."""
    _run([*command(), "down", *(["--volumes"] if volumes else [])], directory, "down")


def running(directory: Path) -> list[str]:
    """The services whose containers run."""
    if not any(shutil.which(way[0]) for way in WAYS):
        return []
    done = subprocess.run(
        [*command(), "ps", "--services", "--filter", "status=running"], cwd=directory, capture_output=True, text=True
    )
    return done.stdout.split() if done.returncode == 0 else []


def _run(arguments: list[str], directory: Path, what: str) -> None:
    """With its own output on the terminal."""
    code = subprocess.run(arguments, cwd=directory).returncode
    if code:
        raise StackError(
            f"{' '.join(arguments)} ended with {code} in {directory}. Is the engine's daemon running, and may you use "
            f"it? What the parts say: {' '.join([*arguments[: arguments.index(what)], 'logs'])}"
        )
