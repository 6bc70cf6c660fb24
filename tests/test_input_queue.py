"""The model of a DataLoader's queue: its limits, which can be worked out, and what follows from the loader's rules."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_train.derive.input_queue import Workload, fitted, predict, slowdown, worker_counts

BLOCKED = {"cpus": 2.0, "fetch_cpu_share": 0.0, "work_cpus": 0.0}
times = st.floats(1e-4, 1.0)


@given(fetch=times, work=times)
def test_without_workers_fetch_and_work_follow_each_other(fetch, work):
    """One batch in the time of both; the wait is the fetch."""
    found = predict(Workload((fetch,), work, **BLOCKED), 0)
    assert 1 / (fetch + work) == pytest.approx(found.batches_per_s)
    assert fetch == pytest.approx(found.wait_s)


@settings(max_examples=40, deadline=None)
@given(fetch=times, work=times, workers=st.integers(1, 8), prefetch=st.integers(1, 4))
def test_blocked_workers_add_up_until_the_work_bounds(fetch, work, workers, prefetch):
    """The slower of the two sides bounds the throughput: W batches a fetch, or one in the time of the work."""
    found = predict(Workload((fetch,), work, **BLOCKED), workers, prefetch)
    period = max(work, fetch / workers)
    assert 1 / period == pytest.approx(found.batches_per_s, rel=0.03)
    assert period - work == pytest.approx(found.wait_s, abs=0.03 * period)


@settings(max_examples=25, deadline=None)
@given(
    fetches=st.lists(times, min_size=1, max_size=12),
    work=times,
    share=st.floats(0, 1),
    cpus=st.floats(0.5, 8),
    workers=st.integers(1, 6),
    prefetch=st.integers(1, 3),
)
def test_no_setting_beats_what_the_cpus_and_the_work_allow(fetches, work, share, cpus, workers, prefetch):
    """Never more than one batch in the time of the work, nor than the CPUs can compute, nor than all workers fetch."""
    load = Workload(tuple(fetches), work, cpus, share, work_cpus=0.0)
    rate = predict(load, workers, prefetch).batches_per_s
    mean = sum(fetches) / len(fetches)
    assert rate <= 1.02 / work
    assert rate * mean * share <= cpus * 1.1  # the batches counted start anywhere in the list of fetches
    assert rate * mean <= workers * 1.1


@pytest.mark.parametrize(("workers", "rate"), [(1, 50.0), (2, 80.0), (4, 80.0), (8, 80.0)])
def test_computing_shares_the_cpus(workers, rate):
    """20 ms of computing a batch and 5 ms of work on 2 CPUs: 25 ms of CPU a batch, so no more than 80 a second."""
    assert rate == pytest.approx(predict(Workload((0.02,), 0.005, 2.0), workers).batches_per_s, rel=0.02)


def test_one_slow_worker_holds_up_all():
    """Batches come in order: with one worker of four that takes 80 ms there are four batches in 80 ms, not more."""
    load = Workload((0.01,), 0.0, **BLOCKED, slower={1: 8.0})
    assert 50.0 == pytest.approx(predict(load, 4).batches_per_s, rel=0.02)
    assert 400.0 == pytest.approx(predict(Workload((0.01,), 0.0, **BLOCKED), 4).batches_per_s, rel=0.02)


def test_a_longer_queue_evens_out_rare_slow_fetches():
    """One fetch in 20 takes 100 ms: on average the workers keep up, but only with enough batches ahead."""
    load = Workload((0.01,) * 19 + (0.1,), 0.008, **BLOCKED)
    rates = [predict(load, 2, prefetch).batches_per_s for prefetch in (1, 2, 4, 8)]
    assert rates == sorted(rates)
    assert rates[3] > 1.1 * rates[0]


def test_handing_over_costs_only_with_workers():
    """Tiny samples: what a worker's batch costs to take is more than fetching it."""
    load = Workload((1e-5,), 1e-3, 2.0, handover_s=1e-3)
    assert predict(load, 0).batches_per_s > 1.5 * predict(load, 2).batches_per_s


@given(
    demands=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 10)), max_size=4),
    cpus=st.floats(0.5, 16),
)
def test_slowdown_is_the_least_that_fits(demands, cpus):
    """At the factor found all together use the CPUs and no more; without contention nothing is slowed down."""
    factor = slowdown(demands, cpus)
    used = sum(count * share / (share * factor + 1 - share) for share, count in demands)
    assert used <= cpus * (1 + 1e-6)
    assert factor == 1.0 or used == pytest.approx(cpus, rel=1e-3)


@pytest.mark.parametrize("rate", [30.0, 60.0, 95.0])
def test_fitting_gives_what_was_measured(rate):
    """Fetches get longer or shorter until the model gives the measured rate."""
    load = fitted(Workload((0.02, 0.03), 0.002, **BLOCKED), 2, 2, rate)
    assert rate == pytest.approx(predict(load, 2, 2).batches_per_s, rel=0.01)


def test_fitting_changes_nothing_where_the_work_bounds():
    """No fetch is short enough for less than the work takes: then it is not the fetches."""
    load = Workload((0.001,), 0.02, **BLOCKED)
    assert load == fitted(load, 2, 2, 1000.0)


@pytest.mark.parametrize(
    ("fetches", "workers", "prefetch", "cpus"),
    [((), 1, 2, 2.0), ((1.0,), -1, 2, 2.0), ((1.0,), 1, 0, 2.0), ((1.0,), 1, 2, 0.0)],
)
def test_what_no_loader_has_is_refused(fetches, workers, prefetch, cpus):
    """An error, and no simulation that never ends."""
    with pytest.raises(ValueError, match="nothing to simulate"):
        predict(Workload(fetches, 0.1, cpus), workers, prefetch)


def test_candidates_reach_four_workers_a_cpu():
    """Up to what is allowed, which is one itself."""
    assert [0, 1, 2, 3, 4, 6, 8] == worker_counts(1.5)
    assert [0, 1, 2, 3, 4, 5] == worker_counts(16, most=5)
