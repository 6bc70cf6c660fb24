"""How full the file systems are that the run writes to, and ``/dev/shm``, through which loader workers send batches."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from otel_train import resource_names as names
from otel_train.resource_names import series
from otel_train.samplers.sampler import Readings

SHARED_MEMORY = Path("/dev/shm")


class FilesystemSampler:
    """10 µs a file system; a network's that hangs hangs this thread, and nothing else. ``paths()`` are those to look
    at; several on one file system are one."""

    def __init__(self, paths: Callable[[], Iterable[Path]], shared_memory: Path = SHARED_MEMORY) -> None:
        self._paths = paths
        self._shared_memory = shared_memory
        self._mount_points: dict[int, str] = {}

    def sample(self) -> Readings:
        """In bytes, and as a part of what an ordinary user may have. What does not exist (any more) is absent."""
        readings: Readings = {}
        for path in (self._shared_memory, *self._paths()):
            try:
                device, info = path.stat().st_dev, os.statvfs(path)
            except OSError:
                continue
            which = {"system__filesystem__mountpoint": self._mount_point(path, device)}
            used = (info.f_blocks - info.f_bfree) * info.f_frsize
            limit = used + info.f_bavail * info.f_frsize  # without what is kept for root
            if limit:
                readings[series(names.FILESYSTEM_USAGE, **which)] = used
                readings[series(names.FILESYSTEM_LIMIT, **which)] = limit
                readings[series(names.FILESYSTEM_UTILIZATION, **which)] = used / limit
        return readings

    def _mount_point(self, path: Path, device: int) -> str:
        if device not in self._mount_points:
            at = path.resolve()
            while at != at.parent and not os.path.ismount(at):
                at = at.parent
            self._mount_points[device] = str(at)
        return self._mount_points[device]
