"""A driver for pynvml to talk to: NVML's C functions over machines made up here.

The real ``pynvml`` runs on top of it, with its structures, constants and exceptions, so that shape and types of what a
sampler gets are nvidia-ml-py's own. The figures are those of an H200 under driver 580 (150,754,820,096 bytes, 700 W).
"""

import ctypes
from dataclasses import dataclass, field

import pynvml

TOTAL = 150_754_820_096
RESERVED = 603_979_776
USED = 41_943_040_000
UUID = "GPU-8b9ad3c1-4f0e-6f4b-9c5e-0d1f2a3b4c5d"
SECOND = "GPU-1c2d3e4f-aaaa-bbbb-cccc-0123456789ab"
SLICES = ("MIG-c788539f-c1ea-5a36-8b4d-9b07d024b1bb", "MIG-b4b2228d-6933-5839-bc0e-41ab9edb61c6")


@dataclass
class Slice:
    """A MIG instance."""

    uuid: str
    gpu_instance: int
    compute_instance: int = 0
    used: int = 5_000_000_000
    total: int = 18_790_481_920


@dataclass
class Card:
    """A GPU as it is now. ``refused``: NVML's code by the name of the C function, or of a field."""

    uuid: str = UUID
    name: str = "NVIDIA H200"
    gpu: int = 87
    bandwidth: int = 42
    used: int = USED
    degrees: int = 61
    memory_degrees: int = 68
    milliwatts: int = 482_317
    sm_mhz: int = 1_980
    memory_mhz: int = 3_201
    reasons: int = pynvml.nvmlClocksEventReasonSwPowerCap | pynvml.nvmlClocksEventReasonApplicationsClocksSetting
    corrected: int = 3
    uncorrected: int = 0
    rows: tuple[int, int, int, int] = (1, 0, 0, 0)
    millijoules: int = 91_234_567_890
    link_kib: int = 5_000_000
    processes: dict[int, int] = field(default_factory=dict)
    slices: list[Slice] | None = None
    xids: list[int] = field(default_factory=list)
    refused: dict[object, int] = field(default_factory=dict)
    lost: bool = False


class Function:
    """A C function as ctypes has it: it can be called, and take attributes such as ``restype``."""

    def __init__(self, call):
        self.call = call

    def __call__(self, *arguments):
        return self.call(*arguments)


