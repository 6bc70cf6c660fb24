"""OpenTelemetry's own way of zero code: the instrumentor that ``opentelemetry-instrument`` finds."""

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # its file is not typed

from otel_train import instrumentation
from otel_train.run import init
from otel_train.settings import load

PROVIDERS = ("tracer_provider", "meter_provider", "logger_provider")


class TorchInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # likewise
    """``TorchInstrumentor().instrument()``: any training of this process is recorded, from its first step on.

    Takes what ``init()`` takes: OpenTelemetry providers and settings. Twice is once; ``uninstrument()`` takes every
    hook back. Raises ``SettingsError`` for a setting that is wrong; what the environment has wrong is said when
    training begins.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """The torch that the hooks were tried with, and newer ones."""
        return ("torch >= 2.4",)

    def _instrument(self, **given: Any) -> None:
        settings = {name: value for name, value in given.items() if name not in PROVIDERS}
        if settings:
            load(settings)
        instrumentation.instrument(lambda: init(**given))

    def _uninstrument(self, **given: Any) -> None:
        instrumentation.uninstrument()
