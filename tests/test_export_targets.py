"""Where signals go, what the environment means for it, and what a sick backend does to an exporter."""

import logging
import os
import random
import socket
import threading
import time

import pytest
from export_setup import MS, SECOND, LogBuilder, environment, exporter_of, run_of, sent
from opentelemetry import metrics, trace
from otlp_receiver import OtlpReceiver

from otel_train.errors import SettingsError
from otel_train.export import Exporter, Targets, endpoint_is_set, make_targets

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
def log(tmp_path):
    """A short run with something for each signal."""
    builder = run_of(LogBuilder(tmp_path, service_name="gpt"), 20, SECOND)
    builder.event("nonfinite", SECOND)
    return builder.log


def on(targets):
    return [signal for signal in ("traces", "metrics", "logs") if getattr(targets, signal) is not None]


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, []),
        ({ENDPOINT: "  "}, []),
        ({ENDPOINT: "http://h:4318"}, ["traces", "metrics", "logs"]),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://h:4318/m"}, ["metrics"]),
        ({ENDPOINT: "http://h:4318", "OTEL_METRICS_EXPORTER": "none"}, ["traces", "logs"]),
        ({ENDPOINT: "http://h:4318", "OTEL_SDK_DISABLED": "True"}, []),
    ],
)
def test_a_signal_goes_where_an_endpoint_is_set(environ, expected):
    """Without an endpoint there is no target, and so no connection; a signal can be turned off."""
    targets = make_targets({}, environ=environ)
    assert expected == on(targets)
    assert bool(expected) == endpoint_is_set(environ)


def test_endpoints_by_signal(log):
    """A signal's own endpoint is taken as it is; the one for all has the signal's path added."""
    own = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:1/x", ENDPOINT: "http://h:4318/"}
    targets = make_targets({}, environ=own)
    assert ["http://t:1/x", "http://h:4318/v1/metrics"] == [targets.traces.where, targets.metrics.where]
    assert "http://code:1/v1/logs" == make_targets({}, environ={}, endpoint="http://code:1").logs.where


def test_headers(log, monkeypatch):
    """Headers come from the environment, with those given in code added to them."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=vision")
    with OtlpReceiver() as receiver:
        targets = make_targets({}, environ={**os.environ, **environment(receiver)}, headers={"X-Key": "k"})
        assert Exporter(log, targets).drain(final=True)
        headers = [headers for _, _, headers in receiver.requests]
    assert {("vision", "k")} == {(one["x-team"], one["x-key"]) for one in headers}


def test_compression_is_the_sdks(log, monkeypatch):
    """A variable that only the SDK reads is in force."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with sent(log) as receiver:
        assert {"gzip"} == {headers["content-encoding"] for _, _, headers in receiver.requests}