class Driver:
    """The machine's driver. ``users`` counts inits; ``missing`` are functions that it is too old to have."""

    def __init__(self, *cards, missing=("nvmlDeviceGetTemperatureV",), version="580.82.07"):
        self.cards = list(cards)
        self.missing = set(missing)
        self.version = version
        self.refuses_init = 0
        self.users = 0
        self.inits = 0
        self.asked = []
        self.sets = {}

    def install(self, monkeypatch):
        """Put this driver under pynvml for the test; returns pynvml."""
        monkeypatch.setattr(pynvml, "_LoadNvmlLibrary", lambda: None)
        monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer", self.function)
        return pynvml

    def function(self, name):
        if name in self.missing or not hasattr(self, name):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        return Function(lambda *arguments: self.answer(name, arguments))

    def answer(self, name, arguments):
        """The C function's return code: the state of driver and device decides before the function does."""
        self.asked.append(name)
        if name != "nvmlInitWithFlags" and not self.users:
            return pynvml.NVML_ERROR_UNINITIALIZED
        if name.startswith("nvmlDevice") and isinstance(arguments[0], pynvml.c_nvmlDevice_t):
            card = self.device(arguments[0])
            card = self.parent(card) if isinstance(card, Slice) else card
            if card.lost:
                return pynvml.NVML_ERROR_GPU_IS_LOST
            if name in card.refused:
                return card.refused[name]
        return getattr(self, name)(*arguments) or pynvml.NVML_SUCCESS

    def devices(self):
        return [device for card in self.cards for device in (card, *(card.slices or ()))]

    def device(self, handle):
        return self.devices()[ctypes.cast(handle, ctypes.c_void_p).value // 4096 - 1]

    def parent(self, part):
        return next(card for card in self.cards if part in (card.slices or ()))

    def put_handle(self, device, out):
        place = next(place for place, known in enumerate(self.devices(), 1) if known is device)
        out._obj.contents = pynvml.struct_c_nvmlDevice_t.from_address(place * 4096)

    # The library

    def nvmlInitWithFlags(self, flags):  # noqa: N802  this and what follows are NVML's names
        if self.refuses_init:
            return self.refuses_init
        self.users += 1
        self.inits += 1
        return None

    def nvmlShutdown(self):  # noqa: N802
        self.users -= 1

    def nvmlSystemGetDriverVersion(self, out, size):  # noqa: N802
        out.value = self.version.encode()

    # Devices

    def nvmlDeviceGetCount_v2(self, out):  # noqa: N802
        out._obj.value = len(self.cards)

    def nvmlDeviceGetHandleByIndex_v2(self, index, out):  # noqa: N802
        if index.value >= len(self.cards):
            return pynvml.NVML_ERROR_INVALID_ARGUMENT
        card = self.cards[index.value]
        if "nvmlDeviceGetHandleByIndex_v2" in card.refused:
            return card.refused["nvmlDeviceGetHandleByIndex_v2"]
        return self.put_handle(card, out)

    def nvmlDeviceGetUUID(self, handle, out, size):  # noqa: N802
        out.value = self.device(handle).uuid.encode()

    def nvmlDeviceGetName(self, handle, out, size):  # noqa: N802
        out.value = self.device(handle).name.encode()

    # MIG

    def nvmlDeviceGetMigMode(self, handle, current, pending):  # noqa: N802
        current._obj.value = pending._obj.value = int(self.device(handle).slices is not None)

    def nvmlDeviceGetMaxMigDeviceCount(self, handle, out):  # noqa: N802
        out._obj.value = 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle, index, out):  # noqa: N802
        slices = self.device(handle).slices
        if index.value % 2 or index.value // 2 >= len(slices):  # every other place is empty
            return pynvml.NVML_ERROR_NOT_FOUND
        return self.put_handle(slices[index.value // 2], out)

    def nvmlDeviceGetGpuInstanceId(self, handle, out):  # noqa: N802
        out._obj.value = self.device(handle).gpu_instance

    def nvmlDeviceGetComputeInstanceId(self, handle, out):  # noqa: N802
        out._obj.value = self.device(handle).compute_instance

    # Values

    def nvmlDeviceGetUtilizationRates(self, handle, out):  # noqa: N802
        card = self.device(handle)
        if isinstance(card, Slice) or card.slices is not None:
            return pynvml.NVML_ERROR_NOT_SUPPORTED
        out._obj.gpu, out._obj.memory = card.gpu, card.bandwidth
        return None

    def nvmlDeviceGetMemoryInfo(self, handle, out):  # noqa: N802
        device = self.device(handle)
        out._obj.total, out._obj.used = getattr(device, "total", TOTAL), device.used + RESERVED

    def nvmlDeviceGetMemoryInfo_v2(self, handle, out):  # noqa: N802
        if out._obj.version != pynvml.nvmlMemory_v2:
            return pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH
        device = self.device(handle)
        out._obj.total, out._obj.used, out._obj.reserved = getattr(device, "total", TOTAL), device.used, RESERVED
        return None

    def nvmlDeviceGetTemperature(self, handle, sensor, out):  # noqa: N802
        out._obj.value = self.device(handle).degrees

    def nvmlDeviceGetTemperatureV(self, handle, out):  # noqa: N802
        out._obj.temperature = self.device(handle).degrees

    def nvmlDeviceGetTemperatureThreshold(self, handle, threshold, out):  # noqa: N802
        out._obj.value = {
            pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN: 92,
            pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN: 89,
        }[threshold.value]

    def nvmlDeviceGetPowerUsage(self, handle, out):  # noqa: N802
        out._obj.value = self.device(handle).milliwatts

    def nvmlDeviceGetEnforcedPowerLimit(self, handle, out):  # noqa: N802
        out._obj.value = 700_000

    def nvmlDeviceGetClockInfo(self, handle, kind, out):  # noqa: N802
        card = self.device(handle)
        out._obj.value = {pynvml.NVML_CLOCK_SM: card.sm_mhz, pynvml.NVML_CLOCK_MEM: card.memory_mhz}[kind.value]

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle, out):  # noqa: N802
        out._obj.value = self.device(handle).reasons

    nvmlDeviceGetCurrentClocksThrottleReasons = nvmlDeviceGetCurrentClocksEventReasons  # noqa: N815

    def nvmlDeviceGetTotalEccErrors(self, handle, kind, counter, out):  # noqa: N802
        card = self.device(handle)
        assert counter.value == pynvml.NVML_VOLATILE_ECC
        uncorrected = kind.value == pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
        out._obj.value = card.uncorrected if uncorrected else card.corrected

    def nvmlDeviceGetRemappedRows(self, handle, *outs):  # noqa: N802
        for out, value in zip(outs, self.device(handle).rows, strict=True):
            out._obj.value = value

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle, count, out):  # noqa: N802
        processes = getattr(self.device(handle), "processes", {})
        room, count._obj.value = count._obj.value, len(processes)
        if room < len(processes):
            return pynvml.NVML_ERROR_INSUFFICIENT_SIZE
        for slot, (pid, used) in zip(out or (), processes.items(), strict=False):
            slot.pid, slot.usedGpuMemory = pid, used
        return None

    def nvmlDeviceGetFieldValues(self, handle, count, out):  # noqa: N802
        card = self.device(handle)
        for value in out._obj:
            known = {
                pynvml.NVML_FI_DEV_MEMORY_TEMP: (pynvml.NVML_VALUE_TYPE_UNSIGNED_INT, "uiVal", card.memory_degrees),
                pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX: (3, "ullVal", card.link_kib),
                pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX: (3, "ullVal", 2 * card.link_kib),
                pynvml.NVML_FI_DEV_NVLINK_COUNT_XMIT_BYTES: (3, "ullVal", 1024 * card.link_kib),
                pynvml.NVML_FI_DEV_NVLINK_COUNT_RCV_BYTES: (3, "ullVal", 2048 * card.link_kib),
            }
            refused = card.refused.get((value.fieldId, value.scopeId), card.refused.get(value.fieldId, 0))
            value.nvmlReturn = refused
            if not refused:
                value.valueType, member, number = known[value.fieldId]
                setattr(value.value, member, number)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, out):  # noqa: N802
        out._obj.value = self.device(handle).millijoules

    def nvmlDeviceGetPcieThroughput(self, handle, counter, out):  # noqa: N802
        out._obj.value = {pynvml.NVML_PCIE_UTIL_TX_BYTES: 12_500, pynvml.NVML_PCIE_UTIL_RX_BYTES: 845_000}[
            counter.value
        ]

    # Events

    def nvmlEventSetCreate(self, out):  # noqa: N802
        address = 4096 * (1000 + len(self.sets))
        self.sets[address] = []
        out._obj.contents = pynvml.struct_c_nvmlEventSet_t.from_address(address)

    def nvmlDeviceRegisterEvents(self, handle, kinds, events):  # noqa: N802
        assert kinds.value == pynvml.nvmlEventTypeXidCriticalError
        if isinstance(self.device(handle), Slice):
            return pynvml.NVML_ERROR_INVALID_ARGUMENT
        self.sets[ctypes.cast(events, ctypes.c_void_p).value].append(self.device(handle))
        return None

    def nvmlEventSetWait_v2(self, events, data, timeout):  # noqa: N802
        assert timeout.value == 0
        for card in self.sets[ctypes.cast(events, ctypes.c_void_p).value]:
            if card.xids:
                data._obj.eventType, data._obj.eventData = pynvml.nvmlEventTypeXidCriticalError, card.xids.pop(0)
                return None
            if card.lost:
                return pynvml.NVML_ERROR_GPU_IS_LOST
        return pynvml.NVML_ERROR_TIMEOUT

    def nvmlEventSetFree(self, events):  # noqa: N802
        del self.sets[ctypes.cast(events, ctypes.c_void_p).value]
