"""The host's disks: bytes, operations, and how long each was busy."""

import re
from pathlib import Path
from typing import Any

from otel_train import resource_names as names
from otel_train.resource_names import series
from otel_train.samplers.sampler import Readings, SamplerUnavailable, load_psutil
from otel_train.samplers.totals import Totals

NO_DISK = re.compile(r"loop\d|ram\d|zram\d|fd\d|sr\d")
MOST_DEVICES = 64
"""A host with more disks than this has them in arrays; the busiest are kept."""


class DiskSampler:
    """0.3 ms. Whole devices: their partitions are part of them. Raises ``SamplerUnavailable`` where none is shown."""

    def __init__(self, psutil: Any = None, sys: Path = Path("/sys")) -> None:
        self._psutil = psutil or load_psutil()
        self._sys = sys
        self._totals = Totals()
        self._is_whole: dict[str, bool] = {}
        if not self._devices():
            raise SamplerUnavailable("the platform shows no disks")

    def sample(self) -> Readings:
        """Totals since the first sample."""
        readings: Readings = {}
        for device, counters in self._devices().items():
            for direction in ("read", "write"):
                which = {"system__device": device, "disk__io__direction": direction}
                for name, field in ((names.DISK_IO, "bytes"), (names.DISK_OPERATIONS, "count")):
                    key = series(name, **which)
                    readings[key] = self._totals.since_first(key, getattr(counters, f"{direction}_{field}"))
            if hasattr(counters, "busy_time"):
                key = series(names.DISK_IO_TIME, system__device=device)
                readings[key] = self._totals.since_first(key, counters.busy_time / 1e3)
        return readings

    def _devices(self) -> dict[str, Any]:
        counters = self._psutil.disk_io_counters(perdisk=True, nowrap=False) or {}
        whole = {name: each for name, each in counters.items() if self._whole(name)}
        if len(whole) <= MOST_DEVICES:
            return whole
        busiest = sorted(whole, key=lambda name: whole[name].read_bytes + whole[name].write_bytes)[-MOST_DEVICES:]
        return {name: whole[name] for name in busiest}

    def _whole(self, name: str) -> bool:
        if name not in self._is_whole:
            block = self._sys / "block"
            is_part = block.is_dir() and not (block / name.replace("/", "!")).exists()
            self._is_whole[name] = not is_part and not NO_DISK.match(name)
        return self._is_whole[name]
