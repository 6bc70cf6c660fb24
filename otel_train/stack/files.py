"""The files that the stack is made of: shipped in the wheel, written to a directory, adapted to processes."""

import hashlib
import json
import os
import re
from importlib import resources
from pathlib import Path

from otel_train.errors import StackError
from otel_train.stack.services import SERVICES

PARTS = (
    "docker-compose.yml",
    "collector-config",
    "stack/jaeger",
    "stack/prometheus",
    "stack/alertmanager",
    "stack/grafana",
)
WRITTEN = ".written.json"
"""In the directory: the hash of each file as it was written."""


def default_directory() -> Path:
    """Where the stack lives, unless another place is named."""
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "otel_train" / "stack"


def shipped() -> Path:
    """Where the files are: in the installed package, or in the repository of an editable install."""
    package = Path(str(resources.files("otel_train")))
    candidates = [package / "stack" / "files", package.parent]
    found = next((path for path in candidates if all((path / part).exists() for part in PARTS)), None)
    if found is None:
        raise StackError(
            f"the stack's files are in neither {candidates[0]} nor {candidates[1]}: install otel-train again"
        )
    return found


def write(directory: Path) -> list[Path]:
    """Bring the shipped files to the directory. Returns those that somebody has edited since: they are left alone."""
    source, known = shipped(), _written(directory)
    edited, hashes = [], {}
    for path in sorted(found for part in PARTS for found in _files(source / part)):
        name = path.relative_to(source).as_posix()
        target, content = directory / name, path.read_bytes()
        hashes[name] = _hash(content)
        if target.is_file():
            present = _hash(target.read_bytes())
            if present not in (known.get(name), hashes[name]):
                edited.append(target)
                hashes[name] = known.get(name, "")
                continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    (directory / WRITTEN).write_text(json.dumps(hashes, indent=1))
    return edited


def _files(part: Path) -> list[Path]:
    return [part] if part.is_file() else [path for path in part.rglob("*") if path.is_file()]


def _written(directory: Path) -> dict[str, str]:
    path = directory / WRITTEN
    if not path.is_file():
        return {}
    found: dict[str, str] = json.loads(path.read_text())
    return found


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# -- the same files for processes ----------------------------------------------------------------------------------

HOSTS = "|".join(["0.0.0.0", "127.0.0.1", "localhost", *(service.name for service in SERVICES)])
ADDRESS = re.compile(rf"(?<![\w.-])(?:{HOSTS}):(\d+)")
TELEMETRY = re.compile(r"host: 0\.0\.0\.0(\s+)port: (\d+)")
DATA = re.compile(r"/var/lib/(\w+)")


def natively(text: str, data: Path, offset: int) -> str:
    """A configuration with each service on loopback, its port moved by ``offset``, and its data in ``data``."""
    text = ADDRESS.sub(lambda found: f"127.0.0.1:{int(found[1]) + offset}", text)
    text = TELEMETRY.sub(lambda found: f"host: 127.0.0.1{found[1]}port: {int(found[2]) + offset}", text)
    return DATA.sub(lambda found: str(data / found[1]), text)


def write_natively(directory: Path, offset: int) -> Path:
    """Copies of the directory's files for processes; returns where they are."""
    target, data = directory / "native", directory / "data"
    for part in PARTS[1:]:
        for path in _files(directory / part):
            copy = target / path.relative_to(directory)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(natively(path.read_text(), data, offset))
    return target
