"""A report on a million recorded steps, and the memory of a process that records them.

python benchmarks/report_cost.py [--steps 1000000]
"""

import argparse
import gc
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

import otel_train

GOAL_S, GOAL_MB = 2.0, 300


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


def main() -> None:
    """Record, then time ``otel-train report`` as a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = record(options.steps, Path(folder))
        command = [sys.executable, "-m", "otel_train.cli", "report", str(path)]
        times = []
        for _ in range(3):
            start = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            times.append(time.perf_counter() - start)
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    print(done.stdout)
    print(f"report on {options.steps:,} steps: {min(times):.2f} s at least of 3 (goal: at most {GOAL_S:g} s), "
          f"peak memory {peak_mb:.0f} MB (goal: at most {GOAL_MB})")  # fmt: skip


if __name__ == "__main__":
    main()
