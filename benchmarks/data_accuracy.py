"""Waits for data, and what workers take, as recorded, beside the sleeps that were injected.

    python benchmarks/data_accuracy.py [--batches 40]

A dataset that sleeps 4 ms a sample, four samples a batch, and a collate_fn that sleeps 10 ms: 26 ms a batch. A sleep
lasts somewhat longer than it was told to, so each is measured by a stopwatch around it, and that is what is compared.
"""

import argparse
import statistics
import time

import torch
from torch.utils.data import DataLoader, Dataset

from otel_train import instrumentation
from otel_train.recorder.signals import signals
from otel_train.testing import record

SAMPLE_S, COLLATE_S, SIZE = 0.004, 0.010, 4


class Slow(Dataset[torch.Tensor]):
    """Samples that hold what their sleep took."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> torch.Tensor:
        start = time.perf_counter()
        time.sleep(SAMPLE_S)
        return torch.tensor(time.perf_counter() - start, dtype=torch.float64)


def collate(samples: list[torch.Tensor]) -> torch.Tensor:
    """A batch that holds what its samples' sleeps took, and its own."""
    start = time.perf_counter()
    time.sleep(COLLATE_S)
    slept = torch.stack(samples).sum()
    return torch.stack([slept, torch.tensor(time.perf_counter() - start, dtype=torch.float64)])


def measure(workers: int, method: str | None, batches: int) -> tuple[dict[str, float], dict[str, float]]:
    """Injected and recorded seconds a batch."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    loader = DataLoader(
        Slow(batches * SIZE), SIZE, collate_fn=collate, num_workers=workers, multiprocessing_context=method
    )
    slept, waits, start = [], [], 0.0
    with record(overhead_budget="off") as run:
        iterator = iter(loader)
        for _ in range(batches):
            start = time.perf_counter()
            batch = next(iterator)
            waits.append(time.perf_counter() - start)
            slept.append(batch.tolist())
            (parameter * 2).sum().backward()
            optimizer.step()
        for report in signals.reports:
            report()
    injected = {
        "wait": statistics.mean(waits[1:]),
        "dataset": statistics.mean(sample for sample, _ in slept),
        "collate": statistics.mean(collated for _, collated in slept),
    }
    told = [event.attributes for event in run.events if event.kind == "data_loader"]
    recorded = {
        "wait": statistics.mean(step.phase("data_wait").duration_s for step in run.steps[1:]),
        "dataset": sum(each["dl.data_loader.dataset.time"] for each in told) / batches,
        "collate": sum(each["dl.data_loader.collate.time"] for each in told) / batches,
    }
    return injected, recorded


def main() -> None:
    """Print each beside the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=40)
    options = parser.parse_args()
    instrumentation.instrument()
    print(f"{'ms a batch':28}{'injected':>10}{'recorded':>10}{'off by':>10}   goal: 2 % or 1 ms")
    for workers, method in ((0, None), (2, "fork"), (2, "spawn"), (2, "forkserver")):
        injected, recorded = measure(workers, method, options.batches)
        for name, seconds in injected.items():
            off = recorded[name] - seconds
            met = "" if abs(off) < max(0.02 * seconds, 0.001) else "   MISSED"
            title = f"{name}, {workers} workers {method or ''}"
            print(f"{title:28}{seconds * 1e3:10.3f}{recorded[name] * 1e3:10.3f}{off * 1e3:+10.3f}{met}")
    instrumentation.uninstrument()


if __name__ == "__main__":
    main()
