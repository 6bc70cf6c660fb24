"""What the record of a run says of its input queue: what the model of the queue starts from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from otel_train import names
from otel_train.derive.data_loading import DataLoading
from otel_train.derive.phases import PhaseTotal
from otel_train.derive.resource_totals import ResourceTotal
from otel_train.derive.scan import RankScan
from otel_train.derive.steps import FEW_STEPS
from otel_train.resource_names import (
    CGROUP_CPU_LIMIT,
    CHILDREN_CPU_TIME,
    CPU_LOGICAL_COUNT,
    PROCESS_CPU_UTILIZATION,
    column,
    series_of,
)

KEPT_FETCHES = 200
"""So many of a run's fetches, evenly over it, stand for all."""


@dataclass(frozen=True)
class LoadingFacts:
    """Of the run's first rank with enough steps. Times in s; None is not recorded."""

    loading: DataLoading
    waits_s: tuple[float, ...]
    """Waits for a batch: some, evenly over the judged steps."""
    wait_s: float
    work_s: float
    """Means a batch: waiting for it, and all else in the step."""
    rows: int
    """Judged steps."""
    cpus: float | None
    """CPUs that the rank could use: allowed to it and by its control group, divided by the ranks of its host."""
    process_cpus: float | None
    """CPUs that its own threads used while it trained."""
    children_cpu_s: float | None
    """Computing of its children, its workers above all."""
    starts: PhaseTotal | None
    """Starts of workers outside steps."""
    run_s: float
    """From the first step to the last."""
    copy_share: float | None
    """Of the step time, copying batches to the GPU."""
    gpu_bytes: int | None
    """Memory of its GPU."""
    peak_bytes: int | None
    """The most of it that the allocator had."""

    @property
    def batches_per_s(self) -> float:
        """Inside steps."""
        return 1 / (self.wait_s + self.work_s)


def loading_facts(scans: Sequence[RankScan]) -> LoadingFacts | None:
    """None where no rank has timed fetches and more than a few steps."""
    for scan in scans:
        enough = scan.steps.count > FEW_STEPS and scan.steps.waits_ns.any()
        if enough and scan.events.training_loading.batches:
            return _facts(scan, scan.events.training_loading)
    return None


def _facts(scan: RankScan, loading: DataLoading) -> LoadingFacts:
    first = scan.steps.warmed_up
    waits = scan.steps.waits_ns[first:].astype(np.float64) / 1e9
    steps_s = float(scan.steps.durations_ns[first:].sum()) / 1e9
    batches = max(round(loading.batches / scan.steps.count), 1)
    some = waits[np.linspace(0, len(waits) - 1, min(KEPT_FETCHES, len(waits))).astype(int)] / batches
    bounds = scan.steps.bounds_ns or (0, 0)
    wait_s = float(waits.sum()) / len(waits) / batches
    copies = [total.time_s for (_, _, name), total in _phases(scan) if name == names.HOST_TO_DEVICE]
    gpus = scan.identity.get("hardware", {}).get("gpus") or []
    return LoadingFacts(
        loading,
        tuple(some.tolist()),
        wait_s,
        max(steps_s / len(waits) / batches - wait_s, 0.0),
        len(waits),
        _cpus(scan),
        _sum(scan.resources, PROCESS_CPU_UTILIZATION),
        scan.resources[CHILDREN_CPU_TIME].last if CHILDREN_CPU_TIME in scan.resources else None,
        scan.events.outside.get(names.DATA_LOADER_START),
        (bounds[1] - bounds[0]) / 1e9,
        sum(copies) / (scan.steps.stepping_ns / 1e9) if copies else None,
        gpus[0].get("memory_bytes") if gpus else None,
        scan.gpu.peak_bytes,
    )


def _phases(scan: RankScan) -> list[tuple[tuple[int, str | None, str], PhaseTotal]]:
    return list(scan.steps.phases.by_name(scan.steps.phase_names).items())


def _cpus(scan: RankScan) -> float | None:
    known = [
        scan.resources[column((name, ()))].max
        for name in (CPU_LOGICAL_COUNT, CGROUP_CPU_LIMIT)
        if column((name, ())) in scan.resources
    ]
    count: Any = scan.identity.get("hardware", {}).get("cpu", {}).get("count")
    known += [float(count)] if isinstance(count, int) else []
    local = str(scan.identity.get("launcher", {}).get("LOCAL_WORLD_SIZE", ""))
    ranks = int(local) if local.isdecimal() and int(local) else 1
    return min(known) / ranks if known else None


def _sum(resources: dict[str, ResourceTotal], metric: str) -> float | None:
    means = [total.mean for name, total in resources.items() if series_of(name)[0] == metric]
    known = [mean for mean in means if mean is not None and math.isfinite(mean)]
    return sum(known) if known else None
