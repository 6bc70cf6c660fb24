"""What ``otel_train.pth`` imports at the start of every Python process where ``OTEL_TRAIN_INSTRUMENT`` is on.

It registers hooks for modules that may be imported later, and imports none of them; a process that never trains records
nothing. Whatever goes wrong here is said in a line, and the program starts as it would have.
"""

import os
import sys


def start() -> None:
    """Instrument this process, unless ``OTEL_PYTHON_DISABLED_INSTRUMENTATIONS`` names ``torch``."""
    disabled = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "")
    if {"torch", "*"} & {name.strip() for name in disabled.split(",")}:
        return
    from otel_train.instrumentation import instrument
    from otel_train.run import init

    instrument(init)


try:
    start()
except Exception as error:  # noqa: BLE001  a program that knows nothing of otel_train must start
    print(f"otel_train does not record this process: {error!r}", file=sys.stderr)
