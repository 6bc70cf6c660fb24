"""What a benchmark runs in the tests: records steps and a speed that its arguments decide, and misbehaves when told."""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

import otel_train


def record(arguments):
    """Thirty steps; ``speed`` differs a little from run to run, by the run's id."""
    run_id = os.environ["OTEL_TRAIN_RUN_ID"]
    wobble = 1 + 0.002 * (sum(run_id.encode()) % 7)
    with otel_train.init():
        for _ in range(arguments.steps):
            with otel_train.trace_step(samples=arguments.batch_size):
                otel_train.log(speed=arguments.speed * wobble * int(os.environ.get("FACTOR", "1")))
        print("trained", flush=True)
        if arguments.ready:
            with Path(arguments.ready).open("w") as pipe:
                print(os.getpid(), file=pipe, flush=True)
                signal.pause()


def main():
    """Train, then end as it was told."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--exit", type=int, default=0)
    parser.add_argument("--stray", help="leave a process of another session behind; its number goes into this file")
    parser.add_argument("--ready", help="a pipe to be told when it has trained; then wait for a signal")
    parser.add_argument("--fail-for", type=int, help="fail with this batch size")
    arguments = parser.parse_args()
    if arguments.batch_size == arguments.fail_for:
        print("one line\nanother line")
        sys.exit(7)
    record(arguments)
    if arguments.stray:
        stray = subprocess.Popen(["sleep", "600"], start_new_session=True)
        Path(arguments.stray).write_text(str(stray.pid))
        stray.returncode = 0  # nobody waits for it
    sys.exit(arguments.exit)


if __name__ == "__main__":
    main()
