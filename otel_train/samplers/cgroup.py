"""The control group that the process is in: what a container may use, and does. Versions 1 and 2.

Kernel documentation: ``Documentation/admin-guide/cgroup-v2.rst`` and ``cgroup-v1/memory.rst``.
"""

from pathlib import Path

from otel_train import resource_names as names
from otel_train.samplers.sampler import Readings, SamplerUnavailable
from otel_train.samplers.totals import Totals

UNLIMITED_V1 = 1 << 60
"""Version 1 says that there is no limit by a number near 2**63."""


MEMORY = {
    1: ("memory.usage_in_bytes", ("total_inactive_file", "total_active_file"), "memory.limit_in_bytes"),
    2: ("memory.current", ("inactive_file", "active_file"), "memory.max"),
}
"""By version: the file with what is used, the lines of ``memory.stat`` for what goes back, the file of the limit."""
KILLS = {1: "memory.oom_control", 2: "memory.events"}


class CgroupSampler:
    """0.2 ms. Raises ``SamplerUnavailable`` where the process is in none that can be read."""

    def __init__(self, proc: Path = Path("/proc"), sys: Path = Path("/sys/fs/cgroup")) -> None:
        self._totals = Totals()
        self._version, self._folders = find(proc, sys)

    def sample(self) -> Readings:
        """What can be read of memory and CPU. The limit of CPUs is the tightest of the group and of those around it."""
        return {**self._memory(), **self._cpu()}

    def _memory(self) -> Readings:
        """Of the group that is nearest to its limit: a group around the process's counts its neighbours too."""
        folders = self._folders.get("memory", [])
        found = [group for group in map(self._group, folders) if group is not None]
        limited = [group for group in found if group[1]]
        if not found:
            return {}
        used, limit = max(limited, key=lambda group: group[0] / group[1]) if limited else found[0]
        readings: Readings = {(names.CGROUP_MEMORY_USAGE, ()): used}
        if limit:
            readings[names.CGROUP_MEMORY_LIMIT, ()] = limit
            readings[names.CGROUP_MEMORY_UTILIZATION, ()] = used / limit
        kills = keyed(folders[0] / KILLS[self._version]).get("oom_kill")
        if kills is not None:
            readings[names.CGROUP_OOM_KILLS, ()] = self._totals.since_first(names.CGROUP_OOM_KILLS, kills)
        return readings

    def _group(self, folder: Path) -> tuple[int, int] | None:
        """Bytes in use, without the cache of files, and the limit, 0 without one.

        The cache is given back when memory is wanted. Data read again each epoch is on its list of active files, which
        would fill every container. What is in /dev/shm is on other lists, and counts.
        """
        usage, cached, limit = MEMORY[self._version]
        used = number(folder / usage)
        if used is None:
            return None
        allowed = number(folder / limit) or 0
        held = keyed(folder / "memory.stat")
        given_back = sum(held.get(line, 0) for line in cached)
        return max(used - given_back, 0), allowed if allowed < UNLIMITED_V1 else 0

    def _cpu(self) -> Readings:
        readings: Readings = {}
        for name, total in (
            (names.CGROUP_CPU_TIME, self._cpu_time()),
            (names.CGROUP_CPU_THROTTLED, self._throttled()),
        ):
            if total is not None:
                readings[name, ()] = self._totals.since_first(name, total)
        quotas = [quota for quota in map(self._quota, self._folders.get("cpu", ())) if quota is not None]
        if quotas:
            readings[names.CGROUP_CPU_LIMIT, ()] = min(quotas)
        return readings

    def _cpu_time(self) -> float | None:
        if self._version == 2:
            micros = keyed(self._folders["cpu"][0] / "cpu.stat").get("usage_usec")
            return None if micros is None else micros / 1e6
        folders = self._folders.get("cpuacct")
        nanos = number(folders[0] / "cpuacct.usage") if folders else None
        return None if nanos is None else nanos / 1e9

    def _throttled(self) -> float | None:
        folders = self._folders.get("cpu")
        stat = keyed(folders[0] / "cpu.stat") if folders else {}
        if "throttled_usec" in stat:
            return stat["throttled_usec"] / 1e6
        return stat["throttled_time"] / 1e9 if "throttled_time" in stat else None

    def _quota(self, folder: Path) -> float | None:
        if self._version == 2:
            quota, period = ([*text(folder / "cpu.max").split(), "", ""])[:2]
        else:
            quota, period = text(folder / "cpu.cfs_quota_us").strip(), text(folder / "cpu.cfs_period_us").strip()
        return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else None


def find(proc: Path, sys: Path) -> tuple[int, dict[str, list[Path]]]:
    """The version, and by controller the process's group and those around it, the innermost first.

    Inside a container the groups around it are not to be seen, and its own is often mounted as the root.
    """
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError as error:
        raise SamplerUnavailable(f"{proc}/self/cgroup: {error}") from error
    entries = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    paths = {name: path for _, controllers, path in entries for name in controllers.split(",")}
    found: dict[str, list[Path]]
    if (sys / "cgroup.controllers").exists() and "" in paths:
        groups = chain(sys, paths[""], "memory.current", "cpu.stat")
        found, version = {"memory": groups, "cpu": groups}, 2
    else:
        markers = {"memory": "memory.usage_in_bytes", "cpu": "cpu.stat", "cpuacct": "cpuacct.usage"}
        found = {
            name: chain(root, path, markers[name])
            for name, path in paths.items()
            if name in markers and (root := mounted(sys, name, paths)) is not None
        }
        version = 1
    found = {name: groups for name, groups in found.items() if groups}
    if not found:
        raise SamplerUnavailable("the process is in no control group that can be read")
    return version, found


def mounted(sys: Path, controller: str, paths: dict[str, str]) -> Path | None:
    """Where version 1 has a controller: ``memory``, or with others as ``cpu,cpuacct``."""
    candidates = [sys / controller, sys / "cpu,cpuacct", sys / "cpuacct,cpu"]
    return next((path for path in candidates if path.is_dir() and controller in path.name.split(",")), None)


def chain(root: Path, path: str, *markers: str) -> list[Path]:
    """The group and those around it up to the root, those that have one of some files."""
    inner = root / path.strip("/")
    if ".." in path or not inner.is_dir():  # a group outside of what the container sees
        inner = root
    groups = [inner, *(parent for parent in inner.parents if parent == root or root in parent.parents)]
    return [group for group in groups if any((group / marker).exists() for marker in markers)]


def text(path: Path) -> str:
    """The file's content; empty where it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""


def number(path: Path) -> int | None:
    """The number in a file; None for ``max``, and where it cannot be read."""
    content = text(path).strip()
    return int(content) if content.isdecimal() else None


def keyed(path: Path) -> dict[str, int]:
    """A file of lines ``key number``."""
    pairs = [line.split() for line in text(path).splitlines()]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}
