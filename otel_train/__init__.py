"""OpenTelemetry for PyTorch training: every step on record, from there to any backend."""

from otel_train.api import (
    log,
    profile,
    timed,
    trace_checkpoint,
    trace_dataloader,
    trace_epoch,
    trace_evaluation,
    trace_phase,
    trace_step,
)
from otel_train.display import progress
from otel_train.errors import AlreadyInitialized, OtelTrainError, RunLogError, RunNotFound, SettingsError, UnknownFormat
from otel_train.lazily import __getattr__ as __getattr__
from otel_train.run import RunHandle, init, shutdown
from otel_train.version import __version__

__all__ = [
    "AlreadyInitialized",
    "OtelTrainError",
    "RunHandle",
    "RunLogError",
    "RunNotFound",
    "SettingsError",
    "TorchInstrumentor",
    "UnknownFormat",
    "__version__",
    "alert_rule",
    "init",
    "log",
    "profile",
    "progress",
    "shutdown",
    "timed",
    "trace_checkpoint",
    "trace_dataloader",
    "trace_epoch",
    "trace_evaluation",
    "trace_phase",
    "trace_step",
    "tune",
    "tune_workers",
]
