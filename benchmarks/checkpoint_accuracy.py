"""How exact checkpoints are on record: times that were made to pass, and sizes that are known, against the events.

python benchmarks/checkpoint_accuracy.py

The time made to pass is a sleep, as long as it really was; what torch does beside it is in the stopwatch around the
call. Goal: within 2 % or 1 ms of the stopwatch, sizes to the byte. Below, what the hooks cost.
"""

import io
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp

from otel_train import instrumentation
from otel_train.hooks.file_checkpoint import Pace, traced
from otel_train.testing import Recording, record

SLEEPS_S = (0.02, 0.1, 0.5)
TENSOR = torch.ones(1 << 20)
CALLS, ROUNDS = 300, 7
STAGE = "dl.checkpoint.stage"
slept: list[float] = []
"""How long each sleep since the last case really took, s."""


def sleep(seconds: float) -> None:
    start = time.perf_counter()
    time.sleep(seconds)
    slept.append(time.perf_counter() - start)


class SlowState:
    """Sleeps when it is pickled, and when it is unpickled."""

    def __init__(self, save_s: float, load_s: float = 0.0) -> None:
        self.save_s, self.load_s = save_s, load_s

    def __reduce__(self) -> Any:
        sleep(self.save_s)
        return (sleep, (self.load_s,))


class SlowFile(io.BytesIO):
    """Sleeps at its first write."""

    seconds = 0.0

    def write(self, data: Any) -> int:
        if not self.getbuffer().nbytes:
            sleep(self.seconds)
        return super().write(data)


class SlowWriter(dcp.FileSystemWriter):
    """Sleeps before it writes."""

    seconds = took = 0.0

    def write_data(self, plan: Any, planner: Any) -> Any:
        start = time.perf_counter()
        sleep(self.seconds)
        written = super().write_data(plan, planner)
        self.took = time.perf_counter() - start
        return written


class SlowStager(dcp.staging.DefaultStager):
    """Sleeps before it copies aside."""

    seconds = 0.0

    def stage(self, state_dict: Any, **kwargs: Any) -> Any:
        sleep(self.seconds)
        return super().stage(state_dict, **kwargs)


def main() -> None:
    warnings.simplefilter("ignore")
    print(f"Python {sys.version.split()[0]}, torch {torch.__version__}: ms, and bytes")
    print(f"{'':34}{'injected':>10}{'stopwatch':>10}{'event':>10}{'off by':>9}{'bytes':>12}{'event':>12}")
    instrumentation.instrument()
    with tempfile.TemporaryDirectory() as folder:
        good = [case(Path(folder), seconds) for seconds in SLEEPS_S for case in CASES]
        print(f"{sum(good)} of {len(good)} within 2 % or 1 ms, with the right size")
        costs(Path(folder) / "cost.pt")
    instrumentation.uninstrument()


def is_checkpoint(event: Any) -> bool:
    return bool(event.kind == "checkpoint")


def row(
    name: str,
    run: Recording,
    stopwatch_s: float,
    size: int | None,
    chosen: Callable[[Any], bool] = is_checkpoint,
) -> bool:
    """Print a case; is it as exact as it should be?"""
    (event,) = [event for event in run.events if chosen(event)]
    told_s, told_size = event.duration_ns / 1e9, event.attributes.get("dl.checkpoint.size")
    off_s = told_s - stopwatch_s
    print(
        f"{name:34}{sum(slept) * 1e3:10.2f}{stopwatch_s * 1e3:10.2f}{told_s * 1e3:10.2f}{off_s * 1e3:+9.2f}"
        f"{size if size is not None else '-':>12}{told_size if told_size is not None else '-':>12}"
    )
    return abs(off_s) <= max(0.02 * stopwatch_s, 0.001) and told_s >= sum(slept) and size == told_size


def timed(call: Callable[[], Any]) -> float:
    slept.clear()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def save_to_path(folder: Path, seconds: float) -> bool:
    path = folder / "model.pt"
    with record() as run:
        took = timed(lambda: torch.save({"slow": SlowState(seconds), "weights": TENSOR}, path))
    return row("torch.save, slow to pickle", run, took, path.stat().st_size)


