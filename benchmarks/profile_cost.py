"""What profiling costs a training, by torch's profiler and by what otel_train does with it.

    python benchmarks/profile_cost.py [--windows 1000] [--rounds 6] [--steps 30000] [--part NAME] [--bare]

1. ``stop``: a step of a GPT of 8 layers, and what the training thread pays from its end on (``stop()``, and what is
   ours on top), the steps after it, and how long the event takes to come.
2. ``share``: one long run of a small GPT, ``profile_every="auto"``, the default budget: what all its profiled steps
   and the hundred after each took more than the steps around them, of the whole run; and the same of as many places
   where nothing was profiled, which is the noise.
3. ``interleaved``: rounds of it, profiles off, on, off. Its noise is that of whole rounds, larger than the cost.
4. ``windows``: so many one after the other: memory, and the step's time before the process's first window and after the
   last. ``--bare``: only this, with torch's profiler alone, which keeps some memory itself, and on a GPU slows
   launches from its first window on.

On a GPU if there is one. Figures of one machine differ by its other work: compare inside one run.
"""

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

import otel_train
from otel_train import active
from otel_train.names import PROFILE, PROFILE_OPERATORS
from otel_train.runlog.events import Event
from otel_train.runlog.ranklog import RankLog

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from char_gpt import CharGPT, loss_of

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def training(layers: int, width: int, batch: int, length: int) -> Callable[[], None]:
    """A training; called, it takes a step."""
    torch.manual_seed(0)
    model = CharGPT(length, width, layers).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    text = torch.randint(0, 96, (batch, length), device=DEVICE)

    def step() -> None:
        with otel_train.trace_step(samples=batch):
            optimizer.zero_grad()
            loss_of(model, text, text).backward()
            optimizer.step()

    return step


def digested() -> None:
    """Wait for the profile that is being digested."""
    thread = active.session.profiling._digesting
    if thread is not None:
        thread.join()


def one_step() -> None:
    """Print what the end of a profiled step costs the training thread, and what the steps after it feel of the rest."""
    step = training(8, 32, 2, 16)
    for _ in range(30):
        step()
    with otel_train.init(dir=tempfile.mkdtemp(), overhead_budget="off"):
        profiling = active.session.profiling
        for window in range(6):
            usual = statistics.median(timed(step) for _ in range(30))
            before, spent = len(profiles()), profiling.training_ns
            profiling._ask(0, 1, "requested")
            step()  # at its end the profiler starts
            profiled = timed(step)
            stopping, after = (profiling.training_ns - spent) / 1e6, []
            while len(profiles()) == before:
                after.append(timed(step))
            digested()
            if window:  # the first makes ready what the others find
                print(f"  step {profiled:.1f} ms, of which start and stop {stopping:.1f}; the {len(after)} steps "
                      f"({sum(after):.0f} ms) until its event took {sum(after) - len(after) * usual:+.1f} ms more than "
                      f"usual ({usual:.1f} each)")  # fmt: skip
        last = profiles()[-1]
    print(
        f"  a step has {sum(row[1] for row in last.attributes[PROFILE_OPERATORS])} operators and calls of the runtime"
    )


def timed(step: Callable[[], None]) -> float:
    """ms."""
    begin = time.perf_counter_ns()
    step()
    return (time.perf_counter_ns() - begin) / 1e6


def profiles() -> list[Event]:
    """The run's, so far."""
    return [event for event, _ in RankLog(active.session.store).events() if event.kind == PROFILE]


def share(steps: int) -> None:
    """Print which part of one run its profiles took, and the noise of that figure."""
    step = training(4, 64, 8, 64)
    with otel_train.init(dir=tempfile.mkdtemp(), profile_every="auto", profile_on_alert=False):
        profiling, windows_at, times = active.session.profiling, [], []
        for number in range(steps):
            times.append(timed(step))
            if profiling._window is not None:  # at the end of this step the profiler was started
                windows_at.append(number)
        every = profiling._schedule.every
    if not windows_at:
        raise SystemExit(
            f"no step of {steps} was profiled: the budget allows the first after some 40 s. Take more --steps"
        )
    print(f"  {steps} steps of {statistics.median(times):.2f} ms; profiled: {len(windows_at)}, the first was step "
          f"{windows_at[0]}; one in {every} at the end")  # fmt: skip
    felt = {number for start in windows_at for number in range(start, start + FELT)}
    between = [start + (FELT + AROUND) * 2 for start in windows_at]
    for name, places in (("profiles", windows_at), ("noise", [start for start in between if start not in felt])):
        took = [excess_ms(times, start, felt) for start in places if start + FELT <= steps]
        print(f"  {name:9} {sum(took) / sum(times):+.2%} of the run; {len(took)} places, ms: median "
              f"{statistics.median(took):.0f}, {min(took):.0f} to {max(took):.0f}")  # fmt: skip
    print("  goal: profiles take at most 1% of the run")


