"""What the least that a Python hook can do costs in a real loop: a function around each of four calls, growing.

    python benchmarks/hook_floor.py [--rounds 60]

The loop is that of ``hook_cost.py``. Variants take turns in random order within a round; each is compared with the
loop without any in the same round. It shows how much of ``hook_cost.py``'s figure is Python's own: a step leaves cold
caches, so that each call of another function, in C too, costs many times what it does in a tight loop.
"""

import argparse
import gc
import random
import statistics
from collections.abc import Callable
from threading import get_ident
from time import perf_counter_ns
from typing import Any

import torch
from hook_cost import training
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data.dataloader import _BaseDataLoaderIter

Call = Callable[..., Any]
log: list[int] = []
"""Emptied at each batch, as a step's record is."""


def frame(call: Call) -> Call:
    """A function that calls the other, and nothing else."""

    def around(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    return around


def clocks(call: Call) -> Call:
    """And reads the clock twice, also when it raises."""

    def around(*args: Any, **kwargs: Any) -> Any:
        start = perf_counter_ns()
        try:
            return call(*args, **kwargs)
        finally:
            _ = perf_counter_ns() - start

    return around


def record(call: Call) -> Call:
    """And keeps the two."""
    keep = log.extend

    def around(*args: Any, **kwargs: Any) -> Any:
        start = perf_counter_ns()
        try:
            return call(*args, **kwargs)
        finally:
            keep((start, perf_counter_ns() - start))

    return around


def thread(call: Call) -> Call:
    """And asks whether it is on the training thread."""
    keep, training_thread = log.extend, get_ident()

    def around(*args: Any, **kwargs: Any) -> Any:
        if get_ident() != training_thread:
            return call(*args, **kwargs)
        start = perf_counter_ns()
        try:
            return call(*args, **kwargs)
        finally:
            keep((start, perf_counter_ns() - start))

    return around


def put(make: Callable[[Call], Call]) -> Callable[[], None]:
    """Around a batch, a forward, a backward and an optimizer's step (two functions, as its hooks are)."""
    take, backward, call = _BaseDataLoaderIter.__next__, torch.autograd.backward, torch.nn.Sequential.__call__
    around_take = make(take)

    def take_and_clear(iterator: Any) -> Any:
        log.clear()
        return around_take(iterator)

    _BaseDataLoaderIter.__next__ = take_and_clear
    torch.autograd.backward = make(backward)
    torch.nn.Sequential.__call__ = make(call)  # what it inherits is left alone
    nothing = make(lambda *args: None)
    hooks = [register_optimizer_step_pre_hook(nothing), register_optimizer_step_post_hook(nothing)]

    def undo() -> None:
        _BaseDataLoaderIter.__next__, torch.autograd.backward = take, backward
        del torch.nn.Sequential.__call__
        for hook in hooks:
            hook.remove()

    return undo


def main() -> None:
    """Print what each variant adds to a step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    run = training(16, 8, 200)
    variants: dict[str, Callable[[Call], Call] | None] = {
        "none": None, "a frame": frame, "and two clocks": clocks, "and a record": record, "and its thread": thread,
    }  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in variants}
    order = list(variants)
    gc.disable()
    for _ in range(options.rounds):
        gc.collect()
        run()
        random.shuffle(order)
        for name in order:
            make = variants[name]
            undo = put(make) if make is not None else lambda: None
            times[name].append(run())
            undo()
    print(f"{'µs a step':20}{'minimum':>10}{'median':>10}{'added (median)':>18}")
    for name, values in times.items():
        added = statistics.median(with_it - without for with_it, without in zip(values, times["none"], strict=True))
        print(f"{name:20}{min(values):10.1f}{statistics.median(values):10.1f}{added:18.1f}")


if __name__ == "__main__":
    main()
