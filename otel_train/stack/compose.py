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
    found, tried = _look()
    if found is not None:
        return found
    answers = f" ({'; '.join(tried)})" if tried else ""
    raise StackError(
        "no container engine with compose was found: neither docker compose, docker-compose, podman compose nor "
        f"podman-compose{answers}. Install one, or run the stack without: otel-train stack up --native"
    )


def is_there() -> bool:
    """Is there an engine?"""
    return _look()[0] is not None


def _look() -> tuple[list[str] | None, list[str]]:
    """The first way that works, and what those before it answered."""
    tried: list[str] = []
    for way in WAYS:
        if shutil.which(way[0]) is not None:
            done = subprocess.run([*way, "version"], capture_output=True, text=True)
            if done.returncode == 0:
                return list(way), tried
            said = (done.stderr or done.stdout).strip().splitlines() or ["no answer"]
            tried.append(f"{' '.join(way)} says: {said[0]}")
    return None, tried


def up(directory: Path) -> None:
    """Start all, and wait until what can say so is healthy."""
    _run([*command(), "up", "--detach", "--wait", "--wait-timeout", str(READY_S)], directory, "up")


def down(directory: Path, volumes: bool) -> None:
    """Stop all; with ``volumes`` what they stored goes too."""
    _run([*command(), "down", *(["--volumes"] if volumes else [])], directory, "down")


def running(directory: Path) -> list[str]:
    """The services whose containers run; none where there is no engine."""
    way, _ = _look()
    if way is None:
        return []
    asked = [*way, "ps", "--services", "--filter", "status=running"]
    done = subprocess.run(asked, cwd=directory, capture_output=True, text=True)
    return done.stdout.split() if done.returncode == 0 else []


def _run(arguments: list[str], directory: Path, what: str) -> None:
    """With its own output on the terminal."""
    code = subprocess.run(arguments, cwd=directory).returncode
    if code:
        raise StackError(
            f"{' '.join(arguments)} ended with {code} in {directory}. Is the engine's daemon running, and may you use "
            f"it? What the parts say: {' '.join([*arguments[: arguments.index(what)], 'logs'])}"
        )
