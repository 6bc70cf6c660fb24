"""Which of the driver's GPUs this process may use: ``CUDA_VISIBLE_DEVICES`` as CUDA reads it.

The rules are those of the CUDA Programming Guide ("CUDA Environment Variables"), of NVIDIA's MIG User Guide ("CUDA
Device Enumeration"), and where both are silent those of torch's own reading in ``torch/cuda/__init__.py``: entries are
of the first one's kind, numbers end where their digits end, and a device named twice leaves none.

``NVIDIA_VISIBLE_DEVICES`` is not read: it is an order to the container's runtime, and in the container the driver
lists what is left.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

CUDA_VARIABLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Instance:
    """A MIG instance: a compute instance, with the numbers and the UUIDs that the driver knows it by."""

    uuid: str
    parent: str
    gpu_instance: int
    compute_instance: int


@dataclass(frozen=True)
class Gpu:
    """A GPU. ``instances`` in the driver's order where MIG is on; None where it is off or there is none."""

    uuid: str
    model: str = ""
    instances: tuple[Instance, ...] | None = None


Device: TypeAlias = Gpu | Instance
"""What CUDA calls a device."""


@dataclass(frozen=True)
class Visible:
    """The devices that the process may use. ``ordered``: their positions are CUDA's own numbers, ``cuda:0`` first."""

    devices: tuple[Device, ...]
    ordered: bool = True


def visible_devices(gpus: Sequence[Gpu], environ: Mapping[str, str], driver: str = "") -> Visible:
    """What of ``gpus``, all that the driver lists in PCI order, this process may use.

    Without ``CUDA_DEVICE_ORDER=PCI_BUS_ID`` CUDA numbers the fastest first, by a rule of its own. GPUs of one model
    stay in PCI order; with several models it is not known what a number means: ``ordered`` is false, and any are named.

    ``driver`` is its version: before 570 a process could use one MIG instance and nothing beside it.
    """
    value = environ.get(CUDA_VARIABLE)
    known_order = environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len({gpu.model for gpu in gpus}) <= 1
    if value is None:
        return Visible(_enumerated(gpus, driver), known_order)
    if value.startswith(("GPU-", "MIG-")):
        return Visible(_enumerated(_by_uuid(gpus, value.split(",")), driver))
    numbered = _by_number(gpus, value.split(","))
    if known_order or not numbered:
        return Visible(_enumerated(numbered, driver))
    return Visible(_enumerated(gpus, driver), ordered=False)


def named(devices: Iterable[Device], uuid: str) -> Device | None:
    """The device of a UUID, with or without its ``GPU-`` or ``MIG-``: torch gives it without."""
    bare = _bare(uuid)
    return next((device for device in devices if _bare(device.uuid) == bare), None)


def _bare(uuid: str) -> str:
    return uuid.removeprefix("GPU-").removeprefix("MIG-").lower()


def _by_number(gpus: Sequence[Gpu], entries: Iterable[str]) -> tuple[Gpu, ...]:
    """Those before the first number that is none: -1, one too high, or text such as SLURM's ``NoDevFiles``."""
    found: list[Gpu] = []
    for entry in entries:
        match = re.match(r"\s*\+?(\d+)", entry, re.ASCII)  # `1gpu2` is 1: CUDA reads as C's strtoul does
        if match is None or int(match[1]) >= len(gpus):
            break
        gpu = gpus[int(match[1])]
        if gpu in found:
            return ()
        found.append(gpu)
    return tuple(found)


def _by_uuid(gpus: Sequence[Gpu], entries: Sequence[str]) -> tuple[Device, ...]:
    """Those before the first entry of another kind, or that names no device or more than one."""
    kind = entries[0][:4]
    found: list[Device] = []
    for entry in entries:
        device = _of_uuid(gpus, entry) if entry.startswith(kind) else None
        if device is None:
            break
        if device in found:
            return ()
        found.append(device)
    return tuple(found)


def _of_uuid(gpus: Sequence[Gpu], entry: str) -> Device | None:
    instances = [instance for gpu in gpus for instance in gpu.instances or ()]
    candidates: Sequence[Device] = gpus if entry.startswith("GPU-") else instances
    if entry.startswith("MIG-GPU-"):  # drivers before 470: MIG-<UUID of the GPU>/<GPU instance>/<compute instance>
        parent, *numbers = entry.removeprefix("MIG-").split("/")
        here = [i for i in instances if [str(i.gpu_instance), str(i.compute_instance)] == numbers]
        return _only([instance for instance in here if instance.parent.startswith(parent)])
    return _only([device for device in candidates if device.uuid.startswith(entry)])


def _only(devices: Sequence[Device]) -> Device | None:
    return devices[0] if len(devices) == 1 else None


def _enumerated(named_devices: Iterable[Device], driver: str) -> tuple[Device, ...]:
    """What CUDA makes of the named: a GPU with MIG is its instances, one compute instance of each GPU instance."""
    devices: dict[tuple[str, int], Device] = {}
    for device in named_devices:
        for part in _parts(device):
            place = (part.parent, part.gpu_instance) if isinstance(part, Instance) else (part.uuid, -1)
            devices.setdefault(place, part)
    instances = [device for device in devices.values() if isinstance(device, Instance)]
    return tuple(instances[:1]) if instances and _one_instance_only(driver) else tuple(devices.values())


def _parts(device: Device) -> tuple[Device, ...]:
    return (device,) if isinstance(device, Instance) or device.instances is None else device.instances


def _one_instance_only(driver: str) -> bool:
    major = driver.partition(".")[0]
    return major.isdecimal() and int(major) < 570
