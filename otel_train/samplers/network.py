"""The host's network interfaces: bytes, packets dropped, errors."""

from typing import Any

from otel_train import resource_names as names
from otel_train.resource_names import series
from otel_train.samplers.sampler import Readings, SamplerUnavailable, load_psutil
from otel_train.samplers.totals import Totals

VIRTUAL = (
    "lo", "veth", "docker", "br-", "virbr", "cali", "cni", "flannel", "dummy", "ifb", "tunl", "sit", "lxc", "cilium",
    "eni", "gke", "azv", "vxlan", "geneve", "kube-", "nodelocaldns", "tap", "vnet", "ovs", "weave", "podman",
)  # fmt: skip
"""Beginnings of names: what passes there passes a real interface too, or none."""

FIELDS = {
    names.NETWORK_IO: ("bytes_recv", "bytes_sent"),
    names.NETWORK_DROPPED: ("dropin", "dropout"),
    names.NETWORK_ERRORS: ("errin", "errout"),
}
DIRECTIONS = ("receive", "transmit")


class NetworkSampler:
    """0.2 ms. Interfaces that have carried something. Raises ``SamplerUnavailable`` where there is none."""

    def __init__(self, psutil: Any = None) -> None:
        self._psutil = psutil or load_psutil()
        self._totals = Totals()
        if not self._interfaces():
            raise SamplerUnavailable("there is no network interface but virtual ones")

    def sample(self) -> Readings:
        """Totals since the first sample."""
        readings: Readings = {}
        for interface, counters in self._interfaces().items():
            for name, fields in FIELDS.items():
                for direction, field in zip(DIRECTIONS, fields, strict=True):
                    which = {"network__interface__name": interface, "network__io__direction": direction}
                    key = series(name, **which)
                    readings[key] = self._totals.since_first(key, getattr(counters, field))
        return readings

    def _interfaces(self) -> dict[str, Any]:
        counters = self._psutil.net_io_counters(pernic=True, nowrap=False) or {}
        return {
            name: each
            for name, each in counters.items()
            if not name.startswith(VIRTUAL) and each.bytes_recv + each.bytes_sent
        }
