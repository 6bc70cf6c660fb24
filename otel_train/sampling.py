"""The thread that samples resources: each source at its pace, a row of ``resources.csv`` each time.

Never on the training thread. A source that fails is left out, said once, and tried again later; it stops neither the
thread nor another source. What the host has is sampled by one of the run's processes on it: the one with its lock.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from otel_train import guard
from otel_train.file_lock import FileLock
from otel_train.identity import Identity
from otel_train.samplers.sampler import Readings, Sampler, SamplerUnavailable

FIRST_ROW_S = 1.0
"""So soon after the first look, which counters and rates are counted from, there is a row."""
LONGEST_PAUSE_S = 600.0
"""Between two tries of a source that fails."""
ENERGY_EVERY_S = 30.0
PCIE_EVERY_S = 300.0
"""NVML watches each direction for 21 ms: at this pace 0.014 % of the thread's time a GPU."""
STOP_S = 0.5
HANGS_S = 60.0


@dataclass
class Source:
    """A sampler that is made when it is first wanted, and how it is doing."""

    name: str
    make: Callable[[], Sampler]
    every_s: float = 0.0
    """0 is as often as the thread looks."""
    of_host: bool = False
    """Sampled by one process of the run on each host."""
    sampler: Sampler | None = None
    unavailable: bool = False
    due_s: float = 0.0
    failures: int = 0

    def sample(self, now_s: float) -> Readings:
        """What it reads, if it is due; nothing where it fails."""
        if self.unavailable or now_s < self.due_s:
            return {}
        self.due_s = now_s + self.every_s
        try:
            if self.sampler is None:
                self.sampler = self.make()
            readings = self.sampler.sample()
        except SamplerUnavailable:
            self.unavailable = True
            return {}
        except Exception as error:  # noqa: BLE001  whatever a driver, a file system or a library raises
            self._failed(now_s, error)
            return {}
        self.failures = 0
        return readings

    def _failed(self, now_s: float, error: Exception) -> None:
        self.failures += 1
        pause_s = min(2.0**self.failures * max(self.every_s, 1.0), LONGEST_PAUSE_S)
        self.due_s = now_s + pause_s
        guard.counts[f"sampler {self.name}"] += 1
        guard.warn_once(f"sampler {self.name}", "otel_train cannot read %s and tries again now and then; its figures "
                        "are missing meanwhile: %r", self.name, error)  # fmt: skip


class Sampling(threading.Thread):
    """Writes a row every ``interval_s``."""

    def __init__(
        self,
        sources: list[Source],
        interval_s: float,
        write: Callable[[Readings], None],
        host_lock: FileLock | None = None,
    ) -> None:
        """``host_lock`` is what the processes of one host share; None where this one is alone."""
        super().__init__(name="otel_train.resources", daemon=True)
        self._sources = sources
        self._interval_s = interval_s
        self._write = write
        self._host_lock = host_lock
        self._stopped = threading.Event()
        self.cpu_ns = 0
        """CPU time of this thread, as of its last row."""
        self._under_way: tuple[str, float] | None = None
        """The source that is being read, and since when (s)."""

    def look(self) -> None:
        """Say it where a source has not come back for long: a file server that is gone, a driver that hangs. The others
        wait for it. Any thread."""
        under_way = self._under_way
        if under_way is not None and time.monotonic() - under_way[1] > HANGS_S:
            guard.warn_once(f"hanging {under_way[0]}", "otel_train has waited for %s for more than %d s: no resources "
                            "are sampled until it answers", under_way[0], HANGS_S)  # fmt: skip

    def run(self) -> None:
        with guard.guarded("resources"):
            self.read(time.monotonic())
        due = time.monotonic() + min(FIRST_ROW_S, self._interval_s)
        while not self._stopped.wait(max(due - time.monotonic(), 0)):
            now = time.monotonic()
            due = max(due + self._interval_s, now)  # after a pause of the machine rows do not come in a heap
            with guard.guarded("resources"):
                self.row(now)
            self.cpu_ns = time.thread_time_ns()
        with guard.guarded("resources"):
            self.row(time.monotonic())

    def read(self, now_s: float) -> Readings:
        """What every source that is due reads."""
        readings: Readings = {}
        has_host = self._host_lock is None or self._host_lock.acquire()
        for source in self._sources:
            if has_host or not source.of_host:
                self._under_way = source.name, time.monotonic()
                readings.update(source.sample(now_s))
        self._under_way = None
        return readings

    def row(self, now_s: float) -> None:
        """Write a row of it."""
        readings = self.read(now_s)
        if readings:
            self._write(readings)

    def stop(self, timeout_s: float = STOP_S) -> None:
        """End the thread with a last row. A source that hangs is left alone after ``timeout_s``."""
        self._stopped.set()
        if self.is_alive() and threading.current_thread() is not self:
            self.join(timeout_s)
        if self._host_lock is not None:
            self._host_lock.release()


