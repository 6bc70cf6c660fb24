"""What the run was made of: versions and the commit. Read off the training thread; nothing is imported for it."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numpy", "lightning", "transformers", "accelerate", "deepspeed", "opentelemetry-sdk")
GIT_TIMEOUT_S = 2


def describe_software() -> dict[str, str]:
    """Versions of Python, the platform and the packages that are installed; CUDA as the installed torch names it."""
    described = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            described[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    cuda = getattr(getattr(sys.modules.get("torch"), "version", None), "cuda", None)
    return {**described, "cuda": cuda} if cuda else described


def describe_git(directory: Path) -> dict[str, Any]:
    """Commit and dirty flag of the work tree that holds ``directory``; empty where there is none, or no git."""
    commit = _git(directory, "rev-parse", "HEAD")
    if not commit:
        return {}
    changes = _git(directory, "status", "--porcelain", "--untracked-files=no")
    described: dict[str, Any] = {"commit": commit.strip()}
    return described if changes is None else {**described, "dirty": bool(changes.strip())}


def _git(directory: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails.

    Without pipes, and by ``posix_spawn`` (a whole path, ``close_fds=False``): a data worker forked at that moment would
    have the pipes' other ends, and this would wait until the worker ends.
    """
    git = shutil.which("git")
    if git is None:
        return None
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        with tempfile.TemporaryFile() as printed:
            done = subprocess.run(
                [git, "-C", str(directory), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.DEVNULL,
                close_fds=False,
                timeout=GIT_TIMEOUT_S,
                env=environment,
                check=False,
            )
            printed.seek(0)
            return printed.read().decode(errors="replace") if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired):
        return None
