"""What speaks for a setting, in sentences with their numbers."""

from typing import Any

from otel_train.derive.input_queue import Workload
from otel_train.tuning.grants import Grants
from otel_train.tuning.search import Search, Setting

ENOUGH = 0.9


def evidence(search: Search, best: Setting, granted: Grants, settings: dict[str, Any]) -> tuple[str, ...]:
    """Of a search that is over."""
    load = search.load
    lines = [*(_of_load(load) if load is not None else []), f"There are {granted.told()}."]
    if load is not None and load.cpus < ENOUGH * granted.cpus:
        lines.append(f"Only {load.cpus:.1f} of these CPUs were to be had meanwhile: other programs had the rest.")
    trial = search.trials[best]
    if trial.predicted and trial.rate:
        off = trial.rate / trial.predicted - 1
        lines.append(f"The model of the queue expected {trial.predicted:.4g} batches/s; measured {off * 100:+.0f} %.")
    if settings.get("persistent_workers") and trial.measured:
        lines.append(f"Starting the workers takes {_ms(min(trial.measured.starts_s))} a pass: kept between passes.")
    if len(granted.nodes) > 1:
        lines.append(
            f"The CPUs lie on NUMA nodes {', '.join(map(str, granted.nodes))}: start a rank on the node of "
            "its GPU (numactl --cpunodebind), and tune there."
        )
    if search.left_out:
        lines.append(f"{len(search.left_out)} settings were left out for want of memory: see their notes.")
    return tuple(lines)


def _of_load(load: Workload) -> list[str]:
    fetch_s = sum(load.fetches_s) / len(load.fetches_s)
    spread = f" ({_ms(min(load.fetches_s))} to {_ms(max(load.fetches_s))})" if len(load.fetches_s) > 1 else ""
    lines = [
        f"A batch takes {_ms(fetch_s)} to fetch{spread}, {load.fetch_cpu_share * 100:.0f} % of it computing; "
        f"and {_ms(load.work_s)} to be worked on."
    ]
    lines += [
        f"Worker {worker} takes {factor:.1f} times as long as fetches without workers."
        for worker, factor in load.slower.items()
    ]
    return lines


def _ms(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
