"""CPU a minute of the thread that tells a tracker, and what a row costs, in a training of 100 steps a second.

    python benchmarks/tracker_cost.py [--seconds 60] [--trackers mlflow,tensorboard,wandb]

MLflow is its real server on loopback, W&B is offline. The thread's own CPU time is shown; the work of wandb's service
and of the server is done in other processes.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import otel_train
from otel_train import active
from otel_train.runlog.ranklog import RankLog
from otel_train.trackers.rows import rows_of

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))


def open_run(tracker: str, folder: Path) -> dict[str, object]:
    """The run of a tracker; returns the settings with which it is found."""
    if tracker == "tensorboard":
        return {"tensorboard_dir": folder}
    if tracker == "wandb":
        import wandb

        wandb.init(project="cost", dir=str(folder), mode="offline")
        return {}
    import mlflow
    from mlflow_server import MlflowServer

    mlflow.set_tracking_uri(MlflowServer(folder).start().uri)
    mlflow.start_run()
    return {}


def train(seconds: float, tracker: str) -> None:
    """100 steps a second with three phases; to wandb, whose rows are the user's, a value ten times a second."""
    log = getattr(sys.modules.get("wandb"), "log", None) if tracker == "wandb" else None
    start = time.perf_counter()
    for step in range(int(seconds * 100)):
        with otel_train.trace_step(samples=8):
            for phase in ("forward", "backward", "optimizer"):
                with otel_train.trace_phase(phase):
                    pass
            time.sleep(max(start + step / 100 - time.perf_counter(), 0))
        if log is not None and step % 10 == 0:
            log({"loss": 1.0})


def main() -> None:
    """Print a line a tracker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--trackers", default="mlflow,tensorboard,wandb")
    options = parser.parse_args()
    os.environ["OTEL_TRAIN_DIR"] = tempfile.mkdtemp()
    for tracker in options.trackers.split(","):
        given = open_run(tracker, Path(tempfile.mkdtemp()))
        run = otel_train.init(trackers=tracker, exit_timeout_s=60, **given)
        train(options.seconds, tracker)
        thread = active.session._tracking[0]
        during_ms = thread.cpu_ns / 1e6
        run.shutdown()
        log = RankLog.open(run.path)
        before = time.thread_time()
        rows = len(list(rows_of(log, 10.0, log.anchor.monotonic_ns + int(options.seconds * 1e9))))
        row_ms = (time.thread_time() - before) / rows * 1e3
        print(
            f"{tracker}: {during_ms * 60 / options.seconds:.0f} ms of CPU a minute while it trains "
            f"({during_ms / options.seconds / 10:.3f} % of a core), {thread.cpu_ns / 1e6 - during_ms:.0f} ms at the "
            f"end; working out a row takes {row_ms:.1f} ms",
            flush=True,
        )
        if tracker == "mlflow":
            import mlflow

            mlflow.end_run()


if __name__ == "__main__":
    main()
