"""What ``log()`` of a CUDA loss costs the training thread, beside ``.item()`` on the same step. Needs a GPU.

python benchmarks/gpu_log_cost.py
"""

import statistics
import tempfile
import time
from collections.abc import Callable

import torch

import otel_train

STEPS, ROUNDS = 200, 15


def main() -> None:
    """Interleaved rounds of the same step: nothing, ``log(loss)``, ``loss.item()``."""
    model = torch.nn.Sequential(*[torch.nn.Linear(2048, 2048) for _ in range(16)]).cuda()
    inputs = torch.randn(512, 2048, device="cuda")

    def step() -> torch.Tensor:
        with otel_train.trace_step(samples=512), otel_train.trace_phase("forward"):
            return model(inputs).square().mean()

    ways: dict[str, Callable[[torch.Tensor], object]] = {
        "nothing": lambda loss: None,
        "log(loss=loss)": lambda loss: otel_train.log(loss=loss),
        "loss.item()": lambda loss: loss.item(),
        "nothing again": lambda loss: None,
    }
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder, otel_train.init(dir=folder):
        host: dict[str, list[float]] = {way: [] for way in ways}
        whole: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(ROUNDS):
            for way, act in ways.items():
                torch.cuda.synchronize()
                spent, began = 0, time.perf_counter_ns()
                for _ in range(STEPS):
                    loss = step()
                    before = time.perf_counter_ns()
                    act(loss)
                    spent += time.perf_counter_ns() - before
                torch.cuda.synchronize()
                host[way].append(spent / STEPS / 1000)
                whole[way].append((time.perf_counter_ns() - began) / STEPS / 1000)
    print(f"{'':16}{'host µs in the call':>22}{'whole step µs':>16}   (medians of {ROUNDS} rounds of {STEPS} steps)")
    for way in ways:
        print(f"{way:16}{statistics.median(host[way]):22.1f}{statistics.median(whole[way]):16.1f}")


if __name__ == "__main__":
    main()
