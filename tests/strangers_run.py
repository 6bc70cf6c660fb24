"""Runs a training script nobody has marked, as its author would, with zero code or without; reads what it recorded."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from otel_train.runlog.runs import runs_in
from otel_train.testing import Recording

STRANGERS = Path(__file__).parent / "strangers"

GLOO_AT_EXIT = "terminate called without an active exception"
"""What a rank on gloo dies of now and then at its exit, its training done and otel_train in it or not: a worker thread
of gloo's asks for the interpreter's lock while the interpreter ends (https://github.com/pytorch/pytorch/pull/179291)."""

ATTEMPTS = 3
"""Of a script that dies so: seldom enough that two in a row are something else's doing."""


@dataclass(frozen=True)
class Trained:
    """What a training printed, and what its ranks recorded."""

    output: list[str]
    ranks: list[Recording]
    wall_s: float

    @property
    def rank(self) -> Recording:
        """The only rank's."""
        (rank,) = self.ranks
        return rank

    @property
    def training(self):
        """The rank's steps of training."""
        return [step for step in self.rank.steps if not step.evaluation]

    def events(self, kind):
        """The rank's events of a kind."""
        return [event for event in self.rank.events if event.kind == kind]


def train(folder: Path, script: str, *arguments: str, zero_code: bool = True, ranks: int = 1) -> Trained:
    """Run a script of ``strangers/`` in a process of its own; its runs go to ``folder``. Fails if it does.

    ``ranks`` are torchrun's; a script may start its ranks itself.
    """
    runs = folder / "runs"
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    command = [sys.executable, *torchrun, str(STRANGERS / script), *arguments]
    for _ in range(ATTEMPTS):
        begin = time.perf_counter()
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=120, cwd=folder, env=_environment(runs, zero_code)
        )
        wall_s = time.perf_counter() - begin
        if GLOO_AT_EXIT not in ended.stderr:
            break
    assert 0 == ended.returncode, ended.stdout[-2000:] + ended.stderr[-4000:]
    found = list(runs_in(runs)) if runs.is_dir() else []
    newest = max(found, key=lambda run: run.started_unix_ns, default=None)
    opened = [Recording(log) for log in newest.ranks()] if newest is not None else []
    return Trained(ended.stdout.splitlines(), opened, wall_s)


def _environment(runs: Path, zero_code: bool) -> dict[str, str]:
    """Zero code as a job template has it; without a budget, so that slow minutes of a machine change no record."""
    others = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "TORCHELASTIC_"))}
    return {
        **others,
        "OTEL_TRAIN_INSTRUMENT": str(zero_code),
        "OTEL_TRAIN_OVERHEAD_BUDGET": "off",
        "OTEL_TRAIN_DIR": str(runs),
        "OTEL_TRAIN_RAISE": "1",
        "OTEL_SDK_DISABLED": "",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "",
    }
