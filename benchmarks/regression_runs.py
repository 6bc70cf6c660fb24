"""Record the runs of the regression study: the shipped examples as they are, and with 5 % more work in one phase.

    python benchmarks/regression_runs.py DIR char_gpt --rounds 21 --seconds 280
    python benchmarks/regression_runs.py DIR digits --rounds 21 --seconds 280

A round is a run that is always the ``same``, and in every other one a run with the work added in each phase: so all
kinds see the same weather. It stops after so many seconds, and goes on there when called again.

Each run is a process of its own, forked from one that has imported torch and the example but not begun to train. The
added work is a loop in Python, so many turns as took 5 % of the last 30 steps: measured in the run itself, because what
a machine does in a second changes while others use it. What it came to is written beside the run.
"""

import argparse
import contextlib
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

SHARE = 0.05
KNOWN_BY, LATELY = 6, 30
"""From which step on it is known how long one is; how many of the last ones say it."""
TURNS = 2000

KINDS = ("same", "data_wait", "forward", "optimizer")
ARGUMENTS = {
    "char_gpt": "--steps 400 --context 32 --width 48 --layers 2 --batch-size 4 --workers 0",
    "digits": "--steps 600 --batch-size 16",
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


def before(owner: Any, name: str, more: Callable[[], None], when: Callable[[Any], bool]) -> None:
    """Let a method do more work first."""
    method = getattr(owner, name)

    def slower(self: Any, *arguments: Any, **options: Any) -> Any:
        if when(self):
            more()
        return method(self, *arguments, **options)

    setattr(owner, name, slower)


def inject(kind: str, example: Any, more: MoreWork) -> None:
    """Put the work into one phase of the training."""
    import torch
    from torch.utils.data import dataloader

    if kind == "data_wait":
        before(dataloader._BaseDataLoaderIter, "__next__", more, lambda loader: torch.is_grad_enabled())
    elif kind == "optimizer":
        before(torch.optim.AdamW, "step", more, lambda optimizer: True)
    elif kind == "forward":
        model = getattr(example, "CharGPT", torch.nn.Sequential)
        before(model, "forward", more, lambda module: module.training and len(module._modules) > 2)


def run(directory: Path, name: str, kind: str, number: int) -> None:
    """Train once, in this process."""
    run_id = f"{kind}-{number:03}"
    os.environ.update(OTEL_TRAIN_DIR=str(directory / name), OTEL_TRAIN_RUN_ID=run_id)
    example, more = importlib.import_module(name), MoreWork()
    if kind != "same":
        inject(kind, example, more)
    sys.argv = [f"{name}.py", "--no-progress", *ARGUMENTS[name].split()]
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        example.main()
    if kind != "same":
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


def planned(rounds: int) -> list[tuple[str, int]]:
    """Kinds and numbers in the order in which they are run."""
    return [(kind, number) for number in range(rounds) for kind in (KINDS if number % 2 == 0 else KINDS[:1])]


def main() -> None:
    """Record what is not recorded yet, for so many seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("example", choices=ARGUMENTS)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    arguments = parser.parse_args()
    until = time.monotonic() + arguments.seconds
    sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
    importlib.import_module(arguments.example)
    for kind, number in planned(arguments.rounds):
        if (arguments.directory / arguments.example / f"{kind}-{number:03}").exists():
            continue
        if time.monotonic() > until:
            print("not done: call it again", flush=True)
            return
        started = time.monotonic()
        in_a_child(arguments.directory, arguments.example, kind, number)
        print(f"{kind}-{number:03} {time.monotonic() - started:.1f} s", flush=True)
    print("done")


if __name__ == "__main__":
    main()
