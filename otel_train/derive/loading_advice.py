"""What to set for a faster input: advice from the record, with the gain that the model of the queue expects.

The fetches of a run without workers are its waits, one by one. Of workers the record has the mean fetch, the longest of
n and the slowest worker's mean: fetches are then taken to be lognormal, with the spread at which the longest of n is
expected to be what was seen. Where the record has no CPU times, a fetch is taken to compute all the time, which
promises least. The model is first fitted to the throughput that was recorded, so that a gain is over that.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from otel_train.derive.input_queue import Workload, fitted, predict, worker_counts
from otel_train.derive.loading_facts import LoadingFacts

WORTH = 0.03
"""Less gain than this is no reason to change anything."""

AS_GOOD = 0.98
"""Of settings as fast as this part of the fastest, the cheapest is advised."""

PREFETCH = (2, 4, 8)
USUAL_PREFETCH = 2
"""torch's own."""

SLOW_WORKER = 1.5
SEED = 8


@dataclass(frozen=True)
class Advice:
    """One setting to change. ``gain``: throughput inside steps (of the whole run for persistent_workers) over what was
    recorded, as expected; None where the record cannot tell."""

    setting: str
    now: Any
    to: Any
    gain: float | None
    at_most: bool
    """Whether the gain is a bound, not an expectation."""
    why: str


def advise(facts: LoadingFacts | None) -> list[Advice]:
    """What to set, the largest gain first; empty where nothing would help, or nothing is known. 0.1 s."""
    if facts is None:
        return []
    found = [*_queue(facts), *_threads(facts), *_persistent(facts), *_pinned(facts), *_batch_size(facts)]
    return sorted(found, key=lambda advice: -(advice.gain or 0.0))


def recorded_workload(facts: LoadingFacts) -> Workload | None:
    """What the model starts from; None without a count of CPUs."""
    loading, workers = facts.loading, facts.loading.workers or 0
    if facts.cpus is None or not loading.fetch_s:
        return None
    if not workers:
        share = min(facts.process_cpus, 1.0) if facts.process_cpus is not None else 1.0
        return Workload(facts.waits_s, facts.work_s, facts.cpus, share, max(facts.process_cpus or 1.0, share))
    share = 1.0
    if facts.children_cpu_s is not None:
        share = min(facts.children_cpu_s / loading.batches / loading.fetch_s, 1.0)
    others_s = (loading.fetch_s * workers - loading.slowest_s) / (workers - 1) if workers > 1 else loading.fetch_s
    slow = others_s > 0 and loading.slowest_s > SLOW_WORKER * others_s
    working = facts.work_s / (facts.work_s + facts.wait_s)
    load = Workload(
        (others_s,) if slow else spread(loading.fetch_s, loading.longest_s, loading.batches),
        facts.work_s,
        facts.cpus,
        share,
        facts.process_cpus / working if facts.process_cpus is not None and working else 1.0,
        slower={workers - 1: loading.slowest_s / others_s} if slow else {},
    )
    return fitted(load, workers, loading.prefetch or USUAL_PREFETCH, facts.batches_per_s)


def spread(mean_s: float, longest_s: float, count: int) -> tuple[float, ...]:
    """Fetches with that mean, whose longest of ``count`` is expected to be ``longest_s``; in a fixed random order.

    Lognormal with sigma: the longest is at the quantile z of 1 - 1/(count + 1), so ln(longest / mean) = sigma z -
    sigma**2 / 2, whose smaller solution is taken. 100 quantiles of equal shares stand for it, with that mean.
    """
    z = NormalDist().inv_cdf(1 - 1 / (max(count, 1) + 1)) if count > 1 else 0.0
    ratio = math.log(max(longest_s / mean_s, 1.0)) if mean_s > 0 else 0.0
    sigma = z - math.sqrt(max(z * z - 2 * ratio, 0.0))
    if sigma <= 0:
        return (mean_s,)
    parts = 100
    values = np.exp([sigma * NormalDist().inv_cdf((part + 0.5) / parts) for part in range(parts)])
    values *= mean_s / values.mean()
    shuffled: list[float] = np.random.default_rng(SEED).permutation(values).tolist()
    return tuple(shuffled)


