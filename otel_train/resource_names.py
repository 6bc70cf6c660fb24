"""Every resource metric: its name, instrument, unit and meaning, in one place.

Names, instruments and units are those of OpenTelemetry's semantic conventions 1.44 (``hw.*``, ``system.*``,
``process.*``) where they have one; what they lack is under ``otel_train.*``. Ratios are 0 to 1, sizes bytes, times
seconds. Counters count from the first sample of the run on.

A *series* is a metric with its attributes; a column of ``resources.csv`` is a series, named as ``column()`` says.
"""

import functools
import re
from dataclasses import dataclass
from typing import TypeAlias

Series: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""A metric's name, and its attributes in the order of their keys. The same as ``derive.aggregate.Key``."""

GAUGE, COUNTER, UP_DOWN = "gauge", "counter", "updowncounter"
"""OpenTelemetry's observable instruments: a last value; a total that only grows; a total that parts add up to."""


@dataclass(frozen=True)
class Resource:
    """What is known of a resource metric."""

    instrument: str
    unit: str
    meaning: str


# The GPU. Each series has ``hw.id`` (the GPU's UUID, or its MIG instance's).
GPU_UTILIZATION = "hw.gpu.utilization"
GPU_MEMORY_USAGE = "hw.gpu.memory.usage"
GPU_MEMORY_LIMIT = "hw.gpu.memory.limit"
GPU_MEMORY_UTILIZATION = "hw.gpu.memory.utilization"
HW_ERRORS = "hw.errors"
HW_STATUS = "hw.status"
HW_ENERGY = "hw.energy"
HW_POWER = "hw.power"
HW_TEMPERATURE = "hw.temperature"
HW_TEMPERATURE_LIMIT = "hw.temperature.limit"
GPU_MEMORY_BANDWIDTH_UTILIZATION = "otel_train.gpu.memory.bandwidth.utilization"
GPU_POWER_LIMIT = "otel_train.gpu.power.limit"
GPU_CLOCK = "otel_train.gpu.clock.frequency"
GPU_THROTTLED = "otel_train.gpu.throttled"
GPU_REMAPPED_ROWS = "otel_train.gpu.remapped_rows"
GPU_ROW_REMAPPING = "otel_train.gpu.row_remapping"
GPU_XID = "otel_train.gpu.xid"
GPU_LINK_IO = "otel_train.gpu.link.io"
GPU_PCIE_RATE = "otel_train.gpu.pcie.rate"
GPU_PROCESSES = "otel_train.gpu.process.count"
GPU_PROCESS_MEMORY = "otel_train.gpu.process.memory.usage"
ALLOCATOR_ALLOCATED = "torch.cuda.memory.allocated"
ALLOCATOR_RESERVED = "torch.cuda.memory.reserved"
ALLOCATOR_PEAK = "torch.cuda.memory.peak"
ALLOCATOR_RETRIES = "torch.cuda.memory.retries"
ALLOCATOR_OOMS = "torch.cuda.memory.out_of_memory"

