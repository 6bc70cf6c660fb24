"""CPU of the whole process a step, background threads included, at 1,000 steps/s with an exporter to a local receiver.

    python benchmarks/process_cost.py [--seconds 20] [--rounds 3]

Steps come in tens, each ten 10 ms after the one before, so that a round has the same number of them whatever it costs.
Off, on, off alternate in one process; ``on`` is measured between two moments of a run that is under way, so that its
start and end (shown apart) are not spread over the steps. The receiver, in a process of its own, acknowledges all.
"""

import argparse
import http.server
import itertools
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection

import otel_train

GOAL_US = 15.0
TEN_STEPS_S = 0.010
WARM_UP_S = 3.0


class Acknowledge(http.server.BaseHTTPRequestHandler):
    """An OTLP receiver that reads each request and says yes: an empty protobuf message is a full success."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Take one request."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def receive(pipe: Connection) -> None:
    """Serve until killed; tells the port first."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Acknowledge)
    pipe.send(server.server_port)
    server.serve_forever()


def train(seconds: float) -> int:
    """Steps with a wait for data and three phases, 1,000 a second; returns their number."""
    trace_step, trace_phase = otel_train.trace_step, otel_train.trace_phase
    batches = iter(otel_train.trace_dataloader(itertools.repeat([0] * 8)))
    start = time.perf_counter()
    for tens in range(int(seconds / TEN_STEPS_S)):
        for _ in range(10):
            next(batches)
            with trace_step(tokens=1024):
                with trace_phase("forward"):
                    pass
                with trace_phase("backward"):
                    pass
                with trace_phase("optimizer"):
                    pass
        time.sleep(max(start + (tens + 1) * TEN_STEPS_S - time.perf_counter(), 0))
    return int(seconds / TEN_STEPS_S) * 10


def cpu_us_a_step(seconds: float) -> float:
    """CPU of this process while it trains, µs a step."""
    before = time.process_time()
    return (steps := train(seconds)) and (time.process_time() - before) / steps * 1e6


def main() -> None:
    """Print what ``on`` adds to ``off``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    receiver = multiprocessing.get_context("spawn").Process(target=receive, args=(theirs,), daemon=True)
    receiver.start()
    endpoint = f"http://127.0.0.1:{ours.recv()}"
    os.environ["OTEL_TRAIN_DIR"] = tempfile.mkdtemp()
    added, around = [], []
    for _ in range(options.rounds):
        before = cpu_us_a_step(options.seconds)
        mark = time.process_time()
        run = otel_train.init(endpoint=endpoint)
        start_cpu = time.process_time() - mark
        train(WARM_UP_S)
        during = cpu_us_a_step(options.seconds)
        mark = time.process_time()
        run.shutdown()
        around.append((start_cpu + time.process_time() - mark) * 1000)
        added.append(during - (before + cpu_us_a_step(options.seconds)) / 2)
    print(f"Python {sys.version.split()[0]}, {options.rounds} rounds of {options.seconds:g} s at 1,000 steps/s")
    median = statistics.median(added)
    print(f"CPU of the process: {min(added):.1f} µs a step, median {median:.1f} (goal: at most {GOAL_US:g})")
    print(f"init() and shutdown() together: {statistics.median(around):.0f} ms of CPU")


if __name__ == "__main__":
    main()
