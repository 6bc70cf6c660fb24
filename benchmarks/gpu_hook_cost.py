"""What zero code at level ``gpu`` costs a GPT's step, and whether it makes the host wait. Needs a GPU.

    python benchmarks/gpu_hook_cost.py [--rounds 15] [--steps 40]

A GPT (6 layers, width 384, 16 x 256 tokens, bf16 autocast, AdamW), eager and compiled with CUDA graphs, in one
process: rounds of hooks off, on, off. Then a profile of some steps each, in which every call is counted that waits for
the GPU.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

import otel_train
from otel_train import active, instrumentation

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from char_gpt import CharGPT, loss_of

WARM_UP = 30
GOAL = 0.01


def training(mode: str | None) -> Callable[[int], float]:
    """A training; called, it takes so many steps and returns ms a step."""
    torch.manual_seed(0)
    model = CharGPT(256, 384, 6).cuda()
    trained = model if mode is None else torch.compile(model, mode=mode)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    text = torch.randint(0, 96, (16, 256), device="cuda")

    def run(steps: int) -> float:
        torch.cuda.synchronize()
        start = time.perf_counter_ns()
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast("cuda", dtype=torch.bfloat16):
                loss = loss_of(trained, text, text)
            loss.backward()
            optimizer.step()
        torch.cuda.synchronize()
        return (time.perf_counter_ns() - start) / steps / 1e6

    return run


def waits(run: Callable[[int], float]) -> Counter[str]:
    """Calls of the CUDA runtime that wait for the GPU, in a profile of ten steps."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        run(10)
    return Counter(event.name for event in profiler.events() if "Synchronize" in event.name)


def main() -> None:
    """Print each of off, on and off again, and the calls that wait."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    otel_train.init(dir=tempfile.mkdtemp(), overhead_budget="off")
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {options.rounds} rounds of {options.steps} steps"
    )
    for title, mode in (("eager", None), ("reduce-overhead", "reduce-overhead")):
        run = training(mode)
        run(WARM_UP)
        times: dict[str, list[float]] = {"off": [], "on": [], "off again": []}
        for _ in range(options.rounds):
            for name, values in times.items():
                if name == "on":
                    instrumentation.instrument()
                    run(WARM_UP)
                values.append(run(options.steps))
                instrumentation.uninstrument()
        print(f"\n{title + ', ms a step':28}{'minimum':>10}{'median':>10}")
        for name, values in times.items():
            print(f"{name:28}{min(values):10.3f}{statistics.median(values):10.3f}")
        off = [(before + after) / 2 for before, after in zip(times["off"], times["off again"], strict=True)]
        added = statistics.median(on - without for on, without in zip(times["on"], off, strict=True))
        print(f"{'added':28}{'':10}{added:10.3f}   {added / statistics.median(off):+.2%} (goal: at most {GOAL:.0%})")
        without = waits(run)
        instrumentation.instrument()
        run(WARM_UP)
        print(f"calls that wait for the GPU, 10 steps: off {dict(without)}, on {dict(waits(run))}")
        instrumentation.uninstrument()
        session = active.session
        if session is not None:
            print(f"level {session.levels.current}, an event costs {session.levels.mark_us:.1f} µs")


if __name__ == "__main__":
    main()
