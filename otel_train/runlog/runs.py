"""The runs in a directory: finding one by id, prefix, path or age, with all its ranks."""

import fnmatch
import glob
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from otel_train import guard
from otel_train.errors import RunLogError, RunNotFound
from otel_train.processes import is_alive
from otel_train.runlog.layout import RUN_JSON
from otel_train.runlog.ranklog import RankLog


@dataclass(frozen=True)
class Run:
    """A run on disk: a folder with a folder for each rank."""

    path: Path

    @property
    def id(self) -> str:
        """The run id, which is the folder's name."""
        return self.path.name

    @property
    def rank_paths(self) -> list[Path]:
        """The folders of its ranks, in the ranks' order."""
        return sorted(folder for folder in self.path.glob("rank-*") if (folder / RUN_JSON).is_file())

    def ranks(self) -> list[RankLog]:
        """Its ranks, opened; one that cannot be read is left out with a warning. Raises ``RunLogError`` without any."""
        paths = self.rank_paths
        if not paths:
            raise RunLogError(f"{self.path} holds no rank's log")
        opened = []
        for path in paths:
            try:
                opened.append(RankLog.open(path))
            except RunLogError as error:
                if path == paths[-1] and not opened:
                    raise
                guard.warn_once(f"unreadable {path}", "left out: %s", error)
        return opened

    @property
    def started_unix_ns(self) -> int:
        """When its first rank started."""
        return min(rank.anchor.unix_ns for rank in self.ranks())


def runs_in(directory: Path) -> Iterator[Run]:
    """The runs in a directory, the newest folder first."""
    try:
        folders = [Path(entry.path) for entry in os.scandir(directory) if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return
    runs = [Run(folder) for folder in folders]
    yield from sorted((run for run in runs if run.rank_paths), key=_age, reverse=True)


def _age(run: Run) -> tuple[float, str]:
    return max(path.joinpath(RUN_JSON).stat().st_mtime for path in run.rank_paths), run.id


def find_run(directory: Path, wanted: str | None) -> Run:
    """A run by path, id or prefix of it; the newest when ``wanted`` is None. Raises ``RunNotFound``."""
    if wanted is not None and (os.sep in wanted or Path(wanted).is_dir()):
        return _run_at(Path(wanted))
    runs = list(runs_in(directory))
    if not runs:
        raise RunNotFound(f"no run is recorded in {directory}. Try: otel-train demo")
    if wanted is None:
        return runs[0]
    exact = [run for run in runs if run.id == wanted]
    matching = exact or [run for run in runs if run.id.startswith(wanted)]
    if len(matching) == 1:
        return matching[0]
    some = ", ".join(run.id for run in (matching or runs)[:5])
    what = "more than one run starts" if matching else f"no run in {directory} starts"
    raise RunNotFound(f"{what} with {wanted!r}. There is: {some}. See: otel-train ls")


def find_runs(directory: Path, pattern: str) -> list[Run]:
    """The runs whose id, or whose path where the pattern has a slash, is like a pattern with ``*``, the oldest first.

    Raises ``RunNotFound`` where there is none.
    """
    if os.sep in pattern:
        found = [run for run in map(Run, map(Path, glob.glob(pattern))) if run.rank_paths]
    else:
        found = [run for run in runs_in(directory) if fnmatch.fnmatchcase(run.id, pattern)]
    if not found:
        raise RunNotFound(f"no run is like {pattern!r}. See: otel-train ls")
    return sorted(found, key=lambda run: (run.started_unix_ns, run.id))


def _run_at(path: Path) -> Run:
    path = path.resolve()
    if path.name.startswith("rank-") and (path / RUN_JSON).is_file():
        path = path.parent
    run = Run(path)
    if not run.rank_paths:
        raise RunNotFound(f"{path} is no run: it has no rank-*/{RUN_JSON}. See: otel-train ls")
    return run


def state_of(rank: RankLog) -> str:
    """``running``, ``finished``, ``failed``, ``died`` (no end was written and its process is gone) or ``unknown``.

    Whether a process lives is only known on its own host.
    """
    identity = rank.read_identity()
    end = identity.get("end")
    if end:
        return "failed" if end.get("error") else "finished"
    process = identity.get("process", {})
    if process.get("host") != socket.gethostname():
        return "unknown"
    return "running" if is_alive(process["pid"], process.get("start_ticks")) else "died"