# The host.
CPU_TIME = "system.cpu.time"
CPU_UTILIZATION = "system.cpu.utilization"
CPU_LOGICAL_COUNT = "system.cpu.logical.count"
CPU_LOAD = "otel_train.system.cpu.load"
MEMORY_USAGE = "system.memory.usage"
MEMORY_UTILIZATION = "system.memory.utilization"
MEMORY_LIMIT = "system.memory.limit"
MEMORY_AVAILABLE = "system.memory.linux.available"
MEMORY_SHARED = "system.memory.linux.shared"
PAGING_USAGE = "system.paging.usage"
PAGING_UTILIZATION = "system.paging.utilization"
PAGING_IO = "otel_train.system.paging.io"
DISK_IO = "system.disk.io"
DISK_OPERATIONS = "system.disk.operations"
DISK_IO_TIME = "system.disk.io_time"
FILESYSTEM_USAGE = "system.filesystem.usage"
FILESYSTEM_LIMIT = "system.filesystem.limit"
FILESYSTEM_UTILIZATION = "system.filesystem.utilization"
NETWORK_IO = "system.network.io"
NETWORK_DROPPED = "system.network.packet.dropped"
NETWORK_ERRORS = "system.network.errors"
INFINIBAND_IO = "otel_train.infiniband.io"
INFINIBAND_ERRORS = "otel_train.infiniband.errors"
CGROUP_MEMORY_USAGE = "otel_train.cgroup.memory.usage"
CGROUP_MEMORY_LIMIT = "otel_train.cgroup.memory.limit"
CGROUP_MEMORY_UTILIZATION = "otel_train.cgroup.memory.utilization"
CGROUP_OOM_KILLS = "otel_train.cgroup.memory.oom_kills"
CGROUP_CPU_TIME = "otel_train.cgroup.cpu.time"
CGROUP_CPU_LIMIT = "otel_train.cgroup.cpu.limit"
CGROUP_CPU_THROTTLED = "otel_train.cgroup.cpu.throttled.time"
PRESSURE = "otel_train.system.pressure"
PRESSURE_TIME = "otel_train.system.pressure.time"

# The rank's own process, its children where ``process.tree`` says so.
PROCESS_CPU_TIME = "process.cpu.time"
PROCESS_CPU_UTILIZATION = "process.cpu.utilization"
PROCESS_MEMORY_USAGE = "process.memory.usage"
PROCESS_MEMORY_PEAK = "process.memory.peak"
PROCESS_THREADS = "process.thread.count"
PROCESS_FILES = "process.unix.file_descriptor.count"
PROCESS_DISK_IO = "process.disk.io"
PROCESS_PAGE_FAULTS = "process.paging.faults"
PROCESS_CONTEXT_SWITCHES = "process.context_switches"
CHILDREN_COUNT = "otel_train.process.children.count"
CHILDREN_CPU_TIME = "otel_train.process.children.cpu.time"
CHILDREN_MEMORY_USAGE = "otel_train.process.children.memory.usage"

# Attributes.
HW_ID = "hw.id"
OWN_GPU = "otel_train.gpu.own"
"""``true`` on the GPU that the rank trains on."""

DESCRIBING = frozenset(
    {
        "hw.type",
        "hw.name",
        "hw.model",
        "hw.vendor",
        "hw.parent",
        "hw.driver_version",
        "hw.sensor_location",
        "hw.gpu.task",
        OWN_GPU,
    }
)
"""Attributes that say more of a thing which another attribute tells from the others of its kind."""