HOST = {
    "CPUs": "cpu.CpuSampler",
    "host memory": "host_memory.HostMemorySampler",
    "control groups": "cgroup.CgroupSampler",
    "pressure": "pressure.PressureSampler",
    "disks": "disk.DiskSampler",
    "network interfaces": "network.NetworkSampler",
    "InfiniBand ports": "infiniband.InfinibandSampler",
}
PROCESS = {"the process": "process.ProcessSampler", "torch's allocator": "allocator.AllocatorSampler"}
NVIDIA = {"NVIDIA's GPUs": "nvidia.NvidiaSampler", "Xid errors": "nvidia_xid.XidWatcher"}
"""What is sampled, and the file and class in ``samplers/`` that do it: imported on the thread, when first wanted."""


def sources(identity: Identity, paths: Callable[[], Iterable[Path]]) -> list[Source]:
    """Every source there is. ``paths()`` are those whose file systems are watched."""
    gpus = cache(lambda: _class("nvidia_gpus.NvidiaGpus")(is_alone(identity)))  # one connection for all of them
    energy = _class_later("nvidia_energy.NvidiaEnergySampler", gpus)
    pcie = _class_later("nvidia_pcie.NvidiaPcieSampler", gpus)
    return [
        *(Source(name, _class_later(place), of_host=True) for name, place in HOST.items()),
        Source("file systems", _class_later("filesystem.FilesystemSampler", lambda: paths), of_host=True),
        *(Source(name, _class_later(place)) for name, place in PROCESS.items()),
        *(Source(name, _class_later(place, gpus)) for name, place in NVIDIA.items()),
        Source("the GPUs' energy", energy, every_s=ENERGY_EVERY_S),
        Source("the GPUs' PCIe traffic", pcie, every_s=PCIE_EVERY_S),
        Source("AMD's GPUs", _class_later("amd.AmdSampler", lambda: is_alone(identity))),
    ]


def _class(place: str) -> Any:
    module, _, name = place.partition(".")
    return getattr(import_module(f"otel_train.samplers.{module}"), name)


def _class_later(place: str, *arguments: Callable[[], Any]) -> Callable[[], Sampler]:
    def make() -> Sampler:
        sampler: Sampler = _class(place)(*(argument() for argument in arguments))
        return sampler

    return make


def is_alone(identity: Identity) -> bool:
    """Is this the run's only process on its host?"""
    return identity.world_size == 1 or identity.launcher.get("LOCAL_WORLD_SIZE") == "1"


def host_lock(identity: Identity, run_folder: Path | None, host: str) -> FileLock | None:
    """What the run's processes on one host share; None where there is but one."""
    if is_alone(identity):
        return None
    safe = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in host)
    if run_folder is None:
        return FileLock(Path(tempfile.gettempdir()) / f"otel_train-{identity.run_id}-{safe}.lock")
    return FileLock(run_folder / f"host-{safe}.lock")
