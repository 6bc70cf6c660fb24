"""The two ways that are a line of code, each said twice; the argument chooses."""

import sys

from plain import train

import otel_train

if sys.argv[1] == "init":
    otel_train.init(instrument=True)
    otel_train.init(instrument=True)
else:
    otel_train.TorchInstrumentor().instrument(service_name="chosen")
    otel_train.TorchInstrumentor().instrument(service_name="chosen")
print("loss", repr(train()))
