"""GPU time of phases, as otel_train has it, beside what Kineto says of the same steps. Needs a GPU.

    python benchmarks/gpu_phase_times.py [--steps 20]

Two GPTs train with hooks and nothing else (bf16 autocast, AdamW): one of 12 layers and width 768 on 16 x 1024 tokens,
which keeps the GPU busy, and one of 6 layers and width 384 on 16 x 256, which the host cannot launch fast enough while
it is profiled. For some steps torch.profiler runs along. A phase of Kineto's is from the first to the last of the
kernels and copies that were launched while the phase lasted on the host, on whatever thread. On a GPU that idles,
otel_train's is longer by the time from the phase's edge to its first kernel.
"""

import argparse
import statistics
import sys
from bisect import bisect_right
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from otel_train import instrumentation
from otel_train.recorder.signals import signals
from otel_train.testing import record

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from char_gpt import CharGPT, loss_of

PHASES = ("forward", "backward", "optimizer")
MODELS = {"12 layers, 16 x 1024 tokens": (12, 768, 1024), "6 layers, 16 x 256 tokens": (6, 384, 256)}


def ranges() -> None:
    """Mark each phase in the profile where the hooks have its edges."""
    for name in PHASES:
        began, ended = getattr(signals, f"{name}_began"), getattr(signals, f"{name}_ended")
        held: list[record_function] = []

        def marked_began(*args: object, began=began, name=name, held=held) -> object:
            told = began(*args)
            held.append(record_function(f"phase {name}"))
            held[-1].__enter__()
            return told

        def marked_ended(*args: object, ended=ended, held=held) -> None:
            held.pop().__exit__(None, None, None)
            ended(*args)

        setattr(signals, f"{name}_began", marked_began)
        setattr(signals, f"{name}_ended", marked_ended)


def kineto(profiler: profile) -> dict[str, list[float]]:
    """For each phase, in order, ms from its first kernel's start to its last one's end."""
    events = profiler.profiler.kineto_results.events()
    spans = sorted(
        (event.start_ns(), event.end_ns(), event.name().removeprefix("phase "))
        for event in events
        if event.name().startswith("phase ") and "CPU" in str(event.device_type())
    )
    launches = {
        event.correlation_id(): event.start_ns()
        for event in events
        if event.name().startswith("cuda") and "CPU" in str(event.device_type())
    }
    found: dict[int, list[int]] = {}
    starts = [start for start, _, _ in spans]
    for event in events:
        if "CUDA" not in str(event.device_type()) or event.name().startswith("phase "):
            continue
        launched = launches.get(event.correlation_id())
        if launched is None:
            continue
        index = bisect_right(starts, launched) - 1
        if index >= 0 and launched <= spans[index][1]:
            edges = found.setdefault(index, [event.start_ns(), event.end_ns()])
            edges[:] = min(edges[0], event.start_ns()), max(edges[1], event.end_ns())
    times: dict[str, list[float]] = {name: [] for name in PHASES}
    for index, (first, last) in sorted(found.items()):
        times[spans[index][2]].append((last - first) / 1e6)
    return times


def main() -> None:
    """Print both, phase by phase."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}: median ms of {options.steps} steps")
    for name, size in MODELS.items():
        compare(name, *size, options.steps)


def compare(title: str, layers: int, width: int, length: int, count: int) -> None:
    """Train one model and print its rows."""
    torch.manual_seed(0)
    model = CharGPT(length, width, layers, heads=12).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    text = torch.randint(0, 96, (16, length), device="cuda")

    def steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            with torch.autocast("cuda", dtype=torch.bfloat16):
                loss = loss_of(model, text, text)
            loss.backward()
            optimizer.step()
        torch.cuda.synchronize()

    instrumentation.instrument()
    with record(overhead_budget="off") as run:
        steps(40)
        ranges()
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            steps(count)
        steps(2)
    instrumentation.uninstrument()
    theirs = kineto(profiler)
    ours = {known.step: known.phases for known in run.gpu}
    print(f"{title:32}{'otel_train':>12}{'Kineto':>12}{'difference':>12}   goal: 2 % or 0.05 ms")
    last = max(ours)
    profiled = [ours[step] for step in range(last - count - 1, last - 1) if step in ours]
    for name in PHASES:
        mine = statistics.median(phases[name] * 1e3 for phases in profiled if name in phases)
        kinetos = statistics.median(theirs[name])
        print(f"{name:32}{mine:12.3f}{kinetos:12.3f}{mine - kinetos:12.3f}   {(mine / kinetos - 1):+.1%}")


if __name__ == "__main__":
    main()
