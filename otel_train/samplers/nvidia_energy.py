"""The energy that NVIDIA's GPUs used: 3 ms a GPU, so at a slower pace than the rest."""

from collections.abc import Iterator

from otel_train.resource_names import HW_ENERGY
from otel_train.samplers.nvidia_gpus import NvidiaGpus, SampledGpu, Value, read_each
from otel_train.samplers.sampler import Readings
from otel_train.samplers.totals import Totals


class NvidiaEnergySampler:
    """Joules since the first sample. Measured on an H200: 3.2 ms, at worst 17. Absent before Volta and with MIG."""

    def __init__(self, gpus: NvidiaGpus) -> None:
        self._gpus = gpus
        self._totals = Totals()

    def sample(self) -> Readings:
        """The energy of each GPU. Raises ``NVMLError`` where none answers."""
        return read_each(self._gpus, self._totals, energy)


def energy(gpu: SampledGpu) -> Iterator[Value]:
    """Since the driver was loaded. NVML has millijoules."""
    millijoules = gpu.reader.ask("nvmlDeviceGetTotalEnergyConsumption")
    if millijoules is not None:
        yield HW_ENERGY, millijoules / 1000, {}
