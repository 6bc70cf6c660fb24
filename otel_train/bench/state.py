"""What a benchmark has done so far, on disk: one line a run: the same command typed again goes on from there."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from otel_train.bench.matrix import Cell, Factor, Setting
from otel_train.errors import BenchError
from otel_train.file_lock import FileLock

DONE, FAILED, TIMED_OUT, INTERRUPTED = "done", "failed", "timed out", "interrupted"
STATE, OUTPUT, LOCK = "state.jsonl", "output", "bench.lock"


@dataclass(frozen=True)
class RunRecord:
    """One run that was started, and how it ended."""

    cell: Cell
    round_number: int
    run_id: str
    status: str
    exit_code: int | None
    """Negative: the number of the signal that ended it. None where it could not be started."""
    wall_s: float
    peak_bytes: int | None
    """Resident memory at most, of the largest of its processes (the kernel's ``ru_maxrss``)."""
    oom_kills: int | None
    """Processes of this control group killed for want of memory meanwhile; None where that is not told."""

    @property
    def is_over(self) -> bool:
        """Is it not to be run again? One that was interrupted is."""
        return self.status != INTERRUPTED


class BenchState:
    """The folder of a benchmark, beside the runs that it started."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.name = name
        self.folder = directory / name
        self.records: list[RunRecord] = []
        self.repeats_first: int | None = None
        """The number of rounds that was planned when it began; None for a new one."""
        self._lock = FileLock(self.folder / LOCK)

    def open(self, plan: dict[str, Any], fresh: bool = False, retry_failed: bool = False) -> None:
        """Read what is there, or begin; one process at a time.

        Raises ``BenchError`` where it is another's, ``OSError``.
        """
        (self.folder / OUTPUT).mkdir(parents=True, exist_ok=True)
        if not self._lock.acquire():
            raise BenchError(f"{self.name} is being run by another process; wait for it, or choose another --name")
        path = self.folder / STATE
        if fresh and path.exists():
            path.rename(self._aside(path))
        if not path.exists():
            self._append(plan)
            return
        try:
            first, *lines = _whole_lines(path)
            known = [_record(line) for line in lines]
        except (ValueError, TypeError, KeyError) as error:
            raise BenchError(f"{path} cannot be read ({error}). Begin anew with --fresh") from error
        if first.get("identity") != plan["identity"]:
            raise BenchError(
                f"{self.folder} holds a benchmark of another command, matrix or script. Choose another --name, or "
                "begin anew with --fresh"
            )
        self.repeats_first = first.get("repeat")
        self.records = [each for each in known if each.status == DONE or not retry_failed]

    def close(self) -> None:
        """Let another process go on with it."""
        self._lock.release()

    def over(self, cell: Cell) -> dict[int, RunRecord]:
        """The runs of a cell that are over, by round; the last one where there are several."""
        return {each.round_number: each for each in self.records if each.cell == cell and each.is_over}

    def add(self, record: RunRecord) -> None:
        """Keep one run. Raises ``OSError``."""
        self.records.append(record)
        self._append({**asdict(record), "cell": [list(vars(each).values()) for each in record.cell.settings]})

    def new_run_id(self, cell: Cell, round_number: int) -> str:
        """An id that no run of this directory has: name, values, round."""
        values = "-".join(each.value for each in cell.settings)[:40]
        wanted = "".join(c if c.isalnum() or c in "._-" else "_" for c in f"{self.name}-{values}-r{round_number}")
        taken, number = wanted, 1
        while (self.directory / taken).exists() or self.output(taken).exists():
            number += 1
            taken = f"{wanted}.{number}"
        return taken

    def output(self, run_id: str) -> Path:
        """Where what a run printed is kept."""
        return self.folder / OUTPUT / f"{run_id}.txt"

    def _append(self, line: dict[str, Any]) -> None:
        with (self.folder / STATE).open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _aside(self, path: Path) -> Path:
        number = 1
        while (aside := path.with_suffix(f".{number}.jsonl")).exists():
            number += 1
        return aside


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """A last line that was cut off is left out: its run is run again."""
    content = path.read_text()
    lines = [json.loads(line) for line in content[: content.rfind("\n") + 1].splitlines()]
    if not lines:
        raise ValueError("it is empty")
    if not content.endswith("\n"):
        path.write_text(content[: content.rfind("\n") + 1])
    return lines


def _record(line: dict[str, Any]) -> RunRecord:
    return RunRecord(**{**line, "cell": Cell(tuple(Setting(*each) for each in line["cell"]))})


def plan_of(command: Sequence[str], factors: Sequence[Factor], repeat: int) -> dict[str, Any]:
    """The first line of the state. Its ``identity`` stands for the command, its script's text, where it is run, and the
    factors: with any of them another it is another benchmark. What the script imports is not looked at."""
    scripts = [
        Path(part).read_text(errors="replace") for part in command if part.endswith(".py") and Path(part).is_file()
    ]
    told = [list(command), scripts, str(Path.cwd()), [[each.kind, each.name, list(each.values)] for each in factors]]
    identity = hashlib.blake2b(json.dumps(told).encode(), digest_size=3).hexdigest()
    return {
        "identity": identity, "command": list(command), "directory": str(Path.cwd()), "repeat": repeat,
        "factors": [[each.kind, each.name, list(each.values)] for each in factors],
    }  # fmt: skip


def default_name(command: Sequence[str], identity: str) -> str:
    """``bench-char_gpt-3f2a9c``: by the first script, or else the program."""
    named = next((part for part in command if part.endswith(".py")), command[0])
    return f"bench-{Path(named).stem}-{identity}"
