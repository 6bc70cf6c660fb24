"""The GPUs of a run, each by itself: what its samples in ``resources.csv`` come to. ``hw.id`` tells them apart."""

from collections.abc import Mapping
from dataclasses import dataclass

from otel_train import resource_names as names
from otel_train.derive.resource_totals import ResourceTotal, together

GPU_SENSORS = ("gpu", "")
"""Values of ``hw.sensor_location`` that are the GPU's own temperature; another is its memory's."""


@dataclass(frozen=True)
class Device:
    """One GPU, or MIG instance. Means are of the samples while it trained; None is not sampled."""

    id: str
    name: str | None
    model: str | None
    own: bool
    """A rank of the run trains on it, as far as that is known."""
    utilization: float | None
    """The part of the time in which a kernel ran."""
    memory_mean_bytes: float | None
    memory_max_bytes: float | None
    memory_limit_bytes: float | None
    """Of all processes on it."""
    power_mean_w: float | None
    power_max_w: float | None
    power_limit_w: float | None
    temperature_mean_c: float | None
    temperature_max_c: float | None
    energy_j: float | None
    """What its counter rose by while it trained."""
    energy_s: float | None
    """Over which time: from the first sample of that time to the last one."""
    throttled_share: float | None
    """The part of the samples in which its clocks were held down, by the reason that held them down most."""

    @property
    def watts(self) -> float | None:
        """The mean power while it trained: by the energy counter, which misses nothing, or else by the samples."""
        return self.energy_j / self.energy_s if self.energy_j is not None and self.energy_s else self.power_mean_w


def devices(resources: Mapping[str, ResourceTotal]) -> list[Device]:
    """The GPUs among the columns, those that a rank trains on first."""
    by_id: dict[str, list[tuple[str, dict[str, str], ResourceTotal]]] = {}
    for column, total in resources.items():
        metric, pairs = names.series_of(column)
        attributes = dict(pairs)
        if names.HW_ID in attributes and metric.startswith(("hw.", "otel_train.gpu.")):
            by_id.setdefault(attributes[names.HW_ID], []).append((metric, attributes, total))
    found = [_device(identity, series) for identity, series in by_id.items()]
    return sorted(found, key=lambda device: (not device.own, device.name or "", device.id))


def _device(identity: str, series: list[tuple[str, dict[str, str], ResourceTotal]]) -> Device:
    def of(metric: str) -> ResourceTotal:
        return together(total for name, _, total in series if name == metric) or ResourceTotal(_NONE, _NONE)

    said: dict[str, str] = {key: value for _, attributes, _ in series for key, value in attributes.items()}
    temperature = together(
        total
        for name, attributes, total in series
        if name == names.HW_TEMPERATURE and attributes.get("hw.sensor_location", "") in GPU_SENSORS
    )
    throttled = [total.mean for name, _, total in series if name == names.GPU_THROTTLED and total.mean is not None]
    memory, power, energy = of(names.GPU_MEMORY_USAGE), of(names.HW_POWER), of(names.HW_ENERGY)
    return Device(
        identity, said.get("hw.name"), said.get("hw.model"), said.get(names.OWN_GPU) == "true",
        of(names.GPU_UTILIZATION).mean, memory.mean, _known(memory.max), _known(of(names.GPU_MEMORY_LIMIT).max),
        power.mean, _known(power.max), _known(of(names.GPU_POWER_LIMIT).last),
        temperature.mean if temperature else None, temperature.max if temperature else None,
        energy.rise, energy.rise_s or None, max(throttled, default=None),
    )  # fmt: skip


_NONE = float("-inf")
"""The highest of no samples."""


def _known(value: float) -> float | None:
    return None if value == _NONE else value