RESOURCES: dict[str, Resource] = {
    GPU_UTILIZATION: Resource(GAUGE, "1", "part of the time in which a kernel ran"),
    GPU_MEMORY_USAGE: Resource(UP_DOWN, "By", "memory in use, of all processes"),
    GPU_MEMORY_LIMIT: Resource(UP_DOWN, "By", "memory that there is"),
    GPU_MEMORY_UTILIZATION: Resource(GAUGE, "1", "memory in use, of what there is"),
    HW_ERRORS: Resource(COUNTER, "{error}", "ECC errors, by `error.type` (corrected, uncorrected)"),
    HW_STATUS: Resource(UP_DOWN, "1", "1 for the `hw.state` that it is in"),
    HW_ENERGY: Resource(COUNTER, "J", "energy used"),
    HW_POWER: Resource(GAUGE, "W", "power drawn"),
    HW_TEMPERATURE: Resource(GAUGE, "Cel", "temperature, by `hw.sensor_location` (gpu, memory)"),
    HW_TEMPERATURE_LIMIT: Resource(GAUGE, "Cel", "its limits, by `hw.limit_type` (throttled, critical)"),
    GPU_MEMORY_BANDWIDTH_UTILIZATION: Resource(GAUGE, "1", "part of the time in which memory was read or written"),
    GPU_POWER_LIMIT: Resource(GAUGE, "W", "the power limit in force"),
    GPU_CLOCK: Resource(GAUGE, "Hz", "clock, by `otel_train.gpu.clock` (sm, memory)"),
    GPU_THROTTLED: Resource(GAUGE, "1", "1 while clocks are held down, by `otel_train.gpu.throttle.reason`"),
    GPU_REMAPPED_ROWS: Resource(UP_DOWN, "{row}", "rows of memory out of use, by `error.type`"),
    GPU_ROW_REMAPPING: Resource(GAUGE, "1", "1 while `otel_train.gpu.row_remapping.state` (pending, failure) holds"),
    GPU_XID: Resource(COUNTER, "{event}", "the driver's Xid errors, by `otel_train.gpu.xid.code`"),
    GPU_LINK_IO: Resource(COUNTER, "By", "bytes over NVLink, by `network.io.direction`"),
    GPU_PCIE_RATE: Resource(GAUGE, "By/s", "bytes a second over PCIe in 20 ms, by `network.io.direction`"),
    GPU_PROCESSES: Resource(UP_DOWN, "{process}", "processes that compute on it, where they can be seen"),
    GPU_PROCESS_MEMORY: Resource(UP_DOWN, "By", "what this process has of its memory, where it can be seen"),
    ALLOCATOR_ALLOCATED: Resource(UP_DOWN, "By", "what tensors hold, all devices of the process together"),
    ALLOCATOR_RESERVED: Resource(UP_DOWN, "By", "what torch's allocator holds of the device"),
    ALLOCATOR_PEAK: Resource(GAUGE, "By", "the most that tensors held"),
    ALLOCATOR_RETRIES: Resource(COUNTER, "{retry}", "times that the allocator freed its cache to go on"),
    ALLOCATOR_OOMS: Resource(COUNTER, "{error}", "times that the device had no memory left"),
    CPU_TIME: Resource(COUNTER, "s", "CPU time, by `cpu.mode`"),
    CPU_UTILIZATION: Resource(GAUGE, "1", "part of the last interval, by `cpu.mode`; busy, by `cpu.logical_number`"),
    CPU_LOGICAL_COUNT: Resource(UP_DOWN, "{cpu}", "CPUs that the process may use"),
    CPU_LOAD: Resource(GAUGE, "{thread}", "load average, by `otel_train.window` (1m, 5m, 15m)"),
    MEMORY_USAGE: Resource(UP_DOWN, "By", "memory, by `system.memory.state`"),
    MEMORY_UTILIZATION: Resource(GAUGE, "1", "memory that is not available, of all"),
    MEMORY_LIMIT: Resource(UP_DOWN, "By", "memory of the host"),
    MEMORY_AVAILABLE: Resource(UP_DOWN, "By", "memory that can be had without swapping"),
    MEMORY_SHARED: Resource(UP_DOWN, "By", "shared memory in use (tmpfs, /dev/shm)"),
    PAGING_USAGE: Resource(UP_DOWN, "By", "swap, by `system.paging.state`"),
    PAGING_UTILIZATION: Resource(GAUGE, "1", "swap in use, of all"),
    PAGING_IO: Resource(COUNTER, "By", "bytes swapped, by `system.paging.direction`"),
    DISK_IO: Resource(COUNTER, "By", "bytes, by `system.device` and `disk.io.direction`"),
    DISK_OPERATIONS: Resource(COUNTER, "{operation}", "operations, likewise"),
    DISK_IO_TIME: Resource(COUNTER, "s", "time in which the device was busy"),
    FILESYSTEM_USAGE: Resource(UP_DOWN, "By", "bytes in use, by `system.filesystem.mountpoint`"),
    FILESYSTEM_LIMIT: Resource(UP_DOWN, "By", "bytes that there are"),
    FILESYSTEM_UTILIZATION: Resource(GAUGE, "1", "bytes in use, of what there is"),
    NETWORK_IO: Resource(COUNTER, "By", "bytes, by `network.interface.name` and `network.io.direction`"),
    NETWORK_DROPPED: Resource(COUNTER, "{packet}", "packets dropped, likewise"),
    NETWORK_ERRORS: Resource(COUNTER, "{error}", "errors, likewise"),
    INFINIBAND_IO: Resource(COUNTER, "By", "bytes, by `otel_train.infiniband.port` and direction"),
    INFINIBAND_ERRORS: Resource(COUNTER, "{error}", "its errors, by `error.type`"),
    CGROUP_MEMORY_USAGE: Resource(UP_DOWN, "By", "memory of the container that cannot be reclaimed at once"),
    CGROUP_MEMORY_LIMIT: Resource(UP_DOWN, "By", "what it may have"),
    CGROUP_MEMORY_UTILIZATION: Resource(GAUGE, "1", "the one over the other"),
    CGROUP_OOM_KILLS: Resource(COUNTER, "{process}", "processes killed in it for want of memory"),
    CGROUP_CPU_TIME: Resource(COUNTER, "s", "CPU time of the container"),
    CGROUP_CPU_LIMIT: Resource(GAUGE, "{cpu}", "CPUs that it may use"),
    CGROUP_CPU_THROTTLED: Resource(COUNTER, "s", "time in which it had used up its CPUs"),
    PRESSURE: Resource(GAUGE, "1", "part of 10 s in which tasks waited, by `otel_train.pressure.resource`, `.kind`"),
    PRESSURE_TIME: Resource(COUNTER, "s", "the same as a running total"),
    PROCESS_CPU_TIME: Resource(COUNTER, "s", "CPU time of the rank's process, by `cpu.mode`"),
    PROCESS_CPU_UTILIZATION: Resource(GAUGE, "1", "the same since the last sample, of one CPU"),
    PROCESS_MEMORY_USAGE: Resource(UP_DOWN, "By", "resident memory"),
    PROCESS_MEMORY_PEAK: Resource(GAUGE, "By", "its highest so far"),
    PROCESS_THREADS: Resource(UP_DOWN, "{thread}", "threads"),
    PROCESS_FILES: Resource(UP_DOWN, "{file_descriptor}", "open files"),
    PROCESS_DISK_IO: Resource(COUNTER, "By", "bytes that reached a disk, by `disk.io.direction`"),
    PROCESS_PAGE_FAULTS: Resource(COUNTER, "{fault}", "page faults, by `system.paging.fault.type`"),
    PROCESS_CONTEXT_SWITCHES: Resource(COUNTER, "{context_switch}", "by `process.context_switch.type`"),
    CHILDREN_COUNT: Resource(UP_DOWN, "{process}", "child processes: data loader workers"),
    CHILDREN_CPU_TIME: Resource(COUNTER, "s", "CPU time of those that there are or were"),
    CHILDREN_MEMORY_USAGE: Resource(UP_DOWN, "By", "their memory, without files; what fork shares counts in each"),
}  # fmt: skip


