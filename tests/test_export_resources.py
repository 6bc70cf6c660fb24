"""Resource samples as a backend, and an application's own meter, receive them."""

import pytest
from export_setup import SECOND, LogBuilder, attributes, exporter_of, run_of, sent
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from otlp_receiver import OtlpReceiver

from otel_train import resource_names as names
from otel_train.export import Exporter, make_targets
from otel_train.resource_names import series

POWER = series(names.HW_POWER, hw__id="GPU-1", hw__type="gpu")
MEMORY = series(names.GPU_MEMORY_USAGE, hw__id="GPU-1", hw__type="gpu")
ENERGY = series(names.HW_ENERGY, hw__id="GPU-1", hw__type="gpu")


def sampled(tmp_path, seconds=30):
    """Half a minute of steps of a second, a sample every five."""
    builder = LogBuilder(tmp_path)
    for second in range(0, seconds, 5):
        run_of(builder, 5, SECOND)
        builder.resources((second + 4) * SECOND, {POWER: 600 + second, MEMORY: 1000 + second, ENERGY: 3000.0 * second})
    return builder


def by_name(receiver):
    return {metric.name: metric for metric in receiver.metrics}


@pytest.mark.parametrize("preference", ["cumulative", "delta"])
def test_instruments_and_units_are_the_conventions(tmp_path, preference):
    """A gauge's last value, a counter's rise, and bytes in use as a sum that is cumulative whatever is preferred."""
    environ = {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": preference}
    with sent(sampled(tmp_path).log, **environ) as receiver:
        metrics = by_name(receiver)
        power, memory, energy = (receiver.points(key[0]) for key in (POWER, MEMORY, ENERGY))
    assert {"hw.id": "GPU-1", "hw.type": "gpu"} == attributes(power[0])
    assert [605, 615, 625] == [point.as_double for point in power]
    assert [1005, 1015, 1025] == [point.as_double for point in memory]
    total = [15_000, 45_000, 75_000] if preference == "cumulative" else [15_000, 30_000, 30_000]
    assert total == [point.as_double for point in energy]
    assert ("W", "By", "J") == tuple(metrics[key[0]].unit for key in (POWER, MEMORY, ENERGY))
    used, spent = metrics[MEMORY[0]].sum, metrics[ENERGY[0]].sum
    assert (False, 2) == (used.is_monotonic, used.aggregation_temporality)
    assert (True, 2 if preference == "cumulative" else 1) == (spent.is_monotonic, spent.aggregation_temporality)
    assert metrics[POWER[0]].HasField("gauge")


def test_samples_are_sent_while_nothing_steps(tmp_path):
    """A run that hangs goes on telling what its machine does."""
    builder = run_of(LogBuilder(tmp_path), 1, SECOND)
    for second in range(5, 45, 5):
        builder.resources(second * SECOND, {POWER: second})
    with OtlpReceiver() as receiver:
        exporter = exporter_of(builder.log, receiver)
        assert exporter.drain()
        exporter.release()
        assert [10, 20, 30] == [point.as_double for point in receiver.points(names.HW_POWER)]


def test_a_missing_value_is_no_point(tmp_path):
    """A GPU that fell off the bus: no zero, no last good value."""
    builder = sampled(tmp_path, 10)
    run_of(builder, 10, SECOND)
    builder.resources(15 * SECOND, {MEMORY: 5})
    with sent(builder.log) as receiver:
        assert 1 == len(receiver.points(names.HW_POWER))
        assert 2 == len(receiver.points(names.GPU_MEMORY_USAGE))


def test_an_application_has_observable_instruments(tmp_path):
    """Gauge, counter and up-down counter on its own meter; what is not sampled any more is not observed."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    builder = sampled(tmp_path)
    exporter = Exporter(builder.log, make_targets({}, environ={}, meter_provider=provider))
    assert exporter.drain(final=True)

    def observed():
        data = reader.get_metrics_data()
        return {metric.name: metric for resource in data.resource_metrics for scope in resource.scope_metrics
                for metric in scope.metrics}  # fmt: skip

    seen = observed()
    kinds = [type(seen[key[0]].data).__name__ for key in (POWER, MEMORY, ENERGY)]
    assert ["Gauge", "Sum", "Sum"] == kinds
    assert [False, True] == [seen[key[0]].data.is_monotonic for key in (MEMORY, ENERGY)]
    assert 75_000 == seen[ENERGY[0]].data.data_points[0].value
    assert "By" == seen[MEMORY[0]].unit
    run_of(builder, 20, SECOND)
    assert exporter.drain(final=True)
    assert {ENERGY[0]} == {key[0] for key in (POWER, MEMORY, ENERGY) if key[0] in observed()}
