"""The traffic of NVIDIA's GPUs over PCIe: the driver counts for 20 ms a direction, so at a pace of its own."""

from collections.abc import Iterator

from otel_train.resource_names import GPU_PCIE_RATE
from otel_train.samplers.nvidia_gpus import NvidiaGpus, SampledGpu, Value, read_each
from otel_train.samplers.sampler import Readings
from otel_train.samplers.totals import Totals


class NvidiaPcieSampler:
    """Bytes a second in 20 ms of the interval. Blocks for 42 ms a GPU (21 a direction on an H200), off the GIL."""

    def __init__(self, gpus: NvidiaGpus) -> None:
        self._gpus = gpus
        self._totals = Totals()

    def sample(self) -> Readings:
        """The rates of each GPU. Raises ``NVMLError`` where none answers."""
        return read_each(self._gpus, self._totals, rates)


def rates(gpu: SampledGpu) -> Iterator[Value]:
    """NVML has kB a second, as seen from the GPU: it receives what the host sends."""
    library = gpu.reader.library
    for direction, counter in (
        ("transmit", library.NVML_PCIE_UTIL_TX_BYTES),
        ("receive", library.NVML_PCIE_UTIL_RX_BYTES),
    ):
        kilobytes = gpu.reader.ask("nvmlDeviceGetPcieThroughput", counter)
        if kilobytes is not None:
            yield GPU_PCIE_RATE, kilobytes * 1000, {"network.io.direction": direction}