def _queue(facts: LoadingFacts) -> list[Advice]:
    load = recorded_workload(facts)
    if load is None:
        return []
    workers, ahead = facts.loading.workers or 0, facts.loading.prefetch or USUAL_PREFETCH
    settings = {(count, depth if count else USUAL_PREFETCH) for count in worker_counts(load.cpus) for depth in PREFETCH}
    expected = {setting: predict(load, *setting).batches_per_s for setting in settings | {(workers, ahead)}}
    now, top = expected[workers, ahead], max(expected.values())
    best = min(setting for setting, rate in expected.items() if rate >= AS_GOOD * top)
    gain = expected[best] / now
    if gain < 1 + WORTH:
        spare = f"{best[0]} workers would keep up as well: the others take memory"
        return [Advice("num_workers", workers, best[0], 1.0, False, spare)] if 0 < 2 * best[0] < workers else []
    between = predict(load, best[0], ahead).batches_per_s
    found = []
    if between / now >= 1 + WORTH:
        found.append(Advice("num_workers", workers, best[0], between / now, False, _why(facts, load, between)))
    if best[0] and expected[best] / between >= 1 + WORTH:
        why = f"{best[1]} batches ahead a worker make up for slow ones: {_why(facts, load, expected[best])}"
        found.append(Advice("prefetch_factor", facts.loading.prefetch, best[1], expected[best] / between, False, why))
    return found


def _why(facts: LoadingFacts, load: Workload, expected: float) -> str:
    fetch_s = sum(load.fetches_s) / len(load.fetches_s)
    slow = "".join(f"; one worker takes {factor:.1f} times as long" for factor in load.slower.values())
    return (
        f"a batch takes {_ms(fetch_s)} to fetch, {load.fetch_cpu_share * 100:.0f} % of it computing, and "
        f"{_ms(facts.work_s)} to be worked on, on {load.cpus:g} CPUs{slow}: {facts.batches_per_s:.4g} batches/s now, "
        f"{expected:.4g} expected by the model of the queue"
    )


def _threads(facts: LoadingFacts) -> list[Advice]:
    load, workers = recorded_workload(facts), facts.loading.workers or 0
    if load is None or not workers or facts.process_cpus is None:
        return []
    fetching = workers * load.fetch_cpu_share
    left = max(math.floor(load.cpus - fetching), 1)
    if load.work_cpus < left + 1 or load.work_cpus + fetching <= load.cpus:
        return []
    why = (
        f"the training computes on {load.work_cpus:.1f} CPUs while {workers} workers want {fetching:.1f}, and there "
        f"are {load.cpus:g}"
    )
    return [Advice("torch.set_num_threads", None, left, None, False, why)]


def _persistent(facts: LoadingFacts) -> list[Advice]:
    starts = facts.starts
    if starts is None or starts.count < 2 or not facts.run_s:
        return []
    saved_s = starts.time_s * (starts.count - 1) / starts.count
    gain = facts.run_s / max(facts.run_s - saved_s, 1e-9)
    why = f"workers were started {starts.count} times, which took {_ms(starts.time_s)} of {_ms(facts.run_s)}"
    return [Advice("persistent_workers", False, True, gain, False, why)] if gain > 1 + WORTH else []


def _pinned(facts: LoadingFacts) -> list[Advice]:
    share = facts.copy_share
    if facts.gpu_bytes is None or facts.loading.pin_memory is not False or share is None or share < WORTH:
        return []
    why = f"copying batches to the GPU takes {share * 100:.0f} % of the step time, from memory that is not pinned"
    return [Advice("pin_memory", False, True, 1 / (1 - min(share, 0.99)), True, f"{why} (copy with non_blocking=True)")]


ROOM = 0.5


def _batch_size(facts: LoadingFacts) -> list[Advice]:
    size, peak, memory = facts.loading.batch_size, facts.peak_bytes, facts.gpu_bytes
    if not size or not peak or not memory or peak > ROOM * memory:
        return []
    why = (
        f"the GPU's memory was in use to {peak / memory * 100:.0f} % at most. What a larger batch gains cannot be told "
        "from one size: measure it"
    )
    return [Advice("batch_size", size, 2 * size, None, False, why)]


def _ms(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
