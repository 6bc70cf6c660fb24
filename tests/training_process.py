"""A training process to be killed, hung or left alone, told what to do by its arguments.

It writes the number of completed steps to a shared file after each one, so that the test knows what must be in the log.
"""

import argparse
import mmap
import os
import sys
import time

import otel_train


def main() -> None:
    """Train with empty steps until the number asked for, then end in the way asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=10**9)
    parser.add_argument("--end", choices=["return", "exit", "raise", "shutdown", "wait"], default="return")
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("counter")
    options = parser.parse_args()
    with open(options.counter, "r+b") as file:
        completed = memoryview(mmap.mmap(file.fileno(), 8)).cast("Q")
    otel_train.init(service_name="faults")
    for number in range(options.steps):
        with otel_train.trace_step(samples=2), otel_train.trace_phase("forward"):
            if options.pause:
                time.sleep(options.pause)
        completed[0] = number + 1  # one store: pack_into writes zeros first, and the process may be killed between
    print("trained", flush=True)
    if options.end == "wait":
        sys.stdin.readline()
    if options.end == "exit":
        os._exit(3)
    if options.end == "raise":
        raise RuntimeError("the training failed")
    if options.end == "shutdown":
        otel_train.shutdown()
        otel_train.shutdown()


if __name__ == "__main__":
    main()
