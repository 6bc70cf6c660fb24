"""Results kept for this machine and data set: one JSON file, ``tuning.json``, where runs are recorded."""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

FILE = "tuning.json"
FORMAT = 1
MOST = 200
"""Results kept; the oldest go first."""


def key_of(**facts: Any) -> str:
    """The same for the same facts: of the machine, the data set, and what was searched."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def recall(directory: Path, key: str) -> dict[str, Any] | None:
    """What was found for it before; None where nothing was, or the file is none of ours."""
    found = _read(directory).get(key)
    return found if isinstance(found, dict) else None


def remember(directory: Path, key: str, result: dict[str, Any]) -> Path:
    """Keep it; of two processes that do so at once, one may lose its own. Raises ``OSError`` on a disk that says no."""
    directory.mkdir(parents=True, exist_ok=True)
    results = _read(directory)
    results.pop(key, None)
    results[key] = result
    kept = dict(list(results.items())[-MOST:])
    descriptor, name = tempfile.mkstemp(dir=directory, prefix=FILE)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"format": FORMAT, "results": kept}, file, indent=1)
    os.replace(name, directory / FILE)
    return directory / FILE


def _read(directory: Path) -> dict[str, Any]:
    try:
        content = json.loads((directory / FILE).read_text())
    except (OSError, ValueError):
        return {}
    known = isinstance(content, dict) and content.get("format") == FORMAT and isinstance(content.get("results"), dict)
    return dict(content["results"]) if known else {}
