"""What AMD's GPUs are doing, through ROCm's ``amdsmi``. UNTESTED ON HARDWARE: written from documents and sources.

Functions, fields and units are those of "AMD SMI Python API reference" (ROCm/amdsmi, ``docs/reference/
amdsmi-py-api.md``) and of ``py-interface/amdsmi_interface.py`` of ROCm 7.0. Where they leave a unit open or contradict
each other, torch's use in ``torch/cuda/__init__.py`` decides: memory in MiB, and temperature in degrees although the
document says thousandths. ``amdsmi_get_violation_status``, which would tell why clocks are held down, is left out: it
waits for a second sample of the hardware's counters.
"""

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from otel_train import resource_names as names
from otel_train.samplers.nvidia import HOST_PID_NAMESPACE, pid_namespace
from otel_train.samplers.nvidia_gpus import Value
from otel_train.samplers.own_gpu import own_gpu
from otel_train.samplers.sampler import Readings, SamplerUnavailable
from otel_train.samplers.totals import Totals
from otel_train.samplers.visible_devices import CUDA_VARIABLE, Gpu, Visible, visible_devices

GONE = ("AMDSMI_STATUS_NOT_INIT", "AMDSMI_STATUS_DRIVER_NOT_LOADED")
MISSING = "N/A"
"""What amdsmi returns for a number that the hardware does not have."""


