"""InfiniBand and RoCE ports: the kernel's counters in ``/sys/class/infiniband``, which no interface's counters have."""

from pathlib import Path

from otel_train import resource_names as names
from otel_train.resource_names import series
from otel_train.samplers.sampler import Readings, SamplerUnavailable
from otel_train.samplers.totals import Totals

WORD_BYTES = 4
"""``port_xmit_data`` counts 32-bit words (InfiniBand specification, PortCounters)."""

DATA = {"receive": "port_rcv_data", "transmit": "port_xmit_data"}
ERRORS = ("symbol_error", "link_error_recovery", "link_downed", "port_rcv_errors", "port_xmit_discards",
          "local_link_integrity_errors", "excessive_buffer_overrun_errors")  # fmt: skip


class InfinibandSampler:
    """0.1 ms a port. Raises ``SamplerUnavailable`` where there is no port."""

    def __init__(self, folder: Path = Path("/sys/class/infiniband")) -> None:
        self._totals = Totals()
        try:
            self._ports = sorted(folder.glob("*/ports/*/counters"))
        except OSError:
            self._ports = []
        if not self._ports:
            raise SamplerUnavailable("there is no InfiniBand port")

    def sample(self) -> Readings:
        """Bytes by direction and errors by type, since the first sample. Counters that a port has not are absent."""
        readings: Readings = {}
        for counters in self._ports:
            port = f"{counters.parents[2].name}:{counters.parent.name}"
            for direction, file in DATA.items():
                words = _count(counters / file)
                if words is not None:
                    key = series(
                        names.INFINIBAND_IO, otel_train__infiniband__port=port, network__io__direction=direction
                    )
                    readings[key] = self._totals.since_first(key, words * WORD_BYTES)
            for error in ERRORS:
                count = _count(counters / error)
                if count is not None:
                    key = series(names.INFINIBAND_ERRORS, otel_train__infiniband__port=port, error__type=error)
                    readings[key] = self._totals.since_first(key, count)
        return readings


def _count(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "N/A (no PMA)" on some devices
        return None