OF_A_GPU = (HW_ID, "hw.type", "hw.name", "hw.model", "hw.vendor", "hw.parent", "hw.driver_version", OWN_GPU)
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    GPU_UTILIZATION: ("hw.gpu.task",),
    HW_ERRORS: ("error.type",),
    HW_STATUS: ("hw.state",),
    HW_TEMPERATURE: ("hw.sensor_location",),
    HW_TEMPERATURE_LIMIT: ("hw.sensor_location", "hw.limit_type"),
    GPU_CLOCK: ("otel_train.gpu.clock",),
    GPU_THROTTLED: ("otel_train.gpu.throttle.reason",),
    GPU_REMAPPED_ROWS: ("error.type",),
    GPU_ROW_REMAPPING: ("otel_train.gpu.row_remapping.state",),
    GPU_XID: ("otel_train.gpu.xid.code",),
    GPU_LINK_IO: ("network.io.direction",),
    GPU_PCIE_RATE: ("network.io.direction",),
    CPU_TIME: ("cpu.mode",),
    CPU_UTILIZATION: ("cpu.mode", "cpu.logical_number"),
    CPU_LOAD: ("otel_train.window",),
    MEMORY_USAGE: ("system.memory.state",),
    PAGING_USAGE: ("system.paging.state",),
    PAGING_IO: ("system.paging.direction",),
    DISK_IO: ("system.device", "disk.io.direction"),
    DISK_OPERATIONS: ("system.device", "disk.io.direction"),
    DISK_IO_TIME: ("system.device",),
    FILESYSTEM_USAGE: ("system.filesystem.mountpoint",),
    FILESYSTEM_LIMIT: ("system.filesystem.mountpoint",),
    FILESYSTEM_UTILIZATION: ("system.filesystem.mountpoint",),
    NETWORK_IO: ("network.interface.name", "network.io.direction"),
    NETWORK_DROPPED: ("network.interface.name", "network.io.direction"),
    NETWORK_ERRORS: ("network.interface.name", "network.io.direction"),
    INFINIBAND_IO: ("otel_train.infiniband.port", "network.io.direction"),
    INFINIBAND_ERRORS: ("otel_train.infiniband.port", "error.type"),
    PRESSURE: ("otel_train.pressure.resource", "otel_train.pressure.kind"),
    PRESSURE_TIME: ("otel_train.pressure.resource", "otel_train.pressure.kind"),
    PROCESS_CPU_TIME: ("cpu.mode",),
    PROCESS_CPU_UTILIZATION: ("cpu.mode",),
    PROCESS_DISK_IO: ("disk.io.direction",),
    PROCESS_PAGE_FAULTS: ("system.paging.fault.type",),
    PROCESS_CONTEXT_SWITCHES: ("process.context_switch.type",),
}
"""The attributes by which a metric's series differ, beside ``OF_A_GPU`` for those of a GPU."""


