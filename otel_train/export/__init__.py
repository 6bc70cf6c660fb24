"""From a rank's log to a backend: reads on from a cursor that moves when the backend has acknowledged.

The same in the run's own process, on its export thread, and in ``otel-train push`` after the process died.
"""

from otel_train.export.exporter import Exporter
from otel_train.export.targets import Targets, endpoint_is_set, make_targets

__all__ = ["Exporter", "Targets", "endpoint_is_set", "make_targets"]
