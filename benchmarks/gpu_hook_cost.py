"""What zero code at level ``gpu`` costs a GPT's step, and whether it makes the host wait. Needs a GPU.

    python benchmarks/gpu_hook_cost.py [--rounds 60] [--steps 20] [--case busy --case eager --case graphs]

Three GPTs (bf16 autocast, AdamW): ``busy`` has 12 layers of width 768 and 8 x 1024 tokens, which keep the GPU busy;
``eager`` and ``graphs`` have 6 layers of width 384 and 16 x 256 tokens, which the host cannot launch fast enough, as
they are and compiled with CUDA graphs. Each is trained in rounds of hooks off, on, off. Then a profile of some steps,
in which every call is counted that waits for the GPU.
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
from otel_train.recorder.signals import signals as otel_train_signals

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from char_gpt import CharGPT, loss_of

CASES = {
    "busy": (12, 768, 8, 1024, None),
    "eager": (6, 384, 16, 256, None),
    "graphs": (6, 384, 16, 256, "reduce-overhead"),
}
"""By name: layers, width, sequences and tokens a batch, and how it is compiled."""
WARM_UP = 12
SETTLE_S = 8
"""Long enough for the governor to judge."""
GOAL = 0.01


def training(case: str) -> Callable[[int], float]:
    """A training; called, it takes so many steps and returns ms a step."""
    layers, width, batch, length, mode = CASES[case]
    torch.manual_seed(0)
    model = CharGPT(length, width, layers, heads=width // 64).cuda()
    trained = model if mode is None else torch.compile(model, mode=mode)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    text = torch.randint(0, 96, (batch, length), device="cuda")

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


def host_cost(steps: int = 500) -> float:
    """µs a step of the training thread for what hooks tell in a usual step, with nothing between."""
    signals, optimizer = otel_train_signals, object()
    start = time.perf_counter_ns()
    for _ in range(steps):
        asked = signals.batch_asked()
        signals.batch_came(signals, asked, signals.clock(), 1, 1, 0)
        signals.forward_began()
        signals.forward_ended()
        signals.backward_began()
        signals.backward_ended()
        signals.optimizer_began(optimizer)
        signals.optimizer_ended(optimizer)
    cost = (time.perf_counter_ns() - start) / steps / 1e3
    torch.cuda.synchronize()
    return cost


def main() -> None:
    """Print each of off, on and off again, and the calls that wait."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--case", action="append", choices=CASES)
    options = parser.parse_args()
    otel_train.init(dir=tempfile.mkdtemp(), overhead_budget=0.01)
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {options.rounds} rounds of {options.steps} steps"
    )
    for title in options.case or CASES:
        run = training(title)
        instrumentation.instrument()
        ended = time.monotonic() + SETTLE_S
        while time.monotonic() < ended:
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
            levels, each = session.levels, session.levels.timed_every
            print(f"level {levels.current}, one step in {each} timed, an event costs {levels.mark_us:.1f} µs")
    instrumentation.instrument()
    print(f"\nthe host's part alone, a step without a model: {min(host_cost() for _ in range(20)):.1f} µs")


if __name__ == "__main__":
    main()
