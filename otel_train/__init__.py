"""OpenTelemetry for PyTorch training: every step on record, from there to any backend."""

from typing import TYPE_CHECKING, Any

from otel_train.api import (
    log,
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
from otel_train.run import RunHandle, init, shutdown
from otel_train.version import __version__

if TYPE_CHECKING:
    from otel_train.instrumentor import TorchInstrumentor


def __getattr__(name: str) -> Any:
    """``TorchInstrumentor``, whose base class is OpenTelemetry's, is imported when it is asked for."""
    if name == "TorchInstrumentor":
        from otel_train.instrumentor import TorchInstrumentor

        return TorchInstrumentor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
    "init",
    "log",
    "progress",
    "shutdown",
    "timed",
    "trace_checkpoint",
    "trace_dataloader",
    "trace_epoch",
    "trace_evaluation",
    "trace_phase",
    "trace_step",
]
