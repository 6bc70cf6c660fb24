"""The application's own OpenTelemetry providers: found, never set and never replaced."""

import sys
from typing import Any


def providers_already_set() -> dict[str, Any]:
    """The global providers that are real ones of the SDK, by the name that ``init()`` has for them.

    Looks only where the application already imported the SDK; a proxy, or no provider, is not one.
    """
    found = {
        "tracer_provider": _set(
            "opentelemetry.sdk.trace", "TracerProvider", "opentelemetry.trace", "get_tracer_provider"
        ),
        "meter_provider": _set(
            "opentelemetry.sdk.metrics", "MeterProvider", "opentelemetry.metrics", "get_meter_provider"
        ),
        "logger_provider": _set(
            "opentelemetry.sdk._logs", "LoggerProvider", "opentelemetry._logs", "get_logger_provider"
        ),
    }
    return {name: provider for name, provider in found.items() if provider is not None}


def _set(sdk: str, kind: str, api: str, getter: str) -> Any:
    if sdk not in sys.modules or api not in sys.modules:
        return None
    provider = getattr(sys.modules[api], getter)()
    return provider if isinstance(provider, getattr(sys.modules[sdk], kind)) else None
