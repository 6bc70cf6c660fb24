"""What Prometheus calls a metric that comes by OTLP, under its default ``UnderscoreEscapingWithSuffixes``.

By https://prometheus.io/docs/guides/opentelemetry/ and OpenTelemetry's specification of Prometheus compatibility: dots
become underscores, the unit's name is appended unless it is there, counters end in ``_total``, ratios in ``_ratio``.
"""

import re

from otel_train import names
from otel_train.derive.aggregate import unit_of
from otel_train.resource_names import COUNTER, GAUGE, RESOURCES

HISTOGRAM = "histogram"
UNITS = {"s": "seconds", "By": "bytes", "Hz": "hertz", "Cel": "celsius", "W": "watts", "J": "joules", "1": ""}


def prometheus_name(name: str, kind: str) -> str:
    """kind: ``counter``, ``gauge``, ``updowncounter`` or ``histogram``."""
    unit = RESOURCES[name].unit if name in RESOURCES else unit_of(name)
    words = [escaped(name)]
    amount, _, per = unit.partition("/")
    suffix = UNITS.get(amount, "")
    if suffix and suffix not in words[0].split("_"):
        words.append(suffix)
    if per:
        words.append("per_second")
    if kind == COUNTER:
        words.append("total")
    elif unit == "1" and kind != HISTOGRAM and not words[0].endswith("ratio"):
        words.append("ratio")
    return "_".join(words)


def escaped(name: str) -> str:
    """A metric's or an attribute's name with nothing but letters, digits and underscores."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def resource_name(name: str) -> str:
    """Of a resource metric, whose kind is known."""
    return prometheus_name(name, RESOURCES[name].instrument)


RUN, RANK, PHASE = escaped(names.RUN_ID), escaped(names.RANK), escaped(names.PHASE)
"""Labels of our series."""
TRAINING = f'{escaped(names.MODE)}="training"'
DATA_WAIT = f'{PHASE}="data_wait"'

__all__ = [
    "COUNTER", "DATA_WAIT", "GAUGE", "HISTOGRAM", "PHASE", "RANK", "RUN", "TRAINING", "escaped", "prometheus_name",
    "resource_name",
]  # fmt: skip
