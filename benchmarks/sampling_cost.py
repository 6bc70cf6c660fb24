"""What sampling resources costs: each source, all of them as a part of one core, and what a training step feels of it.

    python benchmarks/sampling_cost.py [--rounds 20] [--workers 4]

The cost of a source is CPU time of the thread that reads it, the median of many reads, with so many idle child
processes beside it as a loader would have. A step is a small CPU training's, in rounds of without, with and without the
sampling thread in one process, a sample every second.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from hook_cost import training

from otel_train.identity import Identity
from otel_train.runlog.resources import ResourceWriter
from otel_train.runlog.storage import Memory
from otel_train.samplers.sampler import SamplerUnavailable
from otel_train.sampling import Sampling, sources

READS = 60
GOALS = {5.0: 0.001, 1.0: 0.005}
"""Part of one core, by the interval in s."""


def cost_s(act: Callable[[], object]) -> float:
    """CPU time of this thread for a call, with caches as they are after something else: the median of many."""
    cold, other = bytearray(1 << 20), bytes(1 << 20)
    times = []
    for _ in range(READS):
        cold[:] = other
        start = time.thread_time_ns()
        act()
        times.append(time.thread_time_ns() - start)
    return statistics.median(times) / 1e9


def sources_cost() -> dict[float, float]:
    """Print each source's cost; returns the share of a core by interval."""
    identity, storage = Identity("benchmark", 0, None, 1), Memory()
    writer, row, each = ResourceWriter(storage, 1 << 30), {}, {}
    for source in sources(identity, lambda: [Path.cwd()]):
        try:
            sampler = source.make()
        except SamplerUnavailable as reason:
            print(f"{source.name:24}   not here: {reason}")
            continue
        row |= {**sampler.sample(), **sampler.sample()}
        each[source.name] = cost_s(sampler.sample), source.every_s
        print(f"{source.name:24}{each[source.name][0] * 1e6:10.0f} µs")
    writing = cost_s(lambda: writer.write(time.time(), row))
    print(f"{'a row of ' + str(len(row)) + ' columns':24}{writing * 1e6:10.0f} µs")
    return {
        interval: sum(cost / max(every, interval) for cost, every in each.values()) + writing / interval
        for interval in GOALS
    }


def step_cost(rounds: int) -> None:
    """Print what a step takes without and with the thread."""
    run = training(64, 32, 2000)
    run()
    times: dict[str, list[float]] = {"without": [], "with": [], "without again": []}
    for _ in range(rounds):
        for name, kept in times.items():
            sampling = None
            if name == "with":
                writer = ResourceWriter(Memory(), 1 << 30)
                sampling = Sampling(
                    sources(Identity("benchmark", 0, None, 1), lambda: [Path.cwd()]), 1.0,
                    lambda row, writer=writer: writer.write(time.time(), row),
                )  # fmt: skip
                sampling.start()
            kept.append(run())
            if sampling is not None:
                sampling.stop()
    print(f"\nPython {sys.version.split()[0]}, torch {torch.__version__}, a sample a second, {rounds} rounds")
    print(f"{'µs a step':20}{'minimum':>10}{'median':>10}")
    for name, kept in times.items():
        print(f"{name:20}{min(kept):10.2f}{statistics.median(kept):10.2f}")
    off = [(before + after) / 2 for before, after in zip(times["without"], times["without again"], strict=True)]
    added = [with_it / without - 1 for with_it, without in zip(times["with"], off, strict=True)]
    noise = [after / before - 1 for before, after in zip(times["without"], times["without again"], strict=True)]
    print(f"added {statistics.median(added):+.2%} (noise: without again over without {statistics.median(noise):+.2%})")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()
    workers = [
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(options.workers)
    ]
    try:
        for interval, share in sources_cost().items():
            print(f"every {interval:g} s: {share:.3%} of one core   goal: at most {GOALS[interval]:.1%}")
    finally:
        for worker in workers:
            worker.communicate(b"\n")
    step_cost(options.rounds)


if __name__ == "__main__":
    main()
