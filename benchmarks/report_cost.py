"""A report on a million recorded steps with resources, one on 64 ranks, and the memory of a process that records them.

python benchmarks/report_cost.py [--steps 1000000] [--rows 10000] [--ranks 64] [--rank-steps 10000]

Steps are recorded through the public API. The machine's own first sample, and GPUs beside it, fill ``--rows`` rows of
``resources.csv``; the ranks are copies of one.
"""

import argparse
import gc
import itertools
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

import otel_train
from otel_train.derive.steps import scan_steps
from otel_train.resource_names import (
    GPU_MEMORY_LIMIT,
    GPU_MEMORY_USAGE,
    GPU_POWER_LIMIT,
    GPU_UTILIZATION,
    HW_ENERGY,
    HW_POWER,
    HW_TEMPERATURE,
    Series,
    series,
)
from otel_train.runlog.layout import RUN_JSON, rank_folder
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.resources import ResourceWriter

GOAL_S, GOAL_MB, GOAL_RANKS_S = 2.0, 300, 5.0
GPUS = 8


def record(steps: int, directory: Path) -> Path:
    """Record steps through the public API; prints the process's memory on the way. Returns the run's folder."""
    process = psutil.Process()
    run = otel_train.init(dir=directory)
    print("resident memory while recording (MB, the log's own mapped pages apart):", end=" ", flush=True)
    for number, _ in enumerate(otel_train.trace_dataloader(itertools.repeat([0] * 8, steps))):
        with otel_train.trace_step(tokens=1024):
            with otel_train.trace_phase("forward"):
                pass
            with otel_train.trace_phase("backward"):
                pass
            with otel_train.trace_phase("optimizer"):
                pass
        if number % (steps // 8) == steps // 16:
            gc.collect()
            memory = process.memory_full_info()
            print(f"{memory.uss / 1e6:.1f}", end=" ", flush=True)
    print()
    assert run.path is not None
    run.shutdown()
    return run.path.parent


def sample(path: Path, rows: int) -> int:
    """Fill a rank's ``resources.csv`` with rows between its first step and its last; returns how many columns."""
    log = RankLog.open(path)
    first_s, last_s = scan_steps(log).trained_s or (0.0, 1.0)
    row = next(row for _, row, _ in log.resources()) | of_gpus()
    writer = ResourceWriter(log.storage, 1 << 30, first=1)
    for index in range(rows):
        row = {key: value + index for key, value in row.items()}
        writer.write(first_s + (last_s - first_s) * index / rows, row)
    return len(row)


def of_gpus() -> dict[Series, float]:
    """What eight GPUs tell."""
    found = {}
    for gpu in range(GPUS):
        device = {"hw__id": f"GPU-{gpu}", "hw__name": f"GPU {gpu}", "hw__model": "NVIDIA H100 80GB HBM3"}
        for metric in (GPU_UTILIZATION, GPU_MEMORY_USAGE, GPU_MEMORY_LIMIT, HW_POWER, HW_ENERGY, GPU_POWER_LIMIT):
            found[series(metric, hw__type="gpu", **device)] = gpu + 0.123456789
        for sensor in ("gpu", "memory"):
            found[series(HW_TEMPERATURE, hw__type="gpu", hw__sensor_location=sensor, **device)] = 40.0 + gpu
    return found


def copied(path: Path, ranks: int) -> None:
    """The ranks of a run, as copies of its first one."""
    first = path / rank_folder(0)
    identity = json.loads((first / RUN_JSON).read_text())
    for rank in range(1, ranks):
        shutil.copytree(first, path / rank_folder(rank))
        (path / rank_folder(rank) / RUN_JSON).write_text(json.dumps(identity | {"rank": rank}))


def report_s(path: Path) -> tuple[float, str]:
    """The least of three times that ``otel-train report`` takes as a process of its own, and what it prints."""
    command = [sys.executable, "-m", "otel_train.cli", "report", str(path), "--goal", "1G samples"]
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - start)
    return min(times), done.stdout


def peak_mb() -> float:
    """The most memory that a report so far had."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6


def main() -> None:
    """Record, then time the reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--ranks", type=int, default=64)
    parser.add_argument("--rank-steps", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = record(options.steps, Path(folder) / "one")
        columns = sample(path / rank_folder(0), options.rows)
        took_s, shown = report_s(path)
        print(shown)
        what = f"{options.steps:,} steps and {options.rows:,} samples of {columns} columns"
        print(f"report on {what}: {took_s:.2f} s at least of 3 (goal: at most {GOAL_S:g} s), "
              f"peak memory {peak_mb():.0f} MB (goal: at most {GOAL_MB})")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = record(options.rank_steps, Path(folder) / "many")
        copied(path, options.ranks)
        took_s, _ = report_s(path)
        print(f"report on {options.ranks} ranks of {options.rank_steps:,} steps: {took_s:.2f} s at least of 3 "
              f"(goal: at most {GOAL_RANKS_S:g} s)")  # fmt: skip


if __name__ == "__main__":
    main()
