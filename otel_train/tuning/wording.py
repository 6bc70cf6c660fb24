"""What speaks for a setting, in sentences with their numbers."""

from typing import Any

from otel_train.derive.input_queue import Workload
from otel_train.tuning.grants import Grants
from otel_train.tuning.measuring import Measured
from otel_train.tuning.search import Search, Setting

ENOUGH = 0.9


def evidence(search: Search, best: Setting, granted: Grants, settings: dict[str, Any]) -> tuple[str, ...]:
    """Of a search that is over."""
    load = search.load
    alone = search.trials[Setting(0)].measured
    lines = [*(_of_load(load, alone) if load is not None and alone is not None else []), f"There are {granted.told()}."]
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


def _of_load(load: Workload, alone: Measured) -> list[str]:
    spread = f" ({_ms(min(alone.waits_s))} to {_ms(max(alone.waits_s))})" if alone.batches > 1 else ""
    fetch_s, work_s = sum(alone.waits_s) / alone.batches, sum(alone.works_s) / alone.batches
    lines = [
        f"A batch takes {_ms(fetch_s)} to fetch{spread}, and {_ms(work_s)} to be worked on. With a CPU at hand a fetch "
        f"computes for {load.fetch_cpu_share * 100:.0f} % of its time."
    ]
    lines += [
        f"Worker {worker} takes {factor:.1f} times as long as fetches without workers."
        for worker, factor in load.slower.items()
    ]
    return lines


def _ms(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
