"""The report's tables of what the run used: each GPU, and where memory went."""

from otel_train.derive.devices import Device
from otel_train.derive.summary import RunSummary
from otel_train.report import text
from otel_train.report.facts import MOST_ROWS, Grid


def gpus(run: RunSummary) -> Grid | None:
    """Each GPU by itself, over the time in which it trained."""
    rows = [
        (
            _name(device), text.percent(device.utilization), _sizes(device),
            _pair(device.power_mean_w, device.power_max_w, "W"),
            _pair(device.temperature_mean_c, device.temperature_max_c, "°C"), text.percent(device.throttled_share),
            text.MISSING if device.energy_j is None else f"{device.energy_j / 3.6e6:.3g} kWh",
        )
        for device in run.merged.devices[:MOST_ROWS]
    ]  # fmt: skip
    headings = ("", "busy", "memory", "power", "temperature", "throttled", "energy")
    more = len(run.merged.devices) - MOST_ROWS
    notes = ["Mean, and the highest in brackets, while it trained."] + [f"{more} more are in --json."] * (more > 0)
    return Grid("GPUs", headings, rows, (False, *[True] * 6), tuple(notes)) if rows else None


def _name(device: Device) -> str:
    model = device.model or device.name or "GPU"
    return f"{model} {device.id[:12]}" + ("" if device.own else " (not the run's)")


def _sizes(device: Device) -> str:
    if device.memory_max_bytes is None:
        return text.MISSING
    limit = "" if device.memory_limit_bytes is None else f" of {text.size(device.memory_limit_bytes)}"
    return f"{text.size(device.memory_mean_bytes)} ({text.size(device.memory_max_bytes)}){limit}"


def _pair(mean: float | None, highest: float | None, unit: str) -> str:
    if mean is None and highest is None:
        return text.MISSING
    shown = [text.MISSING if value is None else f"{value:.0f}" for value in (mean, highest)]
    return f"{shown[0]} ({shown[1]}) {unit}"


def memory(run: RunSummary) -> Grid | None:
    """Where memory went: of several ranks the highest."""
    found = run.merged.memory
    rows = [
        (name, text.size(mean), text.size(highest), note)
        for name, mean, highest, note in (
            ("process", found.process_mean, found.process_max, "resident, of the rank that had most"),
            ("workers", found.workers_mean, found.workers_max, "child processes of a rank together"),
            ("page cache", found.page_cache_mean, found.page_cache_max, "files that the host keeps, and gives back"),
            ("container", None, found.cgroup_max, _of(found.cgroup_limit)),
            ("swap", None, found.swap_max or None, ""),
            ("GPU, tensors", None, found.gpu_peak, "the most at one time"),
            ("GPU, allocator", None, found.gpu_reserved, ""),
        )
        if mean is not None or highest is not None
    ]
    if found.available_min is not None:
        free = f"{_of(found.host_limit)}: the least that could be had without swapping"
        rows.append(("host, available", text.MISSING, text.size(found.available_min), free))
    numbers = (False, True, True, False)
    return Grid("Memory", ("", "mean", "highest", ""), rows, numbers) if rows else None


def _of(limit: float | None) -> str:
    return "" if limit is None else f"of {text.size(limit)}"
