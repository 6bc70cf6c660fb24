"""What this process may use: CPUs, memory, shared memory, and the NUMA nodes that its CPUs lie on."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from otel_train import resource_names as names
from otel_train.samplers.cgroup import CgroupSampler, text
from otel_train.samplers.hardware import cpu_model
from otel_train.samplers.sampler import SamplerUnavailable

NUMA = "devices/system/node"


@dataclass(frozen=True)
class Grants:
    """What there is for this process. None is not known; bytes."""

    cpus: float
    """The fewest of what the scheduler lets it run on and what its control groups allow, divided by the ranks here."""
    allowed: tuple[int, ...]
    """The CPUs that it may run on."""
    quota: float | None
    """CPUs that the control groups allow; None without a limit."""
    ranks_here: int
    memory_bytes: int | None
    """Still to be had: below the control groups' limit and free on the machine."""
    shared_bytes: int | None
    """Free in ``/dev/shm``, through which workers hand over their batches."""
    nodes: Mapping[int, tuple[int, ...]]
    """NUMA nodes, each with those of its CPUs that this process may run on; empty where the system tells none."""
    cpu_model: str | None

    def told(self) -> str:
        """In a line for people."""
        quota = f", {self.quota:g} by the control group" if self.quota is not None else ""
        ranks = f", for {self.ranks_here} ranks" if self.ranks_here > 1 else ""
        nodes = f", on {len(self.nodes)} NUMA nodes" if len(self.nodes) > 1 else ""
        return f"{self.cpus:g} CPUs ({len(self.allowed)} allowed{quota}{ranks}){nodes}"


def read_grants(
    proc: Path = Path("/proc"),
    sys: Path = Path("/sys"),
    shm: Path = Path("/dev/shm"),
    environ: Mapping[str, str] = os.environ,
    allowed: tuple[int, ...] | None = None,
) -> Grants:
    """Read them now. ``LOCAL_WORLD_SIZE`` of a launcher says how many ranks share them. Raises nothing."""
    allowed = allowed if allowed is not None else tuple(sorted(os.sched_getaffinity(0)))
    group = _group(proc, sys / "fs/cgroup")
    quota = group.get(names.CGROUP_CPU_LIMIT)
    ranks = int(local) if (local := environ.get("LOCAL_WORLD_SIZE", "")).isdecimal() and int(local) else 1
    cpus = min(float(len(allowed)), quota if quota else math.inf) / ranks
    return Grants(
        cpus, allowed, quota, ranks, _memory(proc, group), _shared(shm), _nodes(sys / NUMA, allowed), cpu_model(proc)
    )


def _group(proc: Path, folder: Path) -> dict[str, float]:
    try:
        return {name: value for (name, _), value in CgroupSampler(proc, folder).sample().items()}
    except SamplerUnavailable:
        return {}


def _memory(proc: Path, group: Mapping[str, float]) -> int | None:
    lines = [line.split() for line in text(proc / "meminfo").splitlines()]
    free = [int(line[1]) * 1024 for line in lines if line[:1] == ["MemAvailable:"] and len(line) > 1]
    limit = group.get(names.CGROUP_MEMORY_LIMIT)
    if limit is not None:
        free.append(max(int(limit - group[names.CGROUP_MEMORY_USAGE]), 0))
    return min(free) if free else None


def _shared(folder: Path) -> int | None:
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def _nodes(folder: Path, allowed: tuple[int, ...]) -> dict[int, tuple[int, ...]]:
    nodes = {}
    for path in folder.glob("node[0-9]*"):
        here = tuple(cpu for cpu in numbers_in(text(path / "cpulist")) if cpu in allowed)
        if here:
            nodes[int(path.name[4:])] = here
    return dict(sorted(nodes.items()))


def numbers_in(listed: str) -> list[int]:
    """``0-3,8`` as the kernel writes sets of CPUs: 0, 1, 2, 3, 8. What is no number is left out."""
    numbers: list[int] = []
    for part in listed.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdecimal():
            numbers += range(int(first), int(last if last.isdecimal() else first) + 1)
    return numbers
