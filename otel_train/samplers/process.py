"""The rank's own process, and its children: the workers of its data loaders."""

import sys
from typing import Any

from otel_train import resource_names as names
from otel_train.resource_names import series
from otel_train.samplers.sampler import Readings, load_psutil
from otel_train.samplers.totals import Totals

PROCESS_MODES = ("user", "system")


class ProcessSampler:
    """0.5 ms, and 0.3 for each child. What the platform does not tell is absent."""

    def __init__(self, psutil: Any = None) -> None:
        self._psutil = psutil or load_psutil()
        self._process = self._psutil.Process()
        self._totals = Totals()
        self._cpu: tuple[float, dict[str, float]] | None = None
        self._children: dict[Any, float] = {}
        self._gone_s = 0.0

    def sample(self) -> Readings:
        """CPU, memory, threads, files, disk, faults and context switches; children together."""
        with self._process.oneshot():
            readings = {**self._cpu_times(), **self._memory(), **self._counts(), **self._counters()}
        return {**readings, **self._of_children()}

    def _cpu_times(self) -> Readings:
        import time

        now, times = time.monotonic(), self._process.cpu_times()
        seconds = {mode: float(getattr(times, mode)) for mode in PROCESS_MODES}
        readings: Readings = {}
        for mode, total in seconds.items():
            key = series(names.PROCESS_CPU_TIME, cpu__mode=mode)
            readings[key] = self._totals.since_first(key, total)
            if self._cpu is not None and now > self._cpu[0]:
                share = (total - self._cpu[1][mode]) / (now - self._cpu[0])
                readings[series(names.PROCESS_CPU_UTILIZATION, cpu__mode=mode)] = max(share, 0.0)
        self._cpu = now, seconds
        return readings

    def _memory(self) -> Readings:
        readings: Readings = {(names.PROCESS_MEMORY_USAGE, ()): self._process.memory_info().rss}
        if sys.platform != "win32":
            import resource

            unit = 1 if sys.platform == "darwin" else 1024
            readings[names.PROCESS_MEMORY_PEAK, ()] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return readings

    def _counts(self) -> Readings:
        readings: Readings = {}
        for name, method in ((names.PROCESS_THREADS, "num_threads"), (names.PROCESS_FILES, "num_fds")):
            count = self._ask(self._process, method)
            if count is not None:
                readings[name, ()] = count
        return readings

    def _counters(self) -> Readings:
        readings: Readings = {}
        io = self._ask(self._process, "io_counters")
        if io is not None:
            for direction in ("read", "write"):
                self._count(readings, names.PROCESS_DISK_IO, getattr(io, f"{direction}_bytes"),
                            disk__io__direction=direction)  # fmt: skip
        switches = self._ask(self._process, "num_ctx_switches")
        if switches is not None:
            for kind in ("voluntary", "involuntary"):
                self._count(readings, names.PROCESS_CONTEXT_SWITCHES, getattr(switches, kind),
                            process__context_switch__type=kind)  # fmt: skip
        if sys.platform != "win32":
            import resource

            usage = resource.getrusage(resource.RUSAGE_SELF)
            for kind, total in (("major", usage.ru_majflt), ("minor", usage.ru_minflt)):
                self._count(readings, names.PROCESS_PAGE_FAULTS, total, system__paging__fault__type=kind)
        return readings

    def _of_children(self) -> Readings:
        """The CPU time of children that have ended counts on: as it was when they were last seen.

        Each page once (PSS) would be the better measure of memory, but the kernel would walk all pages of a worker with
        the worker's memory lock: 1 ms a GiB.
        """
        seen: dict[Any, float] = {}
        memory = 0
        for child in self._process.children(recursive=True):
            try:
                if child.status() == self._psutil.STATUS_ZOMBIE:  # dead, and its parent has not noticed
                    continue
                times = child.cpu_times()
                seen[child] = times.user + times.system
                held = child.memory_info()
                memory += max(held.rss - getattr(held, "shared", 0), 0)
            except self._psutil.Error:  # it has ended meanwhile, or is somebody else's
                continue
        self._gone_s += sum(seconds for child, seconds in self._children.items() if child not in seen)
        self._children = seen
        return {
            (names.CHILDREN_COUNT, ()): len(seen),
            (names.CHILDREN_CPU_TIME, ()): self._totals.since_first("children", self._gone_s + sum(seen.values())),
            (names.CHILDREN_MEMORY_USAGE, ()): memory,
        }

    def _ask(self, process: Any, method: str) -> Any:
        try:
            return getattr(process, method)()
        except (self._psutil.Error, AttributeError, NotImplementedError, OSError):
            return None

    def _count(self, readings: Readings, name: str, total: float, **attributes: str) -> None:
        key = series(name, **attributes)
        readings[key] = self._totals.since_first(key, total)
