"""What a run's GPUs draw: their number, their mean power, and the energy of a stretch of time."""

from otel_train.derive.devices import Device
from otel_train.derive.summary import RunSummary, Summary


def gpu_count(run: RunSummary) -> int:
    """One GPU a rank, where the ranks have any; by the world size, so that ranks whose record is elsewhere count."""
    if not any(identity.get("hardware", {}).get("gpus") for identity in run.identities.values()):
        return 0
    first = run.identities[min(run.identities)]
    return max(int(first.get("world_size") or 1), len(run.ranks))


def own_devices(summary: Summary) -> list[Device]:
    """The GPUs that ranks train on; all that were sampled, where it is not known which."""
    return [device for device in summary.devices if device.own] or summary.devices


def mean_watts(summary: Summary) -> float | None:
    """The mean power of a GPU while it trained; None where no power was sampled."""
    known = [device.watts for device in own_devices(summary) if device.watts is not None]
    return sum(known) / len(known) if known else None


def energy_j(run: RunSummary, time_s: float) -> float | None:
    """What the run's GPUs use in some time, in joules; None without GPUs, or where their power is not known."""
    watts, gpus = mean_watts(run.merged), gpu_count(run)
    return watts * gpus * time_s if watts is not None and gpus else None
