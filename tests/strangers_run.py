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
ROOT = Path(__file__).parent.parent
LAUNCH = """
import runpy, sys
import otel_train
from otel_train import instrumentation
instrumentation.instrument(otel_train.init)
sys.argv[:] = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""What ``otel-train run`` does, in the one place of the tests that knows."""

SITE = """
import otel_train
from otel_train import instrumentation
instrumentation.instrument(otel_train.init)
"""
"""The same for every Python process that the script starts, too: a ``sitecustomize.py`` on the path."""

ENTRY_POINTS = """
[lightning.pytorch.callbacks_factory]
otel_train = otel_train.integrations.lightning_events:lightning_callbacks
[pytorch_lightning.callbacks_factory]
otel_train = otel_train.integrations.lightning_events:pytorch_lightning_callbacks
"""
"""Those of ``pyproject.toml``, where otel_train is not installed but on the path."""


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


def train(
    folder: Path, script: str, *arguments: str, zero_code: bool = True, ranks: int = 1, starts_ranks: bool = False
) -> Trained:
    """Run a script of ``strangers/`` in a process of its own; its runs go to ``folder``. Fails if it does.

    ``ranks`` are torchrun's, unless the script starts its ranks itself.
    """
    runs = folder / "runs"
    installed = folder / "installed" / "otel_train-0.dist-info"
    installed.mkdir(parents=True, exist_ok=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: otel-train\nVersion: 0\n")
    (installed / "entry_points.txt").write_text(ENTRY_POINTS)
    if starts_ranks:
        (installed.parent / "sitecustomize.py").write_text(SITE if zero_code else "")
        zero_code, ranks = False, 1
    begin = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, *_launcher(folder, script, zero_code, ranks), *arguments],
        capture_output=True, text=True, timeout=120, cwd=folder, env=_environment(runs, installed.parent),
    )  # fmt: skip
    wall_s = time.perf_counter() - begin
    assert 0 == ended.returncode, ended.stdout[-2000:] + ended.stderr[-4000:]
    found = list(runs_in(runs)) if runs.is_dir() else []
    newest = max(found, key=lambda run: run.started_unix_ns, default=None)
    opened = [Recording(log) for log in newest.ranks()] if newest is not None else []
    return Trained(ended.stdout.splitlines(), opened, wall_s)


def _launcher(folder: Path, script: str, zero_code: bool, ranks: int) -> list[str]:
    path = str(STRANGERS / script)
    if ranks == 1:
        return ["-c", LAUNCH, path] if zero_code else [path]
    launch = folder / "launch.py"
    launch.write_text(LAUNCH)
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return [*torchrun, *([str(launch)] if zero_code else []), path]


def _environment(runs: Path, installed: Path) -> dict[str, str]:
    others = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "TORCHELASTIC_"))}
    return {
        **others,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{installed}",
        "OTEL_TRAIN_DIR": str(runs),
        "OTEL_TRAIN_RAISE": "1",
        "OTEL_SDK_DISABLED": "",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "",
    }