def attributes_of(metric: str) -> tuple[str, ...]:
    """The attributes that a metric's series may have."""
    of_gpu = metric.startswith(("hw.", "otel_train.gpu."))
    return ATTRIBUTES.get(metric, ()) + (OF_A_GPU if of_gpu else ())


def table() -> str:
    """The metrics as a Markdown table, for ``docs/telemetry.md``."""
    lines = ["| metric | instrument | unit | what it is |", "|---|---|---|---|"]
    for name, known in RESOURCES.items():
        lines.append(f"| `{name}` | {known.instrument} | {known.unit} | {known.meaning} |")
    return "\n".join(lines)


def series(name: str, **attributes: str) -> Series:
    """A series; ``__`` in a keyword stands for the dot of an attribute's name: ``hw__id``."""
    return name, tuple(sorted((key.replace("__", "."), value) for key, value in attributes.items()))


def column(of: Series) -> str:
    """The name of a series' column: ``hw.power{hw.id=GPU-1;hw.type=gpu}``; without attributes the name alone."""
    name, attributes = of
    if not attributes:
        return name
    return name + "{" + ";".join(f"{key}={_escape(value)}" for key, value in attributes) + "}"


@functools.lru_cache(maxsize=8192)
def series_of(column_name: str) -> Series:
    """The inverse of ``column``. Raises ``ValueError`` for what is no such name."""
    match = re.fullmatch(r"([^{}]+)(?:\{(.*)\})?", column_name, re.DOTALL)
    if match is None:
        raise ValueError(f"a column is named {column_name!r}; allowed is name or name{{key=value;key=value}}")
    pairs = [pair.partition("=") for pair in match[2].split(";")] if match[2] else []
    if not all(key and sign for key, sign, _ in pairs):
        raise ValueError(f"a column is named {column_name!r}; its attributes are not key=value;key=value")
    return match[1], tuple((key, _unescape(value)) for key, _, value in pairs)


def _escape(value: str) -> str:
    return re.sub(r"[%;={}\x00-\x1f]", lambda match: f"%{ord(match[0]):02X}", value)


def _unescape(value: str) -> str:
    return re.sub(r"%([0-9A-F]{2})", lambda match: chr(int(match[1], 16)), value)
