"""Record the runs of the regression study: the shipped examples as they are, and with 5 % more work in one phase.

    python benchmarks/regression_runs.py DIR char_gpt --rounds 21 --seconds 280
    python benchmarks/regression_runs.py DIR digits --rounds 21 --seconds 280
    python benchmarks/regression_runs.py DIR char_gpt_gpu --rounds 21 --seconds 280

A round is a run that is always the ``same``, and in every other one a run with the work added in each phase: so all
kinds see the same weather. It stops after so many seconds, and goes on there when called again.

Each run is a process of its own, forked from one that has imported torch and the example but not begun to train. The
added work is a loop in Python, so many turns as took 5 % of the last 30 steps: measured in the run itself, because what
a machine does in a second changes while others use it. On a GPU it is a kernel that spins for so long, in a model that
keeps the GPU busy. What it came to is written beside the run.
"""

import argparse
import contextlib
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

SHARE = 0.05
KNOWN_BY, LATELY = 6, 30
"""From which step on it is known how long one is; how many of the last ones say it."""
TURNS = 2000

SAME = "same"


@dataclass(frozen=True)
class Case:
    """An example, how it is run, and the phases in which some of its runs do more."""

    example: str
    arguments: str
    phases: tuple[str, ...] = ("data_wait", "forward", "optimizer")
    on_gpu: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of runs."""
        return SAME, *self.phases


CASES = {
    "char_gpt": Case(
        "char_gpt", "--device cpu --steps 400 --context 32 --width 48 --layers 2 --batch-size 4 --workers 0"
    ),
    "digits": Case("digits", "--steps 600 --batch-size 16"),
    "char_gpt_gpu": Case(
        "char_gpt",
        "--device cuda --steps 300 --context 256 --width 384 --layers 6 --batch-size 32 --workers 2 "
        "--evaluate-every 1000",
        ("forward", "backward", "optimizer"),
        on_gpu=True,
    ),
}


class MoreWork:
    """Called once a step: works for ``SHARE`` of what its steps took lately without it."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.pace_s: list[float] = []
        self.added_s: list[float] = []

    def __call__(self) -> None:
        self.began.append(time.perf_counter())
        turns = self.turns()
        work(turns)
        self.added_s.append(time.perf_counter() - self.began[-1])
        self.pace_s.append(self.added_s[-1] / turns)

    def turns(self) -> int:
        """How many turns are 5 % of a step: by the medians of the last steps."""
        if len(self.began) < KNOWN_BY:
            return TURNS
        return round(SHARE * statistics.median(self.steps_s()[-LATELY:]) / statistics.median(self.pace_s[-LATELY:]))

    def steps_s(self) -> list[float]:
        """From call to call, without what was added."""
        return [end - start - added for (start, end), added in zip(pairwise(self.began), self.added_s, strict=False)]

    def told(self) -> dict[str, float]:
        """The median step without what was added, and the median of that, s."""
        return {"step_s": statistics.median(self.steps_s()), "added_s": statistics.median(self.added_s)}


def work(turns: int) -> None:
    """Keep a core busy."""
    for _ in range(turns):
        pass


class MoreGpuWork(MoreWork):
    """The GPU's work: so many cycles in a kernel that does nothing else. The host launches it, and goes on."""

    CYCLES = 20_000_000

    def __init__(self) -> None:
        super().__init__()
        self.cycles_a_s = 0.0

    def __call__(self) -> None:
        import torch

        if not self.cycles_a_s:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            torch.cuda._sleep(self.CYCLES)
            end.record()
            torch.cuda.synchronize()
            self.cycles_a_s = self.CYCLES / (start.elapsed_time(end) / 1e3)
        self.began.append(time.perf_counter())
        steps = self.steps_s()[-LATELY:]
        self.added_s.append(SHARE * statistics.median(steps) if len(steps) > KNOWN_BY else 0.0)
        if self.added_s[-1]:
            torch.cuda._sleep(round(self.added_s[-1] * self.cycles_a_s))


def before(owner: Any, name: str, more: Callable[[Any], object], when: Callable[[Any], bool]) -> None:
    """Let a method do more work first; it is told what the method is called on."""
    method = getattr(owner, name)

    def slower(self: Any, *arguments: Any, **options: Any) -> Any:
        if when(self):
            more(self)
        return method(self, *arguments, **options)

    setattr(owner, name, slower)


def inject(kind: str, example: Any, more: MoreWork) -> None:
    """Put the work into one phase of the training."""
    import torch
    from torch.utils.data import dataloader

    if kind == "data_wait":
        before(dataloader._BaseDataLoaderIter, "__next__", lambda _: more(), lambda loader: torch.is_grad_enabled())
    elif kind == "optimizer":
        before(torch.optim.AdamW, "step", lambda _: more(), lambda _: True)
    elif kind == "backward":
        before(torch.Tensor, "backward", lambda loss: loss.register_hook(lambda _: more()), lambda _: True)
    elif kind == "forward":
        model = getattr(example, "CharGPT", torch.nn.Sequential)
        before(model, "forward", lambda _: more(), lambda module: module.training and len(module._modules) > 2)


def run(directory: Path, name: str, kind: str, number: int) -> None:
    """Train once, in this process."""
    run_id = f"{kind}-{number:03}"
    os.environ.update(OTEL_TRAIN_DIR=str(directory / name), OTEL_TRAIN_RUN_ID=run_id)
    case = CASES[name]
    example, more = importlib.import_module(case.example), MoreGpuWork() if case.on_gpu else MoreWork()
    if kind != SAME:
        inject(kind, example, more)
    sys.argv = [f"{case.example}.py", "--no-progress", *case.arguments.split()]
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        example.main()
    if kind != SAME:
        (directory / name / f"{run_id}.json").write_text(json.dumps(more.told()))


def in_a_child(*what: Any) -> None:
    """Run it in a fork. Raises ``SystemExit`` when it fails."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run(*what)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"{what}: failed")


def planned(kinds: Sequence[str], rounds: range) -> list[tuple[str, int]]:
    """Kinds and numbers in the order in which they are run."""
    return [(kind, number) for number in rounds for kind in (kinds if number % 2 == 0 else (SAME,))]


def main() -> None:
    """Record what is not recorded yet, for so many seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--first", type=int, default=0, help="number of the first round: for several at a time")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    arguments = parser.parse_args()
    until = time.monotonic() + arguments.seconds
    sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
    case = CASES[arguments.case]
    importlib.import_module(case.example)
    for kind, number in planned(case.kinds, range(arguments.first, arguments.first + arguments.rounds)):
        if (arguments.directory / arguments.case / f"{kind}-{number:03}").exists():
            continue
        if time.monotonic() > until:
            print("not done: call it again", flush=True)
            return
        started = time.monotonic()
        in_a_child(arguments.directory, arguments.case, kind, number)
        print(f"{kind}-{number:03} {time.monotonic() - started:.1f} s", flush=True)
    print("done")


if __name__ == "__main__":
    main()
