"""Public names whose import would weigh: found when they are asked for."""

from importlib import import_module
from typing import Any

PLACES = {
    "TorchInstrumentor": "otel_train.instrumentor",
    "alert_rule": "otel_train.alerts.predicates",
    "tune": "otel_train.tuning.loaders",
    "tune_workers": "otel_train.tuning.jobs",
}
"""The first has a base class of OpenTelemetry's, which ``import otel_train`` does not load."""


def __getattr__(name: str) -> Any:
    """For ``otel_train.<name>``. Raises ``AttributeError``."""
    if name in PLACES:
        return getattr(import_module(PLACES[name]), name)
    raise AttributeError(f"module 'otel_train' has no attribute {name!r}")
