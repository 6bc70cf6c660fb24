"""The governor: what otel_train costs a step decides the level, with numbers, once each way."""

import logging

import pytest

import otel_train
from otel_train import active, guard
from otel_train.errors import SettingsError
from otel_train.recorder.calibration import Calibration
from otel_train.recorder.signals import signals
from otel_train.runlog.layout import MISSING
from otel_train.settings import load
from otel_train.testing import FakeClock, record

US = 1_000
COST = Calibration(step_ns=1_000, phase_ns=1_000, data_wait_ns=1_000, hook_ns=0)
"""A step costs 2 µs, and 1 µs for each phase beside the wait."""


@pytest.fixture
def clock():
    """Time that passes when told to."""
    return FakeClock()


@pytest.fixture
def run(clock):
    """A run whose cost is known."""
    with record(clock) as recording:
        active.session.levels._calibration = COST
        yield recording


def steps_of(clock, us, count=30):
    """So many steps of so many µs, each with a wait and three phases."""
    for _ in range(count):
        start = signals.batch_asked()
        signals.batch_came("loader", start, start, 1, MISSING, 0)
        signals.forward_began()
        signals.forward_ended()
        signals.backward_began()
        clock.advance(us / 1e6)
        signals.backward_ended()
        signals.optimizer_began("sgd")
        signals.optimizer_ended("sgd")
    signals.batch_asked()


def govern(run):
    """Let the governor judge what is new."""
    active.session.levels.govern(run.log.steps)


def phases_of(run, clock, us=10_000):
    """The phases that the next step is recorded with."""
    steps_of(clock, us, 2)
    return [phase.name for phase in run.steps[-1].phases]


ALL, WAIT = ["data_wait", "forward", "backward", "optimizer"], ["data_wait"]


def test_within_the_budget_nothing_changes(run, clock):
    """Five µs of a step of 1000 are half a percent."""
    steps_of(clock, 1000)
    govern(run)
    assert ALL == phases_of(run, clock)
    assert 0.005 == pytest.approx(active.session.levels.share)
    assert [] == run.events


def test_above_the_budget_the_level_goes_down(run, clock, caplog):
    """Five µs of 100 are too much: steps and waits are kept; it is said once, with numbers, and recorded."""
    with caplog.at_level(logging.WARNING, "otel_train"):
        steps_of(clock, 100)
        govern(run)
        assert WAIT == phases_of(run, clock, 100)
        steps_of(clock, 100)
        govern(run)
    (said,) = [line.getMessage() for line in caplog.records]
    assert said.startswith("otel_train costs 5.0 µs of a step of 100 µs: 5.00 %, above its budget of 1 %. It goes from")
    assert [("level", "steps", 0.05)] == [
        (event.kind, event.attributes["otel_train.level"], pytest.approx(event.attributes["otel_train.overhead.share"]))
        for event in run.events
    ]


def test_up_again_when_steps_are_slow(run, clock):
    """With hysteresis: not yet where it would cost just less than the budget."""
    steps_of(clock, 100)
    govern(run)
    steps_of(clock, 600)  # 5 of 600 µs: 0.83 %
    govern(run)
    assert WAIT == phases_of(run, clock, 600)
    steps_of(clock, 2000)
    govern(run)
    assert ALL == phases_of(run, clock)


def test_steps_that_no_level_can_afford(run, clock):
    """It stays at the lowest level and says no more."""
    for _ in range(4):
        steps_of(clock, 10)
        govern(run)
    assert WAIT == phases_of(run, clock, 10)
    assert 1 == len(run.events)


def test_few_steps_are_not_judged(run, clock):
    """Nineteen new ones are too few."""
    steps_of(clock, 10, 19)
    govern(run)
    assert active.session.levels.share is None


def test_budget_off(clock):
    """No limit, no judgement."""
    with record(clock, overhead_budget="off") as run:
        active.session.levels._calibration = COST
        steps_of(clock, 10)
        govern(run)
        assert ALL == phases_of(run, clock)


def test_level_asked_for_is_the_highest(clock):
    """Level ``steps`` stays so, however slow the steps."""
    with record(clock, level="steps") as run:
        active.session.levels._calibration = COST
        steps_of(clock, 100_000)
        govern(run)
        assert WAIT == phases_of(run, clock)


def test_the_scripts_own_phases_follow_the_level(run, clock):
    """``trace_phase`` is left out where phases are not affordable, and comes back."""
    steps_of(clock, 100)
    govern(run)
    for us in (100, 100, 5000):
        for _ in range(30):
            with otel_train.trace_step(), otel_train.trace_phase("mine"):
                clock.advance(us / 1e6)
        govern(run)
    with otel_train.trace_step():
        pass
    with otel_train.trace_step(), otel_train.trace_phase("mine"):
        clock.advance(1)
    seen = [[phase.name for phase in step.phases] for step in run.steps]
    assert [] == seen[-10]
    assert ["mine"] == seen[-1]
    assert not guard.counts


@pytest.mark.parametrize(("given", "expected"), [("1%", 0.01), ("0.02", 0.02), (0.5, 0.5), ("off", None)])
def test_budget_as_it_is_given(given, expected):
    """A share, a percentage, or off."""
    assert expected == load({"overhead_budget": given}, {}).overhead_budget


@pytest.mark.parametrize("given", ["0", "150%", "much", "-1"])
def test_budget_that_is_none(given):
    """Refused, with what is allowed."""
    with pytest.raises(SettingsError, match="a share"):
        load({"overhead_budget": given}, {})


def test_overhead_counts_phases():
    """What is told of the training thread's time has the phases in it."""
    with record(FakeClock()) as run:
        session = active.session
        session.calibration = COST
        steps_of(session.clock, 100, 10)
        assert (10 + 4 * 10) * 1_000 == session._training_ns()
        assert 10 == len(run.steps)


class Told:
    """In a timer's place: what it is told of steps."""

    mark_ns, marked, dropped, every = 0.0, 0, 0, 1

    def __init__(self):
        self.numbers = []

    def step_over(self, number, cut):
        self.numbers.append(number)

    def finish(self):
        pass


def test_steps_of_an_evaluation_have_no_gpu_time():
    """They are counted from nought again: the time of one would be taken for that of a training step."""
    with record():
        levels = active.session.levels
        levels._timer = told = Told()
        active.recorder.after_step.append(levels._step_over)
        for _ in range(2):
            with otel_train.trace_step():
                pass
        with otel_train.trace_evaluation("validation"):
            for _ in range(2):
                with otel_train.trace_step():
                    pass
        with otel_train.trace_step():
            pass
    assert [0, 1, None, None, 2] == told.numbers