def save_to_memory(folder: Path, seconds: float) -> bool:
    file = SlowFile()
    file.seconds = seconds
    with record() as run:
        took = timed(lambda: torch.save(TENSOR, file))
    return row("torch.save, slow to write", run, took, file.getbuffer().nbytes)


def load(folder: Path, seconds: float) -> bool:
    path = folder / "slow.pt"
    torch.save({"slow": SlowState(0, seconds), "weights": TENSOR}, path)
    with record() as run:
        took = timed(lambda: torch.load(path, weights_only=False))
    return row("torch.load, slow to unpickle", run, took, path.stat().st_size)


def distributed(folder: Path, seconds: float) -> bool:
    writer = SlowWriter(folder / f"dcp {seconds}")
    writer.seconds = seconds
    with record() as run:
        took = timed(lambda: dcp.save({"weights": TENSOR}, storage_writer=writer))
    return row("dcp.save, slow to write", run, took, bytes_of(folder / f"dcp {seconds}"))


def waited_for(folder: Path, seconds: float) -> bool:
    return asynchronous(folder, seconds, 0.3, "dcp.async_save, slow to stage", False)


def written_beside(folder: Path, seconds: float) -> bool:
    return asynchronous(folder, 0.0, seconds, "  its stage write_data", True)


def asynchronous(folder: Path, stage_s: float, write_s: float, name: str, beside: bool) -> bool:
    """Either the part that the training waits for, or the writing: there the stopwatch is the writer's own."""
    path = folder / f"async {stage_s} {write_s}"
    writer, stager = SlowWriter(path), SlowStager(dcp.staging.StagingOptions(False, False, False, False))
    writer.seconds, stager.seconds = write_s, stage_s
    futures: list[Any] = []

    def save() -> None:
        futures.append(dcp.async_save({"weights": TENSOR}, storage_writer=writer, async_stager=stager))

    with record() as run:
        run_step()
        staged = timed(save)
        futures[0].result()
    if not beside:
        del slept[1:]
        return row(name, run, staged, None, lambda event: event.kind == "checkpoint" and event.thread is None)
    del slept[:1]
    (written,) = [event for event in run.events if event.kind == "checkpoint" and event.thread is not None]
    right = bytes_of(path) == written.attributes["dl.checkpoint.size"]
    return right and row(name, run, writer.took, None, lambda event: event.attributes.get(STAGE) == "write_data")


def run_step() -> None:
    """Make this the training thread."""
    import otel_train

    with otel_train.trace_step():
        pass


def bytes_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


class Free(Pace):
    """Lets everything through."""

    def allows(self) -> bool:
        return True


def costs(path: Path) -> None:
    """What the hook takes around a function that does nothing, µs: the smallest of some rounds."""
    torch.save(torch.ones(4), path)
    load = traced(lambda file: None, "load", "torch.load", 0, "f", Pace())
    save = traced(lambda tensor, file: None, "save", "torch.save", 1, "f", Free())
    memory = io.BytesIO()
    calls: tuple[tuple[str, Callable[[], object]], ...] = (
        ("a small load, left out", lambda: load(path)),
        ("a small save in memory, left out", lambda: save(0, memory)),
        ("a save to disk, recorded", lambda: save(0, path)),
    )
    print("\nµs that the hook takes                no run     a run")
    without = [best_us(call) for _, call in calls]
    with record():
        run_step()
        time.sleep(2)  # a run that has just begun looks at the machine first
        within = [best_us(call) for _, call in calls]
    for (name, _), idle, cost in zip(calls, without, within, strict=True):
        print(f"{name:36}{idle:8.1f}{cost:10.1f}")


def best_us(call: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(CALLS):
            call()
        times.append((time.perf_counter() - start) / CALLS * 1e6)
    return min(times)


CASES = (save_to_path, save_to_memory, load, distributed, waited_for, written_beside)

if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
