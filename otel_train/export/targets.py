"""Where each signal goes: an OTLP exporter of our own, an application's provider, or nowhere."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.sdk.resources import Resource
from opentelemetry.util.re import parse_env_headers

from otel_train.errors import SettingsError
from otel_train.export.isolation import isolated
from otel_train.sinks.application import LogHandOver, MetricHandOver, SpanHandOver
from otel_train.sinks.logs import readable_log
from otel_train.sinks.metrics import metrics_data
from otel_train.sinks.readable import readable_span

TRACES, METRICS, LOGS = SIGNALS = ("traces", "metrics", "logs")
PROTOCOLS = ("http/protobuf", "grpc")
PREFIX = "OTEL_EXPORTER_OTLP_"
TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"

REFUSALS = re.compile(r"code: (400|413|422)\b|INVALID_ARGUMENT")
"""Answers after which OTLP says not to send the same again: it would be refused for ever, and all behind it wait."""


@dataclass(frozen=True)
class Outcome:
    """What became of a batch: acknowledged; or refused for good; or neither, and it must be sent again."""

    acknowledged: bool
    refused: bool = False
    reason: str = ""


class Target(Protocol):
    """Takes the batches of one signal. One thread sends; any thread may stop."""

    where: str

    def send(self, batch: Sequence[Any], resource: Resource) -> Outcome:
        """Send, and wait for the answer."""
        ...

    def stop(self) -> None:
        """Give up what is being waited for, and take nothing more."""
        ...


@dataclass(frozen=True)
class Targets:
    """A target a signal; None for a signal that is not sent."""

    traces: Target | None = None
    metrics: Target | None = None
    logs: Target | None = None


@dataclass
class Backend:
    """One of the SDK's OTLP exporters, called in our thread. ``encode`` makes what it takes of a batch."""

    where: str
    exporter: Any
    encode: Any

    def send(self, batch: Sequence[Any], resource: Resource) -> Outcome:
        """Blocks for ``OTEL_EXPORTER_OTLP_TIMEOUT`` at most, retries included."""
        with isolated() as messages:
            try:
                result = self.exporter.export(self.encode(batch, resource))
            except OSError as error:  # the HTTP exporters of SDK 1.39 let a refused connection out
                return Outcome(False, reason=str(error))
        if result.name == "SUCCESS":
            return Outcome(True)
        reason = messages[-1] if messages else "no answer"
        return Outcome(False, bool(REFUSALS.search(reason)), reason)

    def stop(self) -> None:
        """Ends the exporter's waiting between retries."""
        with isolated():
            self.exporter.shutdown()


@dataclass
class Application:
    """One of the application's providers. Handed over is done: what happens then is the provider's."""

    hand_over: Any
    where: str = "the application's provider"

    def send(self, batch: Sequence[Any], resource: Resource) -> Outcome:
        """Hands over; the resource is the provider's own."""
        self.hand_over(batch)
        return Outcome(True)

    def stop(self) -> None:
        """Lets go of the provider, which is not ours to shut down."""
        getattr(self.hand_over, "stop", lambda: None)()


@dataclass(frozen=True)
class _Wanted:
    """One signal as the environment and the caller have it."""

    signal: str
    environ: Mapping[str, str]
    endpoint: str | None
    headers: Mapping[str, str] | None
    protocol: str | None
    timeout_s: float | None

    def variable(self, name: str) -> str | None:
        """The signal's own variable; None when it is not set."""
        return self.environ.get(f"{PREFIX}{self.signal.upper()}_{name}", "").strip() or None

    def is_on(self) -> bool:
        """Is there an endpoint for it, and is it not turned off?"""
        if not _enabled(self.environ, self.signal):
            return False
        return bool(self.variable("ENDPOINT") or self.endpoint or self.environ.get(f"{PREFIX}ENDPOINT", "").strip())

    def options(self) -> tuple[str, dict[str, Any]]:
        """Protocol, and what the exporter is given; what is left out it reads from the environment itself.

        A signal's own variable is the more specific word, and wins over a value for all signals.
        """
        protocol = self.variable("PROTOCOL") or self.protocol or self.environ.get(f"{PREFIX}PROTOCOL", "").strip()
        protocol = protocol.lower() or PROTOCOLS[0]
        if protocol not in PROTOCOLS:
            raise SettingsError(
                f"OTLP protocol for {self.signal} is {protocol!r}; allowed is {' or '.join(PROTOCOLS)}. "
                f"Type: export {PREFIX}PROTOCOL={PROTOCOLS[0]}"
            )
        general = self.endpoint or self.environ.get(f"{PREFIX}ENDPOINT", "").strip()
        path = "" if protocol == "grpc" else f"/v1/{self.signal}"
        options: dict[str, Any] = {"endpoint": self.variable("ENDPOINT") or f"{general.removesuffix('/')}{path}"}
        if self.headers and not self.variable("HEADERS"):
            general_headers = parse_env_headers(self.environ.get(f"{PREFIX}HEADERS", ""), liberal=True)
            options["headers"] = {**general_headers, **{key.lower(): value for key, value in self.headers.items()}}
        if self.timeout_s is not None:
            options["timeout"] = self.timeout_s
        return protocol, options


