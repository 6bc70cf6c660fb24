"""What zero code costs the training thread: a real loop of DataLoader, forward, backward and SGD, hooks on and off.

    python benchmarks/hook_cost.py [--rounds 60] [--width 16] [--batch 8] [--level phases]

The hooks are taken away and put back in one process, in rounds of off, on, off: what they cost is the time of the
middle less the mean of the two around it. Threads of otel_train (the keeper, no export) run all the while, off too.
``--width 256 --batch 128`` makes a step of about 0.8 ms.
"""

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import otel_train
from otel_train import instrumentation

GOAL_US, GOAL_SHARE = 6.0, 0.01
WARM_UP = 12
"""Steps before each timing: the hooks look for the models in the first ones."""


def training(width: int, batch: int, steps: int) -> Callable[[], float]:
    """A loop of so many steps; returns what times one, in µs a step."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    count = batch * (steps + WARM_UP)
    loader = DataLoader(TensorDataset(torch.randn(count, width), torch.randn(count, 1)), batch_size=batch)

    def run() -> float:
        start = 0
        for number, (inputs, targets) in enumerate(loader):
            if number == WARM_UP:
                start = time.perf_counter_ns()
            optimizer.zero_grad()
            nn.functional.mse_loss(model(inputs), targets).backward()
            optimizer.step()
        return (time.perf_counter_ns() - start) / steps / 1000

    return run


def main() -> None:
    """Print each of off, on and off again, and the difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--level", default="phases")
    options = parser.parse_args()
    run = training(options.width, options.batch, options.steps)
    otel_train.init(dir=tempfile.mkdtemp(), level=options.level)
    run()
    times: dict[str, list[float]] = {"off": [], "on": [], "off again": []}
    gc.disable()
    for _ in range(options.rounds):
        gc.collect()
        for name in times:
            if name == "on":
                instrumentation.instrument()
            times[name].append(run())
            instrumentation.uninstrument()
    print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, {options.rounds} rounds of {options.steps}")
    print(f"{'µs a step':20}{'minimum':>10}{'median':>10}")
    for name, values in times.items():
        print(f"{name:20}{min(values):10.1f}{statistics.median(values):10.1f}")
    off = [(before + after) / 2 for before, after in zip(times["off"], times["off again"], strict=True)]
    added = [on - without for on, without in zip(times["on"], off, strict=True)]
    noise = [after - before for before, after in zip(times["off"], times["off again"], strict=True)]
    fastest = min(times["on"]) - min(*times["off"], *times["off again"])
    share = statistics.median(added) / statistics.median(off)
    print(f"{'added':20}{fastest:10.1f}{statistics.median(added):10.1f}   goal: at most {GOAL_US:g} µs, "
          f"or {GOAL_SHARE:.0%} of the step: {share:.2%}")  # fmt: skip
    print(f"{'off again less off':20}{'':10}{statistics.median(noise):10.1f}   the noise of the machine")


if __name__ == "__main__":
    main()
