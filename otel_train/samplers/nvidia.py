"""What NVIDIA's GPUs are doing: utilization, memory, temperature, power, clocks, errors, links, processes."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from otel_train import resource_names as names
from otel_train.samplers.nvidia_gpus import NvidiaGpus, SampledGpu, Value, read_each
from otel_train.samplers.nvidia_reader import ALL_LINKS, NvmlReader
from otel_train.samplers.sampler import Readings
from otel_train.samplers.totals import Totals
from otel_train.samplers.visible_devices import Instance

HOST_PID_NAMESPACE = "pid:[4026531836]"
"""The first PID namespace's number, the same in every Linux kernel (``PROC_PID_INIT_INO``)."""

THROTTLE_REASONS = {
    "sw_power_cap": "nvmlClocksEventReasonSwPowerCap",
    "hw_slowdown": "nvmlClocksEventReasonHwSlowdown",
    "sw_thermal_slowdown": "nvmlClocksEventReasonSwThermalSlowdown",
    "hw_thermal_slowdown": "nvmlClocksEventReasonHwThermalSlowdown",
    "hw_power_brake_slowdown": "nvmlClocksEventReasonHwPowerBrakeSlowdown",
    "sync_boost": "nvmlClocksEventReasonSyncBoost",
}
"""Those that hold clocks down. Not an idle GPU, nor clocks that somebody set."""

STATES = ("ok", "degraded", "predicted_failure", "failed")


class NvidiaSampler:
    """A GPU costs 15 calls of 2 to 12 µs (H200), and 80 µs of our own.

    Raises ``NVMLError`` where no GPU answers, and goes to the driver anew the next time.
    """

    def __init__(self, gpus: NvidiaGpus, proc: Path = Path("/proc"), pid: int | None = None) -> None:
        self._gpus = gpus
        self._totals = Totals()
        self._pid = pid if pid is not None else os.getpid()
        self._is_listed = False
        self._sees_all = pid_namespace(proc) == HOST_PID_NAMESPACE

    def sample(self) -> Readings:
        """Utilization, memory, temperature, power, clocks, throttling, errors, NVLink and processes of each."""
        try:
            return read_each(self._gpus, self._totals, self._values, _lost)
        except self._gpus.library.NVMLError:
            self._gpus.disconnect()
            raise

    def _values(self, gpu: SampledGpu) -> Iterator[Value]:
        """MIG instances have memory and processes of their own, and the rest together with their GPU."""
        yield from memory(gpu.reader)
        yield from self._processes(gpu.reader)
        if not isinstance(gpu.device, Instance):
            for read in (utilization, temperature, power, clocks, throttling, errors, links):
                yield from read(gpu.reader)

    def _processes(self, gpu: NvmlReader) -> Iterator[Value]:
        """In a container the driver lists what it will, often nothing: a count needs this process in a list, too."""
        listed = gpu.ask_first(
            ("nvmlDeviceGetComputeRunningProcesses_v3",), ("nvmlDeviceGetComputeRunningProcesses_v2",)
        )
        if listed is None:
            return
        mine = [process for process in listed if process.pid == self._pid]
        self._is_listed = self._is_listed or bool(mine)
        if self._sees_all and self._is_listed:
            yield names.GPU_PROCESSES, len({process.pid for process in listed}), {}
        if mine and mine[0].usedGpuMemory is not None:  # None under Windows
            yield names.GPU_PROCESS_MEMORY, mine[0].usedGpuMemory, {}


def utilization(gpu: NvmlReader) -> Iterator[Value]:
    """Of the driver's last sampling period, a sixth of a second to a second. Not with MIG."""
    rates = gpu.ask("nvmlDeviceGetUtilizationRates")
    if rates is not None:
        yield names.GPU_UTILIZATION, rates.gpu / 100, {"hw.gpu.task": "general"}
        yield names.GPU_MEMORY_BANDWIDTH_UTILIZATION, rates.memory / 100, {}


def memory(gpu: NvmlReader) -> Iterator[Value]:
    """Used is what ``nvidia-smi`` shows: without what the driver keeps for itself, hundreds of MiB.

    That is version 2 of the call (driver 510 on); the first counts the driver's part as used.
    """
    second = ("nvmlDeviceGetMemoryInfo", gpu.constant("nvmlMemory_v2"))
    info = gpu.ask_first(second, ("nvmlDeviceGetMemoryInfo",))
    if info is not None:
        yield names.GPU_MEMORY_USAGE, info.used, {}
        yield names.GPU_MEMORY_LIMIT, info.total, {}
    if info is not None and info.total:
        yield names.GPU_MEMORY_UTILIZATION, info.used / info.total, {}


