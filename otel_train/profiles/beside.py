"""Digesting in a process of its own, at a low priority: the training keeps the GIL, and the cores that it uses.

The process needs the files alone: the rank's record and the trace. Nothing is said through pipes, whose ends a data
worker forked at that moment would hold open.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from otel_train.errors import OtelTrainError
from otel_train.profiles.window import Window
from otel_train.runlog.events import Event

LONGEST_S = 120.0
NICE = 10
"""At 19 it would take minutes where the training keeps every core busy."""
PROGRAM = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from otel_train.profiles.beside import main; main()"


class NoProcess(OtelTrainError):
    """No process could be started, or it did not answer."""


def digest_beside(rank_folder: Path, window: Window, trace: Path, thread: int) -> tuple[Event, float, int]:
    """As ``digest``, and the process's CPU time in ns. Raises ``NoProcess``."""
    answer = trace.with_suffix(".answer")
    job = {
        "rank_folder": str(rank_folder), "window": asdict(window), "trace": str(trace), "thread": thread,
        "answer": str(answer),
    }  # fmt: skip
    if not sys.executable:
        raise NoProcess("sys.executable names no Python")
    command = [sys.executable, "-I", "-c", PROGRAM, json.dumps(sys.path), json.dumps(job)]
    environ = {**os.environ, "OTEL_TRAIN_INSTRUMENT": "false", "OTEL_TRAIN_ENABLED": "false"}
    log = trace.with_suffix(".log")
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
    except OSError as error:
        raise NoProcess(str(error)) from error
    try:
        code = process.wait(LONGEST_S)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.wait()
        raise NoProcess(str(error)) from error
    if code:
        said = log.read_text(errors="replace").strip().splitlines()
        raise NoProcess(said[-1] if said else f"it ended with {code}")
    told = json.loads(answer.read_text())
    return Event.from_line(told["event"].encode()), float(told["usual_ns"]), int(told["cpu_ns"])


def main() -> None:
    """The process: does the job that its second argument describes, and writes the answer."""
    with contextlib.suppress(OSError):
        os.nice(NICE)
    from otel_train.profiles.digest import digest
    from otel_train.runlog.ranklog import RankLog

    job = json.loads(sys.argv[2])
    folder = Path(job["rank_folder"])
    event, usual_ns = digest(
        RankLog.open(folder), folder, Window(**job["window"]), Path(job["trace"]), job["thread"], lambda: None
    )
    told = {"event": event.to_line().decode(), "usual_ns": usual_ns, "cpu_ns": time.process_time_ns()}
    Path(job["answer"]).write_text(json.dumps(told))
