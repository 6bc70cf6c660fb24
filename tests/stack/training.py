"""A rank that trains for so many steps, and goes on training until a file is there, if one is named."""

import contextlib
import os
import sys
import time
from pathlib import Path

import otel_train

SLOW, FAILING, NAN = (int(os.environ.get(key, -1)) for key in ("SLOW_STEP", "FAILING_STEP", "NAN_STEP"))


def slow_data():
    """Batches that take ten times as long as the steps."""
    while True:
        time.sleep(0.05)
        yield None


def main() -> None:
    """``training.py STEPS [FILE]``."""
    count, until = int(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None
    with otel_train.init(exit_timeout_s=90, keep_every=1):
        number = 0
        batches = iter(otel_train.trace_dataloader(slow_data())) if "SLOW_DATA" in os.environ else None
        while number < count or (until is not None and not until.exists()):
            if batches is not None:
                next(batches)
            with contextlib.suppress(ZeroDivisionError), otel_train.trace_step(samples=4):
                with otel_train.trace_phase("forward"):
                    time.sleep(0.3 if number == SLOW else 0.002)
                with otel_train.trace_phase("backward"):
                    time.sleep(0.003)
                if number == FAILING:
                    raise ZeroDivisionError
            otel_train.log(loss=float("nan") if number == NAN else 1 / (number + 1))
            if number == 5:
                with otel_train.trace_checkpoint("model.pt"):
                    time.sleep(0.01)
            number += 1


if __name__ == "__main__":
    main()