def temperature(gpu: NvmlReader) -> Iterator[Value]:
    """Of the chip and of its memory; and the temperatures at which it slows down, and at which it shuts down."""
    sensor = gpu.library.NVML_TEMPERATURE_GPU
    chip = gpu.ask_first(("nvmlDeviceGetTemperatureV", sensor), ("nvmlDeviceGetTemperature", sensor))
    if chip is not None:
        yield names.HW_TEMPERATURE, chip, {"hw.sensor_location": "gpu"}
    memory_temperature = gpu.fields("NVML_FI_DEV_MEMORY_TEMP")
    if memory_temperature:  # 0 where the memory has no sensor
        yield names.HW_TEMPERATURE, memory_temperature, {"hw.sensor_location": "memory"}
    if chip is None:  # the limits are remembered: they alone would pass for an answer
        return
    for limit, threshold in (("throttled", "SLOWDOWN"), ("critical", "SHUTDOWN")):
        kind = gpu.constant(f"NVML_TEMPERATURE_THRESHOLD_{threshold}")
        degrees = gpu.ask_once("nvmlDeviceGetTemperatureThreshold", kind)
        if degrees is not None:
            yield names.HW_TEMPERATURE_LIMIT, degrees, {"hw.sensor_location": "gpu", "hw.limit_type": limit}


def power(gpu: NvmlReader) -> Iterator[Value]:
    """Drawn, and the limit in force: the lowest of those that anyone set. NVML has milliwatts."""
    for name, function in (
        (names.HW_POWER, "nvmlDeviceGetPowerUsage"),
        (names.GPU_POWER_LIMIT, "nvmlDeviceGetEnforcedPowerLimit"),
    ):
        milliwatts = gpu.ask(function)
        if milliwatts is not None:
            yield name, milliwatts / 1000, {}


def clocks(gpu: NvmlReader) -> Iterator[Value]:
    """Of the multiprocessors and the memory. NVML has MHz."""
    for clock, kind in (("sm", gpu.library.NVML_CLOCK_SM), ("memory", gpu.library.NVML_CLOCK_MEM)):
        megahertz = gpu.ask("nvmlDeviceGetClockInfo", kind)
        if megahertz is not None:
            yield names.GPU_CLOCK, megahertz * 1e6, {"otel_train.gpu.clock": clock}


def throttling(gpu: NvmlReader) -> Iterator[Value]:
    """Each reason, whether it holds or not: a reason without a value is not known."""
    reasons = gpu.ask_first(  # the second name is that of drivers before 535
        ("nvmlDeviceGetCurrentClocksEventReasons",), ("nvmlDeviceGetCurrentClocksThrottleReasons",)
    )
    if reasons is not None:
        for reason, constant in THROTTLE_REASONS.items():
            held = bool(reasons & getattr(gpu.library, constant))
            yield names.GPU_THROTTLED, float(held), {"otel_train.gpu.throttle.reason": reason}


def errors(gpu: NvmlReader) -> Iterator[Value]:
    """ECC errors since the driver was loaded, rows of memory taken out of use, and the state that follows from them."""
    volatile = gpu.library.NVML_VOLATILE_ECC
    kinds = {
        "corrected": gpu.library.NVML_MEMORY_ERROR_TYPE_CORRECTED,
        "uncorrected": gpu.library.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
    }
    counts = {kind: gpu.ask("nvmlDeviceGetTotalEccErrors", code, volatile) for kind, code in kinds.items()}
    rows = gpu.ask("nvmlDeviceGetRemappedRows")
    for kind, count in counts.items():
        if count is not None:
            yield names.HW_ERRORS, count, {"error.type": kind}
    if rows is not None:
        for kind, remapped in zip(kinds, rows, strict=False):
            yield names.GPU_REMAPPED_ROWS, remapped, {"error.type": kind}
        for state, holds in zip(("pending", "failure"), rows[2:], strict=True):
            yield names.GPU_ROW_REMAPPING, float(bool(holds)), {"otel_train.gpu.row_remapping.state": state}
    if rows is not None or counts["uncorrected"] is not None:
        yield from status(_state(counts["uncorrected"], rows))


def _state(uncorrected: int | None, rows: Any) -> str:
    """A failed remapping asks for a new GPU, a pending one and errors that could not be corrected for a reset."""
    _, _, pending, failure = rows if rows is not None else (0, 0, 0, 0)
    if failure:
        return "predicted_failure"
    return "degraded" if pending or uncorrected else "ok"


def status(now: str) -> Iterator[Value]:
    """1 for the state it is in, 0 for the others."""
    for state in STATES:
        yield names.HW_STATUS, float(state == now), {"hw.state": state}


def links(gpu: NvmlReader) -> Iterator[Value]:
    """Payload over all NVLinks: one sum where the driver gives one, else link by link."""
    each = tuple(range(gpu.library.NVML_NVLINK_MAX_LINKS))
    for sent, received, scopes, unit in (
        ("NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX", "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX", (ALL_LINKS,), 1024),
        ("NVML_FI_DEV_NVLINK_COUNT_XMIT_BYTES", "NVML_FI_DEV_NVLINK_COUNT_RCV_BYTES", (ALL_LINKS,), 1),  # NVLink 5
        ("NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX", "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX", each, 1024),
    ):
        for direction, field in (("transmit", sent), ("receive", received)):
            total = gpu.fields(field, scopes)
            if total is not None:
                yield names.GPU_LINK_IO, total * unit, {"network.io.direction": direction}
        if not gpu.lacks_fields(sent, scopes):
            return


def _lost(gpu: SampledGpu) -> Iterator[Value]:
    return status("failed")


def pid_namespace(proc: Path) -> str | None:
    """The name of the PID namespace that this process is in; None where there is no such thing."""
    try:
        return os.readlink(proc / "self" / "ns" / "pid")
    except OSError:  # no Linux
        return None
