"""A training's command run for some steps with a loader's settings, and measured from its record."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from otel_train.derive.scan import RankScan, scan_rank
from otel_train.errors import RunLogError, TuningError
from otel_train.hooks.loader_override import VARIABLE
from otel_train.resource_names import PROCESS_CPU_UTILIZATION, series_of
from otel_train.runlog.runs import runs_in
from otel_train.tuning.measuring import Measured
from otel_train.tuning.search import Setting

WARM_UP_STEPS = 5
POLL_S = 0.1
ENDING_S = 5.0
"""So long a command has to end when it is told to, before it is killed."""

FEWEST_STEPS = 8
"""A command that ends by itself after fewer tells nothing."""

QUIET = {
    "OTEL_TRAIN_INSTRUMENT": "true",
    "OTEL_TRAIN_PROGRESS": "false",
    "OTEL_TRAIN_PROFILE_EVERY": "off",
    "OTEL_TRAIN_RESOURCE_INTERVAL": "1",
}
NOT_PASSED = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
              "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_TRAIN_RUN_ID")  # fmt: skip
"""Nothing of a try is sent anywhere, and each is a run of its own."""


class Command:
    """A command line, run again and again; each time in a session of its own, of which nothing is left."""

    def __init__(self, line: Sequence[str], steps: int) -> None:
        self._line = list(line)
        self._steps = steps

    def measure(self, setting: Setting | None, seconds: float, limit_s: float) -> Measured:
        """Run until the steps wanted are recorded, or it ends, or for ``limit_s``. None: as the script has it.

        ``seconds`` is not heeded: the number of steps is what is wanted. Raises ``TuningError``.
        """
        workers = setting.workers if setting else 0
        warm_up = max(WARM_UP_STEPS, workers * (setting.prefetch if setting else 0))
        with tempfile.TemporaryDirectory(prefix="otel-train-tune-") as folder:
            where = Path(folder)
            code, error = self._run(setting, where, warm_up + self._steps, limit_s)
            scan = _first_rank(where)
            steps = scan.steps.count if scan else 0
            if scan is None or steps < FEWEST_STEPS:
                raise TuningError(_failure(workers, steps, code, error, limit_s))
            return _measured(scan, workers, min(warm_up, steps // 2))

    def _run(self, setting: Setting | None, where: Path, steps: int, limit_s: float) -> tuple[int | None, str]:
        """The exit code, None where it was ended; and the last line of what it said on standard error."""
        environment = {name: value for name, value in os.environ.items() if name not in NOT_PASSED}
        environment |= {**QUIET, "OTEL_TRAIN_DIR": str(where / "runs")}
        if setting is not None:
            environment[VARIABLE] = json.dumps(arguments_of(setting))
        with (where / "stderr").open("wb") as told:
            process = subprocess.Popen(
                self._line,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=told,
                start_new_session=True,
            )
        try:
            code = _watch(process, where, steps, time.monotonic() + limit_s)
        finally:
            _end(process)
        lines = (where / "stderr").read_text(errors="replace").strip().splitlines()
        return code, lines[-1] if lines else ""


def arguments_of(setting: Setting) -> dict[str, Any]:
    """A DataLoader's."""
    ahead = {"prefetch_factor": setting.prefetch} if setting.workers else {}
    return {"num_workers": setting.workers, "pin_memory": setting.pin_memory, **ahead}


def _watch(process: "subprocess.Popen[bytes]", where: Path, steps: int, until: float) -> int | None:
    while time.monotonic() < until:
        try:
            return process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            pass
        if _recorded(where) >= steps:
            return None
    return None


def _recorded(where: Path) -> int:
    """Steps of the first rank so far."""
    for run in runs_in(where / "runs"):
        try:
            return int(run.ranks()[0].steps.bounds()[1])
        except RunLogError:  # it is just beginning
            return 0
    return 0


def _end(process: "subprocess.Popen[bytes]") -> None:
    """The command with all that it started: those that share its session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _first_rank(where: Path) -> RankScan | None:
    for run in runs_in(where / "runs"):
        return scan_rank(run.ranks()[0])
    return None


def _measured(scan: RankScan, workers: int, warm_up: int) -> Measured:
    """CPU time is not known of each step: where it was sampled it is spread over all, else all computes."""
    waits = scan.steps.waits_ns[warm_up:].astype(np.float64) / 1e9
    works = scan.steps.durations_ns[warm_up:] / 1e9 - waits
    used = [
        total.mean
        for name, total in scan.resources.items()
        if series_of(name)[0] == PROCESS_CPU_UTILIZATION and total.mean is not None
    ]
    cpus = sum(used) if used else 1.0
    if not waits.any():
        raise TuningError("no wait for a batch is recorded: the command has no DataLoader that could be tuned")
    return Measured(
        waits.tolist(),
        np.maximum(works, 0.0).tolist(),
        taking_cpu_s=float(waits.sum()) * min(cpus, 1.0) if not workers else 0.0,
        work_cpu_s=float(works.sum()) * cpus,
        starts_s=[float(scan.steps.waits_ns[0]) / 1e9],
        workers=workers,
    )


def _failure(workers: int, steps: int, code: int | None, error: str, limit_s: float) -> str:
    how = f"ended with exit code {code}" if code is not None else f"was ended after {limit_s:.3g} s"
    said = f": {error}" if error and code else ""
    return f"with num_workers={workers} the command {how} after {steps} recorded steps, fewer than {FEWEST_STEPS}{said}"