FELT, AROUND = 100, 200
"""Steps that may feel a profile, and steps on each side of them that say what is usual."""


def excess_ms(times: list[float], start: int, felt: set[int]) -> float:
    """What the steps from there on that may feel a profile took more than as many of those around that feel none."""
    own = range(start, start + FELT)
    around = range(max(start - AROUND, 0), min(start + FELT + AROUND, len(times)))
    usual = [times[number] for number in around if number not in felt and number not in own]
    return sum(times[number] for number in own) - FELT * statistics.fmean(usual)


def interleaved(rounds: int) -> None:
    """Print ms a step, with profiles and without."""
    step = training(4, 64, 8, 64)
    for _ in range(50):
        step()
    times: dict[str, list[float]] = {"off": [], "on": [], "off again": []}
    every = []
    for _ in range(rounds):
        for name, kept in times.items():
            setting = "auto" if name == "on" else "off"
            with otel_train.init(dir=tempfile.mkdtemp(), profile_every=setting, profile_on_alert=False) as _:
                begin = time.perf_counter_ns()
                for _ in range(STEPS):
                    step()
                kept.append((time.perf_counter_ns() - begin) / STEPS / 1e6)
                if name == "on":
                    every.append(active.session.profiling._schedule.every)
            gc.collect()
    for name, kept in times.items():
        print(f"  {name:10} minimum {min(kept):8.3f}   median {statistics.median(kept):8.3f} ms a step")
    off = [(before + after) / 2 for before, after in zip(times["off"], times["off again"], strict=True)]
    added = [on / without - 1 for on, without in zip(times["on"], off, strict=True)]
    noise = [after / before - 1 for before, after in zip(times["off"], times["off again"], strict=True)]
    print(
        f"  {rounds} rounds of {STEPS} steps: added {statistics.median(added):+.2%} (goal: at most 1%; off again over "
        f"off {statistics.median(noise):+.2%}); one step in {statistics.median(every):.0f} was profiled at the end"
    )


STEPS = 1000


def windows(count: int) -> None:
    """Print the memory of the process as windows go by, and the step's time before and after."""
    step, process = training(2, 32, 4, 32), psutil.Process()
    before = medians(step)
    with otel_train.init(dir=tempfile.mkdtemp(), profile_every=1, overhead_budget="off"):
        taken = 0
        for number in range(count + 21):
            step()
            digested()
            taken = number - 20
            if taken > 0 and taken % max(count // 10, 1) == 0:
                print(f"  after {taken:5} windows {process.memory_full_info().uss / 2**20:8.1f} MiB", flush=True)
    print_step(before, medians(step))


def bare(count: int) -> None:
    """Print the memory of the process under torch's profiler alone."""
    step, process = training(2, 32, 4, 32), psutil.Process()
    before = medians(step)
    for number in range(1, count + 1):
        profiler = torch.profiler.profile()
        profiler.start()
        step()
        profiler.stop()
        if number % max(count // 10, 1) == 0:
            print(f"  after {number:5} windows {process.memory_full_info().uss / 2**20:8.1f} MiB", flush=True)
    print_step(before, medians(step))


def medians(step: Callable[[], None]) -> list[float]:
    """ms a step, of rounds of 300 steps."""
    return [statistics.median(timed(step) for _ in range(300)) for _ in range(5)]


def print_step(before: list[float], after: list[float]) -> None:
    """The least and the middle round."""
    print(f"  a step before {min(before):.3f} ms (median {statistics.median(before):.3f}), after {min(after):.3f} "
          f"({statistics.median(after):.3f})")  # fmt: skip


def main() -> None:
    """Print the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=30000)
    parser.add_argument("--bare", action="store_true")
    parser.add_argument(
        "--part", choices=("windows", "stop", "share", "interleaved"), action="append", help="Default: all."
    )
    options = parser.parse_args()
    print(f"torch {torch.__version__} on {torch.cuda.get_device_name() if DEVICE == 'cuda' else 'the CPU'}")
    parts = {
        "windows": lambda: (bare if options.bare else windows)(options.windows),  # first: nothing was profiled before
        "stop": one_step,
        "share": lambda: share(options.steps),
        "interleaved": lambda: interleaved(options.rounds),
    }
    for name, part in parts.items():
        if name in (["windows"] if options.bare else options.part or parts):
            print(f"{name}:")
            part()


if __name__ == "__main__":
    main()
