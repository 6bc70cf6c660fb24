"""A model of a DataLoader's queue: how long training waits for batches with so many workers, so far ahead.

The loader's rules are followed batch by batch (``torch.utils.data.dataloader``, ``_try_put_index``): batch ``i`` is
fetched by worker ``i % workers``; batches come in their order; at most ``prefetch * workers`` are asked for and not yet
taken; one taken asks for one more. Fetches take the times that were measured, in turn.

A fetch computes for a part of its time and is blocked (on a disk, a network) for the rest. What computes at the same
time shares the CPUs to be had: where it asks for more than there are, all computing takes longer by one factor; being
blocked does not (processor sharing).

What is left out: fetches that slow each other down otherwise (the bandwidth of a disk, caches, memory), the start of
workers, losses in the scheduler. So a prediction is to be verified, which ``otel_train.tune`` does.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

MEASURED_BATCHES = 240
"""Batches that are simulated after the queue has settled."""

SETTLING = 4
"""So many times the queue's length is simulated before."""


@dataclass(frozen=True)
class Workload:
    """What one batch takes, undisturbed, and what there is to do it with. Times in s."""

    fetches_s: tuple[float, ...]
    """Measured fetches of one worker, in their order; used again and again."""
    work_s: float
    """The training's own work on a batch, without its wait."""
    cpus: float
    """CPUs to be had; may be a fraction."""
    fetch_cpu_share: float = 1.0
    """The part of a fetch that computes; it is blocked for the rest."""
    work_cpus: float = 1.0
    """CPUs that the training's own threads use while they work."""
    handover_s: float = 0.0
    """What taking a batch from a worker costs the training; none without workers."""
    slower: Mapping[int, float] = field(default_factory=dict)
    """By worker, how many times as long as the others it takes."""


@dataclass(frozen=True)
class Prediction:
    """What the model expects of a setting. ``wait_s`` is the mean wait for a batch."""

    batches_per_s: float
    wait_s: float


def predict(load: Workload, workers: int, prefetch: int = 2) -> Prediction:
    """Throughput and wait with ``workers`` (0: the training fetches itself) and ``prefetch`` batches ahead for each.

    Raises ``ValueError`` for a workload without a fetch, and for numbers that no loader has.
    """
    if not load.fetches_s or workers < 0 or prefetch < 1 or load.cpus <= 0:
        raise ValueError(f"nothing to simulate: {load}, {workers} workers, prefetch {prefetch}")
    return _simulate(load, workers, prefetch) if workers else _alone(load)


WORKERS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
MORE_THAN_CPUS = 4
"""Workers a CPU at most: fetches that are blocked most of the time need none of their own."""


def worker_counts(cpus: float, most: int | None = None) -> list[int]:
    """How many workers come into question: up to ``most``, by itself four a CPU."""
    most = MORE_THAN_CPUS * math.ceil(cpus) if most is None else most
    return sorted({*(count for count in WORKERS if count <= most), most})


def slowdown(demands: list[tuple[float, float]], cpus: float) -> float:
    """How many times as long computing takes. ``demands``: the share of its time that a task computes, and how many.

    A task with share u, slowed down s times, takes u s + 1 - u of its time and uses u / (u s + 1 - u) of a CPU. The
    factor is the smallest s >= 1 at which all together use no more than ``cpus``; found by halving.
    """

    def used(factor: float) -> float:
        return sum(count * share / (share * factor + 1 - share) for share, count in demands)

    if used(1.0) <= cpus:
        return 1.0
    low, high = 1.0, sum(count for _, count in demands) / cpus
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if used(middle) > cpus else (low, middle)
    return high