class AmdSampler:
    """Like ``NvidiaSampler``: all visible devices with ``whole_host``, else the own one.

    Raises ``SamplerUnavailable`` where there is no ``amdsmi``, no driver or no GPU.
    """

    def __init__(
        self,
        whole_host: bool,
        own: Callable[[Visible], str | None] | None = None,
        library: Any = None,
        environ: Mapping[str, str] = os.environ,
        proc: Path = Path("/proc"),
    ) -> None:
        self._library = library if library is not None else _amdsmi()
        self._whole_host = whole_host
        self._own = own or (lambda visible: own_gpu(visible, environ))
        self._environ = environ
        self._totals = Totals()
        self._sees_all = pid_namespace(proc) == HOST_PID_NAMESPACE
        self._handles: dict[str, Any] = {}
        self._attributes: dict[str, dict[str, str]] = {}
        self._gpus: list[Gpu] = []
        try:
            self._connect()
        except self._library.AmdSmiException as error:
            raise SamplerUnavailable(f"no AMD GPU: {error}") from error
        if not self._gpus:
            raise SamplerUnavailable("no AMD GPU")

    def sample(self) -> Readings:
        """Raises ``AmdSmiException`` where the driver is gone; the next sample goes to it anew."""
        if not self._gpus:
            self._connect()
        visible = visible_amd_devices(self._gpus, self._environ)
        own = self._own(visible)
        readings: Readings = {}
        for gpu in visible.devices:
            if self._whole_host or gpu.uuid == own:
                readings |= self._read(gpu.uuid, {names.OWN_GPU: "true"} if gpu.uuid == own else {})
        return readings

    def _connect(self) -> None:
        self._library.amdsmi_init()
        found = [self._found(number, handle) for number, handle in enumerate(self._handles_now())]
        self._gpus = [gpu for _, gpu in sorted(found, key=lambda pair: pair[0])]

    def _handles_now(self) -> list[Any]:
        return list(self._library.amdsmi_get_processor_handles())

    def _found(self, number: int, handle: Any) -> tuple[int, Gpu]:
        """A GPU under the UUID by which it is made visible, and its number in HIP (ROCm 6.4 on, else the order)."""
        asic = self._library.amdsmi_get_gpu_asic_info(handle)
        uuid = "GPU-" + str(asic["asic_serial"]).lower().removeprefix("0x")
        known = self._ask("amdsmi_get_gpu_enumeration_info", handle) or {}
        self._handles[uuid] = handle
        self._attributes[uuid] = {
            names.HW_ID: self._library.amdsmi_get_gpu_device_uuid(handle),
            "hw.type": "gpu",
            "hw.name": f"GPU {number}",
            "hw.model": asic["market_name"],
        }
        place = known.get("hip_id", number)
        return place if isinstance(place, int) else number, Gpu(uuid, asic["market_name"])

    def _read(self, uuid: str, own: dict[str, str]) -> Readings:
        readings: Readings = {}
        for name, value, attributes in self._values(self._handles[uuid]):
            if names.RESOURCES[name].instrument == names.COUNTER:
                value = self._totals.since_first((name, uuid, tuple(attributes.items())), value)
            readings[names.series(name, **self._attributes[uuid], **own, **attributes)] = float(value)
        return readings

    def _values(self, handle: Any) -> Iterator[Value]:
        for read in (self._use, self._temperature, self._power, self._clocks, self._errors, self._processes):
            yield from read(handle)

    def _use(self, handle: Any) -> Iterator[Value]:
        activity = self._ask("amdsmi_get_gpu_activity", handle) or {}
        if (busy := _number(activity, "gfx_activity")) is not None:
            yield names.GPU_UTILIZATION, busy / 100, {"hw.gpu.task": "general"}
        if (busy := _number(activity, "umc_activity")) is not None:
            yield names.GPU_MEMORY_BANDWIDTH_UTILIZATION, busy / 100, {}
        memory = self._ask("amdsmi_get_gpu_vram_usage", handle) or {}
        used, total = _number(memory, "vram_used"), _number(memory, "vram_total")
        if used is not None and total:
            yield names.GPU_MEMORY_USAGE, used * 2**20, {}
            yield names.GPU_MEMORY_LIMIT, total * 2**20, {}
            yield names.GPU_MEMORY_UTILIZATION, used / total, {}

    def _temperature(self, handle: Any) -> Iterator[Value]:
        sensors, metrics = self._library.AmdSmiTemperatureType, self._library.AmdSmiTemperatureMetric
        for place, sensor in (("gpu", sensors.HOTSPOT), ("memory", sensors.VRAM)):
            degrees = self._ask("amdsmi_get_temp_metric", handle, sensor, metrics.CURRENT)
            if degrees:
                yield names.HW_TEMPERATURE, degrees, {"hw.sensor_location": place}
        for limit, metric in (("throttled", metrics.CRITICAL), ("critical", metrics.EMERGENCY)):
            degrees = self._ask("amdsmi_get_temp_metric", handle, sensors.HOTSPOT, metric)
            if degrees:
                yield names.HW_TEMPERATURE_LIMIT, degrees, {"hw.sensor_location": "gpu", "hw.limit_type": limit}

    def _power(self, handle: Any) -> Iterator[Value]:
        drawn = self._ask("amdsmi_get_power_info", handle) or {}
        for field in ("current_socket_power", "average_socket_power"):  # MI300 on, and before
            if watts := _number(drawn, field):
                yield names.HW_POWER, watts, {}
                break
        if cap := _number(self._power_cap(handle) or {}, "power_cap"):
            yield names.GPU_POWER_LIMIT, cap / 1e6, {}
        energy = self._ask("amdsmi_get_energy_count", handle) or {}
        count = _number(energy, "energy_accumulator")
        if count is not None:
            yield names.HW_ENERGY, count * energy["counter_resolution"] / 1e6, {}

    def _power_cap(self, handle: Any) -> Any:
        """Microwatts. After ROCm 7.0 the function asks for a sensor too, 0 being that of the package."""
        try:
            return self._ask("amdsmi_get_power_cap_info", handle)
        except TypeError:
            return self._ask("amdsmi_get_power_cap_info", handle, 0)

    def _clocks(self, handle: Any) -> Iterator[Value]:
        kinds = self._library.AmdSmiClkType
        for clock, kind in (("sm", kinds.GFX), ("memory", kinds.MEM)):
            if megahertz := _number(self._ask("amdsmi_get_clock_info", handle, kind) or {}, "clk"):
                yield names.GPU_CLOCK, megahertz * 1e6, {"otel_train.gpu.clock": clock}

    def _errors(self, handle: Any) -> Iterator[Value]:
        counts = self._ask("amdsmi_get_gpu_total_ecc_count", handle) or {}
        for kind, field in (("corrected", "correctable_count"), ("uncorrected", "uncorrectable_count")):
            if (count := _number(counts, field)) is not None:
                yield names.HW_ERRORS, count, {"error.type": kind}

    def _processes(self, handle: Any) -> Iterator[Value]:
        listed = self._ask("amdsmi_get_gpu_process_list", handle)
        if listed is not None and self._sees_all:
            yield names.GPU_PROCESSES, len(listed), {}
        for process in listed or ():
            if process["pid"] == os.getpid():
                yield names.GPU_PROCESS_MEMORY, process["memory_usage"]["vram_mem"], {}

    def _ask(self, function: str, *arguments: Any) -> Any:
        """What the function returns; None where the hardware, the driver or the package does not have it."""
        try:
            return getattr(self._library, function)(*arguments) if hasattr(self._library, function) else None
        except self._library.AmdSmiLibraryException as error:
            codes = [getattr(self._library.amdsmi_wrapper, name, None) for name in GONE]
            if error.get_error_code() in codes:
                self._gpus = []
                raise
            return None


def visible_amd_devices(gpus: list[Gpu], environ: Mapping[str, str]) -> Visible:
    """``ROCR_VISIBLE_DEVICES`` first; of what it leaves, ``HIP_VISIBLE_DEVICES``, else ``CUDA_VISIBLE_DEVICES``."""
    visible = Visible(tuple(gpus))
    hip = environ.get("HIP_VISIBLE_DEVICES", environ.get(CUDA_VARIABLE))
    for value in (environ.get("ROCR_VISIBLE_DEVICES"), hip):
        if value is not None:
            left = [device for device in visible.devices if isinstance(device, Gpu)]
            visible = visible_devices(left, {CUDA_VARIABLE: value, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    return visible


def _number(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    return None if value is None or value == MISSING else float(value)


def _amdsmi() -> Any:
    try:
        return importlib.import_module("amdsmi")
    except (ImportError, OSError, KeyError, AttributeError) as error:  # the last three: without ROCm's library
        raise SamplerUnavailable(f"amdsmi: {error!r}") from error
