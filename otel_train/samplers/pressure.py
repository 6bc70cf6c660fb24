"""Pressure stall information: how long tasks waited for CPU, memory and I/O (Linux 4.20; ``accounting/psi.rst``)."""

import re
from pathlib import Path

from otel_train import resource_names as names
from otel_train.resource_names import series
from otel_train.samplers.sampler import Readings, SamplerUnavailable
from otel_train.samplers.totals import Totals

LINE = re.compile(r"(some|full) avg10=([\d.]+) .*total=(\d+)")


class PressureSampler:
    """0.1 ms. Raises ``SamplerUnavailable`` where the kernel has none, or does not show it."""

    def __init__(self, folder: Path = Path("/proc/pressure")) -> None:
        self._totals = Totals()
        self._files = {name: folder / name for name in ("cpu", "memory", "io")}
        if not any(self._read(path) for path in self._files.values()):
            raise SamplerUnavailable(f"{folder} cannot be read")

    def sample(self) -> Readings:
        """``some``: at least one task waited; ``full``: all of them did."""
        readings: Readings = {}
        for resource, path in self._files.items():
            for kind, percent, micros in LINE.findall(self._read(path)):
                which = {"otel_train__pressure__resource": resource, "otel_train__pressure__kind": kind}
                readings[series(names.PRESSURE, **which)] = float(percent) / 100
                total = series(names.PRESSURE_TIME, **which)
                readings[total] = self._totals.since_first(total, int(micros) / 1e6)
        return readings

    def _read(self, path: Path) -> str:
        try:
            return path.read_text()
        except OSError:  # also where it is turned off: then reading fails, not opening
            return ""
