"""Baselines: runs to compare later ones with, under a name, in a file that can be committed.

What is kept of a run is what a comparison needs (``derive.fingerprint``), some 4 KB, so that the run itself may go. The
file is JSON with a ``version``; a reader refuses one that it does not know.
"""

import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otel_train.derive.fingerprint import Fingerprint
from otel_train.errors import ComparisonError

FILE = Path("otel-train-baselines.json")
"""In the working directory, unless ``--file`` says otherwise."""
FORMAT, VERSION = "otel_train baselines", 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Baseline:
    """A name, when it was set, and the runs it stands for: at least one."""

    name: str
    set_unix_s: float
    runs: tuple[Fingerprint, ...]


def read_baselines(path: Path = FILE) -> dict[str, Baseline]:
    """All of a file by name; none where there is no file. Raises ``ComparisonError``."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ComparisonError(f"{path} is no file of baselines: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ComparisonError(f"{path} is no file of baselines: it lacks {FORMAT!r}. Name another one with --file")
    if content.get("version") != VERSION:
        raise ComparisonError(
            f"{path}: got version {content.get('version')!r}; this otel_train reads version {VERSION}. Set its "
            "baselines again"
        )
    return {name: _baseline(name, each, path) for name, each in content.get("baselines", {}).items()}


def find_baseline(name: str, path: Path = FILE) -> Baseline:
    """The baseline of that name. Raises ``ComparisonError``, which says which there are."""
    known = read_baselines(path)
    if name not in known:
        there = f"it has {', '.join(known)}" if known else "it has none"
        raise ComparisonError(f"no baseline {name!r} in {path}: {there}. Set it: otel-train baseline set {name} RUN")
    return known[name]


def set_baseline(name: str, runs: tuple[Fingerprint, ...], path: Path = FILE) -> Baseline:
    """Keep runs under a name, in place of those that had it. Raises ``ComparisonError``, ``OSError``."""
    if not NAME.fullmatch(name):
        raise ComparisonError(f"got the name {name!r}; allowed are letters, digits and . _ - (at most 100)")
    known = read_baselines(path)
    known[name] = Baseline(name, time.time(), runs)
    _write(known, path)
    return known[name]


def remove_baseline(name: str, path: Path = FILE) -> None:
    """Forget a name. Raises ``ComparisonError`` where there is none."""
    find_baseline(name, path)
    _write({key: each for key, each in read_baselines(path).items() if key != name}, path)


def _baseline(name: str, content: Any, path: Path) -> Baseline:
    try:
        runs = tuple(Fingerprint.from_json(run) for run in content["runs"])
        found = Baseline(name, float(content["set_unix_s"]), runs)
    except (KeyError, TypeError, ValueError) as error:
        raise ComparisonError(f"{path}: baseline {name!r} is not whole: {error}. Set it again") from error
    if not runs:
        raise ComparisonError(f"{path}: baseline {name!r} has no run. Set it again")
    return found


def _write(known: dict[str, Baseline], path: Path) -> None:
    """In the order of names, a line for each phase's numbers at most, so that a change of one is a small diff."""
    baselines = {
        name: {"set_unix_s": round(each.set_unix_s, 3), "runs": [run.to_json() for run in each.runs]}
        for name, each in sorted(known.items())
    }
    text = json.dumps({"format": FORMAT, "version": VERSION, "baselines": baselines}, indent=1, allow_nan=False)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.new")
    scratch.write_text(_short_lists(text) + "\n")
    scratch.replace(path)


def _short_lists(text: str) -> str:
    """Lists of numbers on one line."""
    return re.sub(r"\[\s*([-+.\d][^\[\]\"{}]*?)\s*\]", lambda match: f"[{' '.join(match[1].split())}]", text)
