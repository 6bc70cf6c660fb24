"""The search for a loader's settings, on machines that are made up: time is counted, nothing is run."""

import random

import pytest

from otel_train.errors import TuningError
from otel_train.tuning.measuring import Measured, least_batches
from otel_train.tuning.reads import Fetched
from otel_train.tuning.search import Search, Setting, grid

WORK_S, FETCH_S, START_S = 0.006, 0.016, 0.03


class Machine:
    """Two CPUs and a data set that computes for 16 ms a batch. Gives each setting its rate, give or take."""

    def __init__(self, rate, noise=0.0, breaks=lambda setting, tries: False, start_s=START_S, work_s=WORK_S,
                 fetch_s=FETCH_S, computes=1.0):  # fmt: skip
        self.start_s, self.work_s, self.fetch_s, self.computes = start_s, work_s, fetch_s, computes
        self.rate, self.noise, self.breaks = rate, noise, breaks
        self.now_s, self.measured = 0.0, []
        self.random = random.Random(7)

    def measure(self, setting, seconds, limit_s):
        rate = self.rate(setting) * (1 + self.noise * self.random.gauss(0, 1))
        batches = max(round(rate * seconds), least_batches(setting.workers))
        self.now_s += batches / rate + self.start_s * setting.workers
        self.measured.append(setting)
        if self.breaks(setting, self.measured.count(setting)):
            raise TuningError("out of memory")
        work_s = min(self.work_s, 1 / rate)
        found = Measured([1 / rate - work_s] * batches, [work_s] * batches, workers=setting.workers)
        cpu_s = self.computes * self.fetch_s
        found.taking_cpu_s = batches * (0.0005 if setting.workers else cpu_s)
        wall_s = max(setting.workers / rate, self.fetch_s)
        each = Fetched(wall_s, cpu_s, (wall_s - self.fetch_s) * self.computes, None)
        found.fetches = [[each] * max(batches // max(setting.workers, 1), 1)] * setting.workers
        found.starts_s = [self.start_s * setting.workers]
        return found

    def search(self, budget_s, settings=None):
        settings = settings or grid(2.0, None, (2, 4, 8), (False,))
        return Search(self.measure, settings, 2.0, budget_s, clock=lambda: self.now_s)


def computing(setting):
    """Two CPUs, of which two workers leave one idle at times, and more do not."""
    if setting.workers < 2:
        return (44.0, 56.0)[setting.workers]
    return {2: 103.0, 3: 96.0, 4: 107.0}.get(setting.workers, 111.0) - 0.2 * setting.prefetch


def test_more_workers_than_the_model_sees_a_use_for():
    """To it two are as good as eight: measured they are not."""
    machine = Machine(computing)
    search = machine.search(60.0)
    assert Setting(8, 2) == search.run()
    two, eight = (search.trials[Setting(workers, 2)] for workers in (2, 8))
    assert eight.predicted == pytest.approx(two.predicted, rel=0.03)
    assert search.expected_gain == pytest.approx(103 / 44, rel=0.1)


@pytest.mark.parametrize("budget_s", [2.0, 8.5, 13.0, 60.0])
def test_the_budget_is_kept(budget_s):
    """What is left of it, is less than a measurement takes; or all that are close were measured often enough."""
    machine = Machine(computing, noise=0.04)
    search = machine.search(budget_s)
    best = search.run()
    assert search.spent_s == machine.now_s <= budget_s
    left = budget_s - machine.now_s < 1.2 * (search.seconds + START_S * 8)
    assert left or {3} == {search.trials[each].tries for each in (best, Setting(0))}


def test_noise_seldom_decides():
    """With 4 % of noise in half a second, the pick is nearly always within 5 % of the best."""
    rates = []
    for number in range(200):
        machine = Machine(computing, noise=0.037)
        machine.random = random.Random(number)
        rates.append(computing(machine.search(13.0).run()))
    assert len([rate for rate in rates if rate >= 0.95 * 110.6]) >= 185


def test_the_close_ones_are_measured_in_turn():
    """As often as each other, give or take one; those that are far off once only."""
    search = Machine(computing).search(12.0)
    fastest = search.trials[search.run()].rate
    close = sorted((trial for trial in search.trials.values() if trial.rate >= 0.9 * fastest), key=lambda it: -it.rate)
    tries = [trial.tries for trial in [*close[:4], search.trials[Setting(0)]]]
    assert 2 <= min(tries) <= max(tries) <= min(tries) + 1
    far = [trial for trial in search.trials.values() if trial.setting.workers and 0 < trial.rate < 0.9 * fastest]
    assert {1} == {trial.tries for trial in far}


def test_a_setting_that_fails_when_measured_again():
    """Is out; without workers it has its failure too, and is not tried for ever."""
    machine = Machine(computing, breaks=lambda setting, tries: setting == Setting(8, 2) and tries > 1)
    search = machine.search(60.0)
    assert search.trials[search.run()].failure is None
    assert "out of memory" == search.trials[Setting(8, 2)].failure
    machine = Machine(computing, breaks=lambda setting, tries: setting == Setting(0) and tries > 2)
    assert machine.search(60.0).run().workers > 1
    assert machine.measured.count(Setting(0)) <= 5


def test_workers_that_are_slow_to_start():
    """Sixty-four of them, a second each, are not started when twenty seconds are left."""
    machine = Machine(computing, start_s=1.0)
    search = machine.search(60.0, grid(16.0, None, (2,), (False,)))
    assert search.run().workers < 32
    assert machine.now_s <= 60.0
    assert max(setting.workers for setting in machine.measured) < 32


def test_workers_that_cannot_help_are_not_started():
    """A step of 0.12 s that keeps no CPU busy is the bound with two workers already: sixty-four are not tried."""
    machine = Machine(lambda setting: 8.0 if setting.workers > 1 else 5.0, work_s=0.12)
    search = machine.search(60.0, grid(16.0, None, (2,), (False,)))
    assert search.run().workers <= 4
    assert max(setting.workers for setting in machine.measured) <= 8


def test_blocked_fetches_with_workers_that_start_slowly():
    """Half a second each, and as long a fetch: nothing is begun that is not expected to be over in time."""
    machine = Machine(lambda setting: min(max(setting.workers, 1) * 2.0, 160.0), start_s=0.5, fetch_s=0.5, computes=0.0)
    search = machine.search(60.0, grid(16.0, None, (2, 4), (False,)))
    assert search.run().workers > 2
    assert machine.now_s <= 60.0
    assert {None} == {trial.failure for trial in search.trials.values()}


def test_only_pinned_memory():
    """Without workers there is none: those with it are tried all the same."""
    machine = Machine(lambda setting: {0: 140.0, 1: 110.0, 2: 110.0}.get(setting.workers, 160.0))
    search = machine.search(60.0, grid(2.0, None, (2,), (True,)))
    assert search.run().workers >= 4


def test_pinned_memory_is_tried_beside():
    """Where it is faster, with many workers too."""
    machine = Machine(lambda setting: computing(setting) * (1.04 if setting.pin_memory else 1.0))
    search = machine.search(60.0, grid(2.0, None, (2, 4, 8), (False, True)))
    assert Setting(8, 2, True) == search.run()


def test_no_workers_are_the_best():
    """Where a batch costs nothing: handing it over from a worker is slower."""
    machine = Machine(lambda setting: 130.0 if setting.workers else 157.0)
    assert Setting(0) == machine.search(60.0).run()


def test_what_workers_keep_up():
    """The slowest worker by itself counts; which one waits longest for a CPU does not."""
    even = [[Fetched(wall, 0.016, wall - 0.016, None) for wall in walls] for walls in ([0.02] * 4, [0.06] * 4)]
    slow = [[Fetched(wall, 0.001, 0.0, None)] * 4 for wall in (0.02, 0.06)]
    threads = [[Fetched(0.02, 0.08, 0.0, None)] * 4] * 2
    unknown = [[Fetched(wall, 0.016, None, None)] * 4 for wall in (0.02, 0.06)]
    assert Measured(fetches=even).capacity == pytest.approx(2 / 0.04)
    assert Measured(fetches=slow).capacity == pytest.approx(2 / 0.06)
    assert Measured(fetches=threads).capacity == pytest.approx(2 / 0.02)
    assert Measured(fetches=unknown).capacity == pytest.approx(2 / 0.06)
    assert float("inf") == Measured().capacity
