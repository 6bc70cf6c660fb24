"""A training with a tracker's run open, told what to do by its arguments; it goes on until the file ``stop`` is there.

It prints the id or the folder of the tracker's run, and at the end how many steps it took.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import otel_train

INTERVAL_S = 1.0


def main() -> None:
    """Open a run, train, shut down. The process ends without the tracker's own exit, which waits for a dead server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tracker", choices=["mlflow", "mlflow_by_id", "tensorboard", "wandb", "wandb_alone"])
    parser.add_argument("stop", type=Path)
    options = parser.parse_args()
    if options.tracker.startswith("wandb"):
        train_with_wandb(options.tracker == "wandb")
        return
    settings = open_run(options.tracker)
    with otel_train.init(tracker_interval_s=INTERVAL_S, **settings):
        steps = 0
        while not options.stop.exists():
            with otel_train.trace_step(samples=2):
                time.sleep(0.01)
            steps += 1
    print(steps, flush=True)
    sys.stderr.flush()
    os._exit(0)


def open_run(tracker: str) -> dict[str, object]:
    """The run of a tracker; returns the settings with which it is found."""
    if tracker == "tensorboard":
        print(".", flush=True)
        return {"trackers": "tensorboard", "tensorboard_dir": "."}
    import mlflow

    if tracker == "mlflow":
        print(mlflow.start_run().info.run_id, flush=True)
    else:
        print(os.environ["MLFLOW_RUN_ID"], flush=True)
    return {"trackers": "mlflow"}


def train_with_wandb(is_tracked: bool) -> None:
    """300 steps; the user logs at his own steps: two values at each of them, one after the other, also at the end."""
    import wandb

    run = wandb.init(project="test", dir=".", mode="offline")
    otel_train.init(trackers="wandb" if is_tracked else "off", tracker_interval_s=INTERVAL_S, exit_timeout_s=60)
    for step in range(300):
        with otel_train.trace_step(samples=2), otel_train.trace_phase("for ward?"):
            time.sleep(0.01)
        if step % 50 == 0:
            run.log({"loss": float(step)}, step=step)
        if step % 50 == 25:
            run.log({"accuracy": float(step)}, step=step - 25)
    otel_train.shutdown()
    run.log({"test": 1.0}, step=250)
    run.log({"later": 2.0})
    print(run.step, flush=True)
    run.finish()


if __name__ == "__main__":
    main()
