"""From what was measured to the model of the queue."""

from dataclasses import replace
from statistics import fmean

from otel_train.derive.input_queue import Workload, fitted
from otel_train.tuning.measuring import Measured

SLOW_WORKER = 1.5
"""A worker whose fetches take so many times what they take without workers is slow by itself, if others are not."""

LEAST_QUEUED = 1.05
"""Less stretching of computing than this tells of no want of CPUs."""

COMPUTING = 0.3
"""What computes for less of its time, waits for a CPU left out, waits when it wakes up: that is a part of being
blocked, no want of CPUs."""

FEWEST_CPUS = 0.1


def workload(alone: Measured, probe: Measured | None, prefetch: int, cpus: float) -> Workload:
    """Without workers (``alone``), where a wait is a fetch; and with some, fitted to what came of it.

    Times are without waiting for a CPU, as far as the kernel tells it. Where the probe's workers had to wait for one,
    there are fewer CPUs to be had than were granted: other programs have the rest.
    """
    waited, worked = sum(alone.waits_s), sum(alone.works_s)
    computes = alone.taking_cpu_s >= COMPUTING * (waited - alone.taking_queued_s)
    fetch_s = max(waited - (alone.taking_queued_s if computes else 0.0), 0.0)
    work_s = (
        max(worked - alone.work_queued_s, 0.0)
        if alone.work_cpu_s >= COMPUTING * (worked - alone.work_queued_s)
        else worked
    )
    load = Workload(
        tuple(wait * fetch_s / waited for wait in alone.waits_s) if waited else (0.0,),
        work_s / alone.batches,
        cpus,
        min(alone.taking_cpu_s / fetch_s, 1.0) if fetch_s else 0.0,
        alone.work_cpu_s / work_s if work_s else 0.0,
    )
    return load if probe is None else _with_workers(load, probe, prefetch)


def _with_workers(load: Workload, probe: Measured, prefetch: int) -> Workload:
    known = replace(
        load, cpus=had_cpus(load, probe), handover_s=probe.taking_cpu_s / probe.batches, slower=_slower(load, probe)
    )
    return fitted(known, probe.workers, prefetch, probe.batches_per_s)


def had_cpus(load: Workload, probe: Measured) -> float:
    """What the workers wanted at once, over how much longer computing took them: at most the CPUs granted.

    They want less than their number where they are blocked, or wait because the training does not take more.
    """
    fetches = [fetch for own in probe.fetches for fetch in own if fetch.queued_s is not None]
    computed = sum(fetch.cpu_s for fetch in fetches)
    queued = sum(fetch.queued_s or 0.0 for fetch in fetches)
    took = sum(fetch.wall_s for fetch in fetches)
    if not computed or computed < COMPUTING * (took - queued) or (computed + queued) / computed < LEAST_QUEUED:
        return load.cpus
    wanted = probe.workers * min((computed + queued) / took, 1.0)
    return min(max(wanted * computed / (computed + queued), FEWEST_CPUS), load.cpus)


def _slower(load: Workload, probe: Measured) -> dict[int, float]:
    """By worker, how many times as long as without workers its fetches take, where that is its own."""
    usual = fmean(load.fetches_s)
    means = {
        worker: fmean(each.alone_s for each in fetches) / usual
        for worker, fetches in enumerate(probe.fetches)
        if fetches and usual
    }
    slower = {worker: factor for worker, factor in means.items() if factor > SLOW_WORKER}
    return slower if len(slower) < len(means) else {}  # all of them: that is no worker's own