def fitted(load: Workload, workers: int, prefetch: int, batches_per_s: float) -> Workload:
    """The same workload with its fetches longer or shorter, so that the model gives what was measured.

    What a worker spends beside the fetch, and what the times measured already held of contention, is in that factor. It
    stays between 1/4 and 4; where the work alone bounds the throughput, fetches say nothing, and stay.
    """
    if not workers:
        return load

    def scaled(factor: float) -> Workload:
        return replace(load, fetches_s=tuple(factor * fetch for fetch in load.fetches_s))

    low, high = 0.25, 4.0
    if predict(scaled(1.0), workers, prefetch).batches_per_s <= batches_per_s * 1.01:
        high = 1.0
    else:
        low = 1.0
    if predict(scaled(low), workers, prefetch).batches_per_s < batches_per_s * 0.99:
        return load  # no fetch would be short enough: something else is slow
    for _ in range(12):
        middle = (low + high) / 2
        fast = predict(scaled(middle), workers, prefetch).batches_per_s >= batches_per_s
        low, high = (middle, high) if fast else (low, middle)
    return scaled(low)


def _main_demand(load: Workload) -> tuple[float, float]:
    """Of the training while it works and takes batches: the share that computes, and by how many threads."""
    whole = load.work_s + load.handover_s
    cpus = (load.work_s * load.work_cpus + load.handover_s) / whole if whole else 0.0
    return min(cpus, 1.0), max(cpus, 1.0)


def _pace(share: float, factor: float) -> float:
    return 1 / (share * factor + 1 - share)


def _alone(load: Workload) -> Prediction:
    fetch_s = sum(load.fetches_s) / len(load.fetches_s)
    fetch_s /= _pace(load.fetch_cpu_share, slowdown([(load.fetch_cpu_share, 1.0)], load.cpus))
    share, threads = _main_demand(replace(load, handover_s=0.0))
    work_s = load.work_s / _pace(share, slowdown([(share, threads)], load.cpus))
    return Prediction(1 / (fetch_s + work_s) if fetch_s + work_s else float("inf"), fetch_s)


class _Paces:
    """How fast fetches and the training go, by how many workers fetch and whether the training works."""

    def __init__(self, load: Workload) -> None:
        self._load = load
        self._main = _main_demand(load)
        self._known: dict[tuple[int, bool], tuple[float, float]] = {}

    def __call__(self, fetching: int, working: bool) -> tuple[float, float]:
        key = fetching, working
        if key not in self._known:
            load = self._load
            demands = [(load.fetch_cpu_share, float(fetching))] + [self._main] * working
            factor = slowdown(demands, load.cpus)
            self._known[key] = _pace(load.fetch_cpu_share, factor), _pace(self._main[0], factor)
        return self._known[key]


def _simulate(load: Workload, workers: int, prefetch: int) -> Prediction:
    """From one end of a fetch or of a step's work to the next."""
    paces, most = _Paces(load), prefetch * workers
    settled = SETTLING * most
    end = settled + max(MEASURED_BATCHES, len(load.fetches_s))
    following = list(range(workers))  # by worker the batch that it fetches, or will as soon as it is asked for
    left: list[float | None] = [None] * workers
    ready: set[int] = set()
    taken, now, work_left, waited, since = 0, 0.0, 0.0, 0.0, 0.0
    working = False
    while True:
        if not working and taken in ready:
            ready.remove(taken)
            taken, working, work_left = taken + 1, True, load.work_s + load.handover_s
            if taken == settled:
                since, waited = now, 0.0
            if taken == end:
                count = end - settled
                return Prediction(_rate(count, now - since), waited / count + load.handover_s)
        for worker, batch in enumerate(following):
            if left[worker] is None and batch < taken + most:
                left[worker] = load.fetches_s[batch % len(load.fetches_s)] * load.slower.get(worker, 1.0)
        busy = [remaining for remaining in left if remaining is not None]
        fetch_pace, work_pace = paces(len(busy), working)
        step = min([remaining / fetch_pace for remaining in busy] + [work_left / work_pace] * working)
        now += step
        waited += 0.0 if working else step
        for worker, remaining in enumerate(left):
            if remaining is not None:
                rest = remaining - step * fetch_pace
                left[worker] = rest
                if rest <= 1e-12:
                    left[worker] = None
                    ready.add(following[worker])
                    following[worker] += workers
        if working:
            work_left -= step * work_pace
            working = work_left > 1e-12


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else float("inf")
