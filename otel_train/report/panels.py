"""Which resources are drawn together on one set of axes, for the picture and the page."""

from dataclasses import dataclass

from otel_train import resource_names as rn
from otel_train.resource_names import Series


@dataclass(frozen=True)
class Line:
    """A series of resources to draw: which, its label, and what its values are divided by."""

    metric: str
    label: str
    divisor: float
    wanted: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Panel:
    """What belongs on one set of axes."""

    title: str
    lines: tuple[Line, ...]
    top: float | None = None


PANELS = (
    Panel("GPU, %", (
        Line(rn.GPU_UTILIZATION, "utilization", 0.01), Line(rn.GPU_MEMORY_UTILIZATION, "memory", 0.01),
    ), 100),
    Panel("GPU, W and °C", (
        Line(rn.HW_POWER, "power", 1), Line(rn.HW_TEMPERATURE, "temperature", 1, (("hw.sensor_location", "gpu"),)),
    )),
    Panel("CPU, %", (
        Line(rn.CPU_UTILIZATION, "user", 0.01, (("cpu.mode", "user"),)),
        Line(rn.CPU_UTILIZATION, "nice", 0.01, (("cpu.mode", "nice"),)),
        Line(rn.CPU_UTILIZATION, "system", 0.01, (("cpu.mode", "system"),)),
        Line(rn.CPU_UTILIZATION, "waits for disks", 0.01, (("cpu.mode", "iowait"),)),
    ), 100),
    Panel("memory, GiB", (
        Line(rn.PROCESS_MEMORY_USAGE, "process", 2**30), Line(rn.CHILDREN_MEMORY_USAGE, "workers", 2**30),
        Line(rn.CGROUP_MEMORY_USAGE, "container", 2**30), Line(rn.ALLOCATOR_RESERVED, "torch on GPU", 2**30),
    )),
    Panel("disk and network, MB/s", (
        Line(rn.DISK_IO, "read", 1e6, (("disk.io.direction", "read"),)),
        Line(rn.DISK_IO, "written", 1e6, (("disk.io.direction", "write"),)),
        Line(rn.NETWORK_IO, "received", 1e6, (("network.io.direction", "receive"),)),
        Line(rn.NETWORK_IO, "sent", 1e6, (("network.io.direction", "transmit"),)),
    )),
)  # fmt: skip
"""The panels below those of steps: each is drawn where something of it was sampled."""


def fits(key: Series, line: Line) -> bool:
    """Whether the series belongs to the line."""
    return key[0] == line.metric and set(line.wanted) <= set(key[1])


def which_of(key: Series, line: Line) -> str:
    """What tells the series from the others of its line: the disk, the interface, the GPU."""
    known = dict(line.wanted)
    return " ".join(value for name, value in key[1] if name not in known and name not in rn.DESCRIBING)[:16]