def test_an_unknown_protocol_is_an_error():
    """It says what was got, what is allowed and what to type."""
    with pytest.raises(SettingsError, match=r"'http/json'; allowed is http/protobuf or grpc.*export OTEL_"):
        make_targets({}, environ={ENDPOINT: "http://h", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"})


def test_grpc_has_its_own_exporters():
    """The protocol of a signal wins over that of all; gRPC takes the endpoint without a path."""
    protocols = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "http/protobuf"}
    targets = make_targets({}, environ={ENDPOINT: "http://h:4317", **protocols})
    assert ["http://h:4317", "http://h:4317/v1/logs"] == [targets.traces.where, targets.logs.where]
    assert ".grpc." in type(targets.traces.exporter).__module__
    assert ".http." in type(targets.logs.exporter).__module__
    for target in (targets.traces, targets.metrics, targets.logs):
        target.stop()


def test_grpc_without_its_package(monkeypatch):
    """The error names the command that installs it."""
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(SettingsError, match=r"pip install 'otel-train\[grpc\]'"):
        make_targets({}, environ={ENDPOINT: "http://h:4317"}, protocol="grpc")


def test_grpc_to_a_real_server(log):
    """Spans arrive over gRPC too."""
    grpc = pytest.importorskip("grpc")
    from concurrent.futures import ThreadPoolExecutor

    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

    class Service(trace_service_pb2_grpc.TraceServiceServicer):
        came = 0

        def Export(self, request, context):  # noqa: N802  the service's name for it
            self.came += sum(len(scope.spans) for entry in request.resource_spans for scope in entry.scope_spans)
            return trace_service_pb2.ExportTraceServiceResponse()

    server, service = grpc.server(ThreadPoolExecutor(1)), Service()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    environ = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{port}"}
    exporter = Exporter(log, make_targets({}, environ=environ, protocol="grpc"))
    assert exporter.drain(final=True)
    exporter.stop()
    server.stop(None)
    assert service.came > 0


def test_the_resource(tmp_path):
    """Identity, process, what was found out about the machine, and what the user set, the same in every request."""
    builder = LogBuilder(
        tmp_path,
        rank=3,
        world_size=8,
        local_rank=1,
        service_name="train",
        settings={"service_name": None},
        resource_attributes={"service.name": "mine", "team": "vision"},
        launcher={"SLURM_JOB_ID": "17"},
        hardware={"cpu": {"model": "Z80", "count": 2}, "gpus": [{"uuid": "a", "model": "H100"}, {"uuid": "b"}]},
        software={"python": "3.13.0", "torch": "2.15"},
        git={"commit": "abc", "dirty": True},
    )
    run_of(builder, 2).event("nonfinite", 0)
    with sent(builder.log) as receiver:
        resources = receiver.resources
    assert 3 == len(resources)
    assert resources[0] == resources[1] == resources[2]
    expected = {
        "service.name": "mine",
        "service.instance.id": "run-a-rank3",
        "dl.run.id": "run-a",
        "dl.rank": 3,
        "dl.local_rank": 1,
        "dl.world_size": 8,
        "team": "vision",
        "host.name": "elsewhere",
        "process.pid": 1,
        "process.runtime.version": "3.13.0",
        "dl.launcher.slurm_job_id": "17",
        "dl.hardware.cpu.model": "Z80",
        "dl.hardware.cpu.count": 2,
        "dl.hardware.gpus.model": ["H100"],
        "dl.hardware.gpus.uuid": ["a", "b"],
        "dl.software.torch": "2.15",
        "dl.git.dirty": True,
        "telemetry.distro.name": "otel_train",
        "telemetry.sdk.language": "python",
    }
    assert expected == {key: resources[0].get(key) for key in expected}


def test_a_young_run_waits_for_its_hardware(tmp_path):
    """The hardware is found out off the training thread: what is sent before would have another resource."""
    builder = run_of(LogBuilder(tmp_path, unix_ns=time.time_ns()), 1)
    with OtlpReceiver() as receiver:
        exporter = exporter_of(builder.log, receiver)
        assert not exporter.drain()
        assert 0 == receiver.attempts
        builder.save_identity(hardware={"cpu": {"count": 64}})
        assert exporter.drain()
        assert [64] == [resource["dl.hardware.cpu.count"] for resource in receiver.resources]


def test_503_is_tried_again_and_said_once(log, caplog):
    """While the backend is overloaded the cursor waits; one warning, and a word when it is over."""
    caplog.set_level(logging.INFO)
    with OtlpReceiver() as receiver:
        receiver.status = 503
        exporter = exporter_of(log, receiver, timeout_s=0.2)
        assert [False, False, False] == [exporter.drain(final=True) for _ in range(3)]
        assert (20, 3) == (exporter.pending(), exporter.failures["traces"])
        receiver.status = 200
        assert exporter.drain(final=True)
        assert 0 == exporter.pending()
    assert 1 == len(warnings_of(caplog))
    assert f"cannot send to {receiver.endpoint}/v1/traces" in warnings_of(caplog)[0]
    assert "otel-train push run-a" in warnings_of(caplog)[0]
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert [True] == ["again" in message for message in told]


def test_a_pause_after_a_failure(log):
    """A backend that failed is left alone for a while; the end of the run does not wait for that."""
    with OtlpReceiver() as receiver:
        receiver.status = 503
        exporter = exporter_of(log, receiver, timeout_s=0.1)
        exporter.drain()
        before = receiver.attempts
        assert not any(exporter.drain() for _ in range(5))
        assert before == receiver.attempts
        receiver.status = 200
        assert exporter.drain(final=True)


def test_a_closed_port(log, caplog):
    """Nothing listens: nothing is raised, nothing is lost, one warning."""
    with OtlpReceiver() as receiver:
        exporter = exporter_of(log, receiver, timeout_s=0.2)
        receiver.close()
        assert not exporter.drain(final=True)
    assert 20 == exporter.pending()
    assert 1 == len(warnings_of(caplog))


def test_a_backend_that_hangs_is_given_up_at_the_deadline(log):
    """What is under way ends with the SDK's timeout, and nothing is begun after the deadline."""
    with OtlpReceiver() as receiver:
        receiver.hangs = True
        exporter = exporter_of(log, receiver, timeout_s=0.3)
        started = time.monotonic()
        assert not exporter.drain(final=True, deadline=started + 0.2)
        assert time.monotonic() - started < 2
        assert 1 >= len({path for path, _, _ in receiver.requests})
        assert 20 == exporter.pending()


def test_stop_ends_the_waiting_between_retries(log):
    """Another thread lets go of an exporter that waits for its next try."""
    with OtlpReceiver() as receiver:
        receiver.status = 503
        exporter = exporter_of(log, receiver, timeout_s=60)
        thread = threading.Thread(target=exporter.drain)
        thread.start()
        assert receiver.arrived.wait(10)
        exporter.stop()
        thread.join(10)
        assert not thread.is_alive()
        assert not exporter.drain(final=True)


def test_a_slow_backend_is_waited_for(log):
    """An answer that takes its time is an answer."""
    with OtlpReceiver() as receiver:
        receiver.delay_s = 0.2
        assert exporter_of(log, receiver).drain(final=True)
        assert 3 == len(receiver.requests)


def test_one_signal_may_fail_alone(log):
    """A backend for traces only does not hold up the traces."""
    with OtlpReceiver() as receiver:
        receiver.paths = {"/v1/metrics": 404, "/v1/logs": 404}
        exporter = exporter_of(log, receiver)
        assert not exporter.drain(final=True)
        assert receiver.spans
        assert {"metrics": 1, "logs": 1} == exporter.failures


def test_what_is_refused_for_good_does_not_block_the_rest(log, caplog):
    """400 means never to send it again: it is counted, said once, and the rest goes on."""
    with OtlpReceiver() as receiver:
        receiver.paths = {"/v1/logs": 400}
        exporter = exporter_of(log, receiver)
        assert exporter.drain(final=True)
        assert (1, {"logs": 1}) == (exporter.dropped, dict(exporter.failures))
        assert exporter.drain(final=True)
    assert ["refused logs" in message for message in warnings_of(caplog)] == [True]


def test_nothing_of_ours_is_seen_elsewhere(log, caplog):
    """The SDK's own warnings stay in, another thread's do not; the global random generator is not drawn from."""
    sdk = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    with OtlpReceiver() as receiver:
        receiver.status = 503
        off = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
        exporter = exporter_of(log, receiver, timeout_s=1.5, **off)
        state = random.getstate()
        thread = threading.Thread(target=exporter.drain, kwargs={"final": True})
        thread.start()
        assert receiver.arrived.wait(10)
        sdk.warning("of the application")
        thread.join()
        receiver.status = 200
        assert exporter.drain(final=True)
        assert state == random.getstate()
    assert ["of the application"] == [message for message in warnings_of(caplog) if "otel_train" not in message]
    assert [] == [one for one in sdk.filters if "otel_train" in type(one).__module__]


def test_no_global_is_touched(log):
    """An export sets no provider and starts no thread."""
    before = threading.active_count()
    with OtlpReceiver() as receiver:
        threads = threading.active_count()
        targets = make_targets(log.identity, environ=environment(receiver))
        assert threads == threading.active_count()
        assert Exporter(log, targets).drain(final=True)
        assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
        assert "Proxy" in type(metrics.get_meter_provider()).__name__
    assert before <= threads


def test_an_error_of_ours_in_one_signal(log, monkeypatch, caplog):
    """It is reported once and the other signals are sent."""
    monkeypatch.delenv("OTEL_TRAIN_RAISE", raising=False)

    class Broken:
        where = "nowhere"

        def send(self, batch, resource):
            raise RuntimeError("broken")

    with OtlpReceiver() as receiver:
        working = make_targets(log.identity, environ=environment(receiver))
        exporter = Exporter(log, Targets(Broken(), working.metrics, working.logs))
        assert not exporter.drain(final=True)
        assert receiver.points("dl.step.count")
        assert {"traces": 1} == exporter.failures


def test_a_disk_that_takes_no_cursor(tmp_path, caplog, monkeypatch):
    """The export goes on, and one warning says that a later push may repeat it."""
    builder = run_of(LogBuilder(tmp_path), 3, 10 * MS)
    log = builder.log

    def refuse(name, content):
        raise OSError("read-only")

    monkeypatch.setattr(log.storage, "replace", refuse)
    with OtlpReceiver() as receiver:
        exporter = exporter_of(log, receiver)
        assert exporter.drain()
        assert exporter.drain(final=True)
        assert 1 == len(warnings_of(caplog))


def test_an_unused_port_is_really_closed():
    """The receiver's closed port refuses connections, as the tests above rely on."""
    with OtlpReceiver() as receiver:
        receiver.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", receiver.port), 1)
