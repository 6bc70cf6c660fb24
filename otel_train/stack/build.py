"""The stack's programs: found on the PATH, or built from their published Go modules into a cache.

What is built once stays; a build that was interrupted goes on with what Go has cached. Go checks each module that goes
into a program against the sums in that program's own go.sum; the programs' modules themselves are checked here.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from otel_train.errors import StackError
from otel_train.file_lock import FileLock
from otel_train.stack.programs import (
    BINARIES,
    BUILDER,
    COLLECTOR,
    COLLECTOR_MINUTES,
    MODULES,
    Module,
    cache,
    collector_files,
)

ON_PATH = {COLLECTOR: ("otelcol-contrib", COLLECTOR)}
"""Names under which packages install a program, where they differ from ours."""
GO = {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-trimpath", "GONOSUMDB": "*", "GOTOOLCHAIN": "auto"}
"""No checksum database: it does not know each of these modules, and sums are pinned."""
Say = Callable[[str], None]


def program(name: str) -> Path | None:
    """The binary: of the cache, or else on the PATH; None if it is in neither."""
    built = cache() / "bin" / name
    if built.is_file():
        return built
    found = next((path for path in map(shutil.which, ON_PATH.get(name, (name,))) if path), None)
    return Path(found) if found else None


def missing(names: "tuple[str, ...]" = BINARIES) -> list[str]:
    """Those that are nowhere."""
    return [name for name in names if program(name) is None]


def build(names: "tuple[str, ...]" = BINARIES, say: Say = print) -> None:
    """Build those that the cache lacks. Raises ``StackError`` where there is no Go, or it fails."""
    lacking = [name for name in names if not (cache() / "bin" / name).is_file()]
    if not lacking:
        return
    if shutil.which("go") is None:
        raise StackError(
            f"not found: {', '.join(lacking)}. Install them, or Go 1.26 or newer (https://go.dev/dl), with which "
            "they are built; or start containers instead: otel-train stack up"
        )
    (cache() / "bin").mkdir(parents=True, exist_ok=True)
    lock = FileLock(cache() / "building")
    if not lock.acquire():
        raise StackError(f"another process is building into {cache()}: wait for it, then come again")
    try:
        for module in MODULES:
            if any(name in lacking for name in module.binaries):
                _timed(
                    f"{' and '.join(module.binaries)} {module.shown}",
                    module.minutes,
                    say,
                    partial(build_module, module),
                )
        if COLLECTOR in lacking:
            _timed(f"{COLLECTOR} {BUILDER.shown}", COLLECTOR_MINUTES, say, _collector)
    finally:
        lock.release()


def _timed(what: str, minutes: float, say: Say, make: Callable[[], None]) -> None:
    began = time.monotonic()
    say(f"building {what}, which takes about {minutes:g} min on two cores the first time")
    make()
    say(f"built {what} in {time.monotonic() - began:.0f} s")


def build_module(module: Module) -> None:
    """Its binaries, from a copy of its sources: Go installs no module that replaces others."""
    with tempfile.TemporaryDirectory(prefix="otel_train-") as scratch:
        sources = _copied(_download(module), Path(scratch) / "sources")
        for name in module.lacking:
            (sources / name).parent.mkdir(parents=True, exist_ok=True)
            (sources / name).touch()
        for binary, package in module.binaries.items():
            _compile(sources, package, binary, module.tags)


def _download(module: Module) -> Path:
    """Where Go keeps its sources. Raises ``StackError`` if they are not what is pinned."""
    answer = json.loads(
        _go(["mod", "download", "-json", f"{module.path}@{module.version}"], Path(tempfile.gettempdir()))
    )
    if answer.get("Sum") != module.sum:
        raise StackError(
            f"{module.path} {module.version} has the sum {answer.get('Sum')}, pinned is {module.sum}: it is not "
            "what was published, and is not built"
        )
    return Path(answer["Dir"])


def _copied(sources: Path, target: Path) -> Path:
    """A copy that can be written to: Go's own cannot."""
    shutil.copytree(sources, target, copy_function=shutil.copyfile)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return target


def _collector() -> None:
    """Its main program is generated; all its modules are pinned by the shipped go.sum."""
    with tempfile.TemporaryDirectory(prefix="otel_train-") as scratch:
        work = Path(scratch)
        shutil.copy(collector_files() / "builder.yaml", work)
        _go(["build", "-o", str(work / "generate"), "."], _copied(_download(BUILDER), work / "builder"))
        _run([str(work / "generate"), "--config=builder.yaml", "--skip-compilation", "--skip-get-modules"], work)
        for name in ("go.mod", "go.sum"):
            shutil.copy(collector_files() / name, work / "generated")
        _compile(work / "generated", ".", COLLECTOR, ())


def _compile(sources: Path, package: str, binary: str, tags: "tuple[str, ...]") -> None:
    target = cache() / "bin" / binary
    scratch = target.with_suffix(".partial")
    _go(["build", "-ldflags=-s -w", f"-tags={','.join(tags)}", "-o", str(scratch), package], sources)
    scratch.replace(target)


def _go(arguments: list[str], where: Path) -> str:
    return _run(["go", *arguments], where)


def _run(command: list[str], where: Path) -> str:
    done = subprocess.run(command, cwd=where, env={**os.environ, **GO}, capture_output=True, text=True)
    if done.returncode:
        said = "\n".join([line for line in _lines(done) if not line.startswith("go: downloading")][-10:])
        raise StackError(
            f"{' '.join(command)} failed:\n{said}\nWhat is built already is kept: the same command goes on"
        )
    return done.stdout


def _lines(done: "subprocess.CompletedProcess[str]") -> Iterator[str]:
    yield from done.stdout.splitlines()
    yield from done.stderr.splitlines()
