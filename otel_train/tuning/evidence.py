"""From what was measured to the model of the queue."""

from statistics import fmean

from otel_train.derive.input_queue import Workload, fitted
from otel_train.tuning.measuring import Measured

SLOW_WORKER = 1.5
"""A worker whose fetches take so many times what they take without workers is slow by itself, if others are not."""

COMPUTING = 0.3
"""What computes for less of its time than this waits for a CPU when it wakes up: that is a part of being blocked, no
load of others that it would share CPUs with."""

MOST_OTHERS = 2.0
"""More load of others than so many times the CPUs is not believed."""

LEAST_QUEUED = 1.05
"""Less stretching of computing than this tells of no other load."""


def workload(alone: Measured, probe: Measured | None, prefetch: int, cpus: float) -> Workload:
    """Without workers (``alone``), where a wait is a fetch; and with some, fitted to what came of it."""
    computes = alone.taking_cpu_s >= COMPUTING * sum(alone.waits_s)
    queued_s = alone.taking_queued_s if computes else 0.0
    waited, worked = sum(alone.waits_s), sum(alone.works_s)
    fetch_s = max(waited - queued_s, 0.0)
    stretched = (alone.taking_cpu_s + queued_s) / alone.taking_cpu_s if alone.taking_cpu_s else 1.0
    work_s = max(worked - alone.work_queued_s, 0.0) if alone.work_cpu_s >= COMPUTING * worked else worked
    load = Workload(
        tuple(wait * fetch_s / waited for wait in alone.waits_s) if waited else (0.0,),
        work_s / alone.batches,
        cpus,
        min(alone.taking_cpu_s / fetch_s, 1.0) if fetch_s else 0.0,
        alone.work_cpu_s / work_s if work_s else 0.0,
        others=min(max(stretched * cpus - 1.0, 0.0), MOST_OTHERS * cpus) if stretched > LEAST_QUEUED else 0.0,
    )
    return load if probe is None else _with_workers(load, probe, prefetch)


def _with_workers(load: Workload, probe: Measured, prefetch: int) -> Workload:
    usual = fmean(load.fetches_s)
    means = {
        worker: fmean(each.alone_s for each in fetches) / usual
        for worker, fetches in enumerate(probe.fetches)
        if fetches and usual
    }
    slower = {worker: factor for worker, factor in means.items() if factor > SLOW_WORKER}
    if len(slower) == len(means):  # all of them: that is no worker's own
        slower = {}
    known = Workload(
        load.fetches_s,
        load.work_s,
        load.cpus,
        load.fetch_cpu_share,
        load.work_cpus,
        probe.taking_cpu_s / probe.batches,
        slower,
        load.others,
    )
    return fitted(known, probe.workers, prefetch, probe.batches_per_s)