def endpoint_is_set(environ: Mapping[str, str] = os.environ) -> bool:
    """Is there somewhere to send any signal to, by OpenTelemetry's variables alone?"""
    return any(_Wanted(signal, environ, None, None, None, None).is_on() for signal in SIGNALS)


def make_targets(
    identity: Mapping[str, Any],
    *,
    tracer_provider: Any = None,
    meter_provider: Any = None,
    logger_provider: Any = None,
    environ: Mapping[str, str] = os.environ,
    timeout_s: float | None = None,
    endpoint: str | None = None,
    headers: Mapping[str, str] | None = None,
    protocol: str | None = None,
) -> Targets:
    """A target for each signal: the application's provider where one is given, else a backend if it has an endpoint.

    ``endpoint``, ``headers`` and ``protocol`` are as in the variables for all signals; certificates, compression and
    timeout are read from the environment by the SDK. No connection is made. Raises ``SettingsError``.
    """
    del identity  # a target for one rank is a target for any; an exporter's batch comes with its resource
    wanted = _Wanted("", environ, endpoint, headers, protocol, timeout_s)
    handed = {
        TRACES: tracer_provider and SpanHandOver(tracer_provider),
        METRICS: meter_provider and MetricHandOver(meter_provider),
        LOGS: logger_provider and LogHandOver(logger_provider),
    }
    made: dict[str, Target] = {}
    for signal, hand_over in handed.items():
        own = replace(wanted, signal=signal)
        if hand_over is not None and not _disabled(environ):
            made[signal] = Application(hand_over)
        elif own.is_on():
            made[signal] = _backend(own)
    return Targets(**made)


def _enabled(environ: Mapping[str, str], signal: str) -> bool:
    return not _disabled(environ) and environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip().lower() != "none"


def _disabled(environ: Mapping[str, str]) -> bool:
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _backend(wanted: _Wanted) -> Backend:
    protocol, options = wanted.options()
    temporality = _temporality(wanted.environ)
    encoders = {
        TRACES: lambda batch, resource: [readable_span(span, resource) for span in batch],
        METRICS: lambda batch, resource: metrics_data(batch, temporality, resource),
        LOGS: lambda batch, resource: [readable_log(log, resource) for log in batch],
    }
    exporter = (_grpc if protocol == "grpc" else _http)(wanted.signal)
    return Backend(options["endpoint"], exporter(**options), encoders[wanted.signal])


def _temporality(environ: Mapping[str, str]) -> AggregationTemporality:
    """``lowmemory`` is delta for counters and histograms, and gauges have none: for us the same as ``delta``."""
    if environ.get(TEMPORALITY, "").strip().lower() in ("delta", "lowmemory"):
        return AggregationTemporality.DELTA
    return AggregationTemporality.CUMULATIVE


def _http(signal: str) -> Any:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return {TRACES: OTLPSpanExporter, METRICS: OTLPMetricExporter, LOGS: OTLPLogExporter}[signal]


def _grpc(signal: str) -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise SettingsError(
            f"OTLP over gRPC needs opentelemetry-exporter-otlp-proto-grpc ({error}). "
            f"Type: pip install 'otel-train[grpc]', or export {PREFIX}PROTOCOL={PROTOCOLS[0]}"
        ) from error
    return {TRACES: OTLPSpanExporter, METRICS: OTLPMetricExporter, LOGS: OTLPLogExporter}[signal]
