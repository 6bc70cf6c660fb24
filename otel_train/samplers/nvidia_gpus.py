"""The NVIDIA GPUs that this process samples, over one connection to the driver (NVML, through nvidia-ml-py)."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from otel_train.resource_names import COUNTER, HW_ID, OWN_GPU, RESOURCES, series
from otel_train.samplers.nvidia_reader import NvmlReader
from otel_train.samplers.own_gpu import own_gpu
from otel_train.samplers.sampler import Readings, SamplerUnavailable
from otel_train.samplers.totals import Totals
from otel_train.samplers.visible_devices import Gpu, Instance, Visible, named, visible_devices

Value: TypeAlias = tuple[str, float, dict[str, str]]
"""A metric, its value, and the attributes beside the device's own. A counter's value is the driver's own total."""


@dataclass(frozen=True)
class SampledGpu:
    """A GPU or MIG instance to read, and the attributes of all its series."""

    device: Gpu | Instance
    attributes: dict[str, str]
    reader: NvmlReader


class NvidiaGpus:
    """Chooses what to read, and holds the connection, which all samplers of NVIDIA's GPUs share.

    One connection, because NVML counts its users: only when the last one leaves does the next ``nvmlInit`` look at the
    driver anew. For one thread.

    ``whole_host``: this is the process of its run that samples the host: all visible devices, and the GPUs that visible
    MIG instances are part of. Otherwise the own device alone, none before it is known. ``own`` tells its UUID.

    Raises ``SamplerUnavailable`` where there is no driver, no permission, or no GPU.
    """

    def __init__(
        self,
        whole_host: bool,
        own: Callable[[Visible], str | None] | None = None,
        library: Any = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.library = library if library is not None else _pynvml()
        self.connections = 0
        """How many times the driver was reached: what was made of an earlier connection is void."""
        self._whole_host = whole_host
        self._own = own or (lambda visible: own_gpu(visible, environ))
        self._environ = environ
        self._connected = False
        self._gpus: list[Gpu] = []
        self._readers: dict[str, NvmlReader] = {}
        self._driver = ""
        try:
            self._connect()
        except self.library.NVMLError as error:
            raise SamplerUnavailable(f"no NVIDIA GPU: {error}") from error
        if not self._gpus:
            self.disconnect()
            raise SamplerUnavailable("no NVIDIA GPU that this process can reach")

    def sampled(self) -> list[SampledGpu]:
        """What to read now. Raises ``NVMLError`` where the driver cannot be reached."""
        if not self._connected:
            self._connect()
        visible = visible_devices(self._gpus, self._environ, self._driver)
        uuid = self._own(visible)
        own = named(visible.devices, uuid) if uuid else None
        if not self._whole_host:
            return [self._sampled(own, own)] if own else []
        parents = {device.parent for device in visible.devices if isinstance(device, Instance)}
        return [self._sampled(device, own) for device in (*self._of(parents), *visible.devices)]

    def disconnect(self) -> None:
        """Leave the driver; the next ``sampled()`` goes to it anew."""
        if self._connected:
            self._connected = False
            with suppress(self.library.NVMLError):  # a driver that is gone cannot be left
                self.library.nvmlShutdown()

    def _connect(self) -> None:
        self.library.nvmlInit()
        self._connected = True
        self.connections += 1
        self._readers.clear()
        self._driver = _text(self.library.nvmlSystemGetDriverVersion())
        self._gpus = []
        trouble: Exception | None = None
        for index in range(self.library.nvmlDeviceGetCount()):
            try:
                self._gpus.append(self._found(index))
            except self.library.NVMLError as error:  # lost, or not this container's: CUDA does not count it either
                trouble = error
        if trouble is not None and not self._gpus:
            self.disconnect()
            raise trouble

    def _found(self, index: int) -> Gpu:
        handle = self.library.nvmlDeviceGetHandleByIndex(index)
        uuid, model = _text(self.library.nvmlDeviceGetUUID(handle)), _text(self.library.nvmlDeviceGetName(handle))
        reader = NvmlReader(self.library, handle)
        self._readers[uuid] = reader
        mode = reader.ask("nvmlDeviceGetMigMode")
        on = mode is not None and mode[0] == self.library.NVML_DEVICE_MIG_ENABLE
        return Gpu(uuid, model, tuple(self._instances(reader, uuid)) if on else None)

    def _instances(self, gpu: NvmlReader, parent: str) -> Iterator[Instance]:
        for place in range(gpu.ask("nvmlDeviceGetMaxMigDeviceCount") or 0):
            try:
                handle = self.library.nvmlDeviceGetMigDeviceHandleByIndex(gpu.handle, place)
            except self.library.NVMLError_NotFound:  # a place without an instance
                continue
            uuid = _text(self.library.nvmlDeviceGetUUID(handle))
            self._readers[uuid] = NvmlReader(self.library, handle)
            numbers = self.library.nvmlDeviceGetGpuInstanceId, self.library.nvmlDeviceGetComputeInstanceId
            yield Instance(uuid, parent, *(number(handle) for number in numbers))

    def _of(self, uuids: set[str]) -> list[Gpu]:
        return [gpu for gpu in self._gpus if gpu.uuid in uuids]

    def _sampled(self, device: Gpu | Instance, own: Gpu | Instance | None) -> SampledGpu:
        parent = device.parent if isinstance(device, Instance) else None
        index, gpu = next((n, gpu) for n, gpu in enumerate(self._gpus) if gpu.uuid == (parent or device.uuid))
        attributes = {HW_ID: device.uuid, "hw.type": "gpu", "hw.name": f"GPU {index}", "hw.model": gpu.model}
        attributes |= {"hw.parent": parent} if parent else {}
        attributes |= {OWN_GPU: "true"} if device == own else {}
        return SampledGpu(device, attributes, self._readers[device.uuid])


def read_each(
    gpus: NvidiaGpus,
    totals: Totals,
    values: Callable[[SampledGpu], Iterable[Value]],
    when_lost: Callable[[SampledGpu], Iterable[Value]] = lambda gpu: (),
) -> Readings:
    """The values of each device; of one that is lost among others what ``when_lost`` says.

    Raises ``NVMLError`` where nothing could be read and a device failed to answer.
    """
    readings: Readings = {}
    lost: list[SampledGpu] = []
    trouble: Exception | None = None
    for gpu in gpus.sampled():
        gpu.reader.trouble = None
        try:
            found = _readings(gpu, totals, values)
        except gpus.library.NVMLError as error:
            trouble = error
            lost.append(gpu)
        else:
            readings |= found
            trouble = gpu.reader.trouble or trouble
    if trouble is not None and not readings:
        raise trouble
    for gpu in lost:
        readings |= _readings(gpu, totals, when_lost)
    return readings


def _readings(gpu: SampledGpu, totals: Totals, values: Callable[[SampledGpu], Iterable[Value]]) -> Readings:
    readings: Readings = {}
    for name, value, attributes in values(gpu):
        if RESOURCES[name].instrument == COUNTER:
            key = (name, gpu.device.uuid, tuple(attributes.items()))  # without `own`, which may become known later
            value = totals.since_first(key, value)
        readings[series(name, **gpu.attributes, **attributes)] = float(value)
    return readings


def _pynvml() -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise SamplerUnavailable("nvidia-ml-py is not installed") from error
    return pynvml


def _text(value: "str | bytes") -> str:
    return value.decode() if isinstance(value, bytes) else value
