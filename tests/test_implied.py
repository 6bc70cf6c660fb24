"""Where a step begins and ends that no script marks: the contract at the head of ``recorder/implied.py``."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import otel_train
from otel_train import active, guard
from otel_train.recorder import scopes
from otel_train.recorder.implied import ImpliedSteps
from otel_train.recorder.signals import signals
from otel_train.runlog.layout import MISSING, QUEUE_SHIFT
from otel_train.testing import FakeClock, record


class Training:
    """A training that tells what it does as the hooks would. Each part takes a time of its own."""

    def __init__(self, clock):
        self.clock = clock

    def batch(self, loader, wait=1.0, samples=4):
        start = signals.batch_asked()
        self.clock.advance(wait)
        signals.batch_came(loader, start, signals.clock(), samples, MISSING, 0)

    def forward(self, time=2.0):
        told = signals.forward_began()
        self.clock.advance(time)
        if told:
            signals.forward_ended()

    def backward(self, time=4.0, inside=lambda: None):
        told = signals.backward_began()
        self.clock.advance(time)
        inside()
        if told:
            signals.backward_ended()

    def optimizer(self, which="sgd", time=0.5, inside=lambda: None):
        signals.optimizer_began(which)
        inside()
        self.clock.advance(time)
        signals.optimizer_ended(which)

    def evaluate(self, time=3.0):
        signals.evaluation_began()
        self.clock.advance(time)
        signals.evaluation_ended()

    def step(self, loader):
        self.batch(loader)
        self.forward()
        self.backward()
        self.optimizer()


@pytest.fixture
def clock():
    """Time that passes when told to."""
    return FakeClock()


@pytest.fixture
def run(clock):
    """A run in memory on that time."""
    with record(clock) as recording:
        yield recording


@pytest.fixture
def train(clock, run):
    """A training that tells the run."""
    return Training(clock)


def shape(step):
    """A step's phases as text."""
    return " ".join(f"{phase.name}:{phase.duration_s:g}" for phase in step.phases)


STEP = "data_wait:1 forward:2 backward:4 optimizer:0.5"


def test_a_step_is_an_iteration_of_the_loop(run, train, clock):
    """It lasts from asking for its batch to asking for the next, with what the script does after the optimizer."""
    for _ in range(3):
        train.step("loader")
        clock.advance(0.25)  # loss.item(), logging
    signals.batch_asked()
    assert [7.75] * 3 == [step.duration_s for step in run.steps]
    assert [STEP] * 3 == [shape(step) for step in run.steps]
    assert [0, 1, 2] == [step.step for step in run.steps]
    assert [4, 4, 4] == [step.samples for step in run.steps]


def test_gradient_accumulation_is_one_step(run, train):
    """Several batches, forwards and backwards before one optimizer step; samples add up."""
    for _ in range(2):
        for _ in range(2):
            train.batch("loader")
            train.forward()
            train.backward()
        train.optimizer()
    signals.batch_asked()
    assert [14.5, 14.5] == [step.duration_s for step in run.steps]
    assert [8, 8] == [step.samples for step in run.steps]
    assert ["data_wait", "forward", "backward"] * 2 + ["optimizer"] == [phase.name for phase in run.steps[1].phases]


def test_batches_fetched_ahead_of_their_step(run, train):
    """A framework that fetches all batches of a step first (Trainer): all the waits are the step's."""
    for _ in range(2):
        train.batch("loader")
        train.batch("loader")
        for _ in range(2):
            train.forward()
            train.backward()
        train.optimizer()
    signals.batch_asked()
    assert [2, 2] == [[phase.name for phase in step.phases].count("data_wait") for step in run.steps]


def test_two_optimizers_after_one_batch_are_one_step(run, train):
    """A GAN: the discriminator's and the generator's step."""
    for _ in range(2):
        train.batch("loader")
        for which in ("discriminator", "generator"):
            train.forward()
            train.backward()
            train.optimizer(which)
    signals.batch_asked()
    assert [14.0, 14.0] == [step.duration_s for step in run.steps]


def test_without_a_loader_a_step_ends_before_the_next_forward(run, train, clock):
    """The same optimizer is about to step again: what came after its last step, from the first forward on, is new."""
    for _ in range(3):
        train.forward()
        train.backward()
        train.optimizer()
        clock.advance(0.5)
    assert [7.0, 7.0] == [step.duration_s for step in run.steps]
    assert ["forward:2 backward:4 optimizer:0.5"] * 2 == [shape(step) for step in run.steps]
    assert [0.0, 2.0, 6.0] == [phase.start_s for phase in run.steps[1].phases]


def test_without_a_loader_two_optimizers_are_one_step(run, train):
    """Taking turns, they are one iteration."""
    for _ in range(3):
        for which in ("actor", "critic"):
            train.forward()
            train.backward()
            train.optimizer(which)
    assert [13.0, 13.0] == [step.duration_s for step in run.steps]


def test_optimizer_steps_alone(run, train):
    """A training whose forward and backward nobody sees (compiled whole): each optimizer step is a step."""
    for _ in range(3):
        train.optimizer()
    assert ["optimizer:0.5"] * 2 == [shape(step) for step in run.steps]


def test_one_batch_for_many_steps(run, train):
    """The whole data set as one batch: a step for each optimizer step, the wait in the first."""
    train.step("loader")
    for _ in range(2):
        train.forward()
        train.backward()
        train.optimizer()
    signals.batch_asked()
    assert [STEP] + ["forward:2 backward:4 optimizer:0.5"] * 2 == [shape(step) for step in run.steps]
    assert [7.5, 6.5, 6.5] == [step.duration_s for step in run.steps]


def test_closure_of_the_optimizer(run, train):
    """LBFGS evaluates the model in its step: its own time is what lies after a backward, until the next forward."""

    def closure():
        for _ in range(2):
            train.forward()
            train.backward()
            train.clock.advance(0.25)

    train.batch("loader")
    train.optimizer("lbfgs", 0.5, inside=closure)
    signals.batch_asked()
    assert ["data_wait:1 forward:2 backward:4 optimizer:0.25 forward:2 backward:4 optimizer:0.75"] == [
        shape(step) for step in run.steps
    ]


def test_training_step_in_the_closure(run, train):
    """Lightning: what passes in the optimizer's step before the first forward is not the optimizer's."""

    def training_step():
        train.clock.advance(8.0)
        train.forward()
        train.clock.advance(0.125)
        train.backward()

    train.batch("loader")
    train.optimizer("adam", inside=training_step)
    signals.batch_asked()
    assert [STEP] == [shape(step) for step in run.steps]


def test_optimizer_in_backward(run, train):
    """Optimizers that step in hooks of the backward are part of it, and the step is over all the same."""

    def step_each():
        for which in ("first", "second"):
            train.optimizer(which, 0.0)

    for _ in range(2):
        train.batch("loader")
        train.forward()
        train.backward(inside=step_each)
    signals.batch_asked()
    assert ["data_wait:1 forward:2 backward:4"] * 2 == [shape(step) for step in run.steps]


def test_optimizer_in_backward_on_the_engines_thread(run, train):
    """On a GPU such hooks run on a thread of the autograd engine; without a loader too."""

    def step_elsewhere():
        thread = threading.Thread(target=train.optimizer, args=("first", 0.0))
        thread.start()
        thread.join()

    for _ in range(2):
        train.batch("loader")
        train.forward()
        train.backward(inside=step_elsewhere)
    signals.batch_asked()
    assert ["data_wait:1 forward:2 backward:4"] * 2 == [shape(step) for step in run.steps]


def test_nested_optimizers_count_once(run, train):
    """A sharding or wrapping optimizer steps another."""
    train.batch("loader")
    train.forward()
    train.backward()
    train.optimizer("zero", 0.5, inside=lambda: train.optimizer("adam", 0.25))
    signals.batch_asked()
    assert ["data_wait:1 forward:2 backward:4 optimizer:0.75"] == [shape(step) for step in run.steps]


def test_skipped_by_the_gradient_scaler(run, train):
    """Infinities: no optimizer step, but a step, and it says so."""
    for skips in (True, False):
        train.batch("loader")
        train.forward()
        train.backward()
        train.optimizer(inside=signals.optimizer_skipped if skips else lambda: None)
    signals.batch_asked()
    assert [True, False] == [step.skipped for step in run.steps]


def test_skipped_in_a_step_of_the_scripts_own(run, train):
    """The flag is the marked step's, and only its own."""
    for skips in (True, False):
        with otel_train.trace_step():
            train.backward()
            train.optimizer(inside=signals.optimizer_skipped if skips else lambda: None)
    assert [True, False] == [step.skipped for step in run.steps]


def test_evaluation_between_steps(run, train):
    """Forwards without gradients are one evaluation event, with their waits, and no step is longer for them."""
    train.step("loader")
    for _ in range(3):
        train.batch("validation")
        train.evaluate()
    train.step("loader")
    signals.batch_asked()
    assert [STEP, STEP] == [shape(step) for step in run.steps]
    assert [7.5, 7.5] == [step.duration_s for step in run.steps]
    (event,) = run.events
    assert ("evaluation", 12.0, 3, 3.0) == (
        event.kind,
        event.duration_ns / 1e9,
        event.attributes["dl.step.count"],
        event.attributes["dl.data_wait.time"],
    )


def test_evaluation_with_gradients_left_on(run, train):
    """A pass over a loader without one backward is evaluation too; step numbers go on as if it had not been."""
    train.step("loader")
    for _ in range(2):
        train.batch("validation")
        train.forward()
    signals.batch_asked()
    signals.loader_ended("validation")
    train.step("loader")
    signals.batch_asked()
    assert [0, 1] == [step.step for step in run.steps]
    assert [STEP, STEP] == [shape(step) for step in run.steps]
    (event,) = run.events
    assert ("evaluation", 2) == (event.kind, event.attributes["dl.step.count"])


def test_frozen_model_inside_a_step(run, train):
    """A teacher's forward without gradients is part of the step that it is in, not an evaluation."""
    for _ in range(2):
        train.batch("loader")
        train.forward()
        train.evaluate(1.0)
        train.backward()
        train.optimizer()
    signals.batch_asked()
    assert [8.5, 8.5] == [step.duration_s for step in run.steps]
    assert [] == run.events


def test_frozen_model_first(run, train):
    """Also when it comes first in the step: its batch is the training's."""
    for _ in range(3):
        train.batch("loader")
        train.evaluate(1.0)
        train.forward()
        train.backward()
        train.optimizer()
    signals.batch_asked()
    assert [8.5, 8.5, 8.5] == [step.duration_s for step in run.steps]
    assert [STEP] * 3 == [shape(step) for step in run.steps]
    assert [] == run.events


def test_checkpoint_after_the_optimizer_is_between_steps(run, train, clock):
    """It ends the step; the next one begins with its batch."""
    train.step("loader")
    with otel_train.trace_checkpoint("nowhere"):
        clock.advance(60)
    train.step("loader")
    signals.batch_asked()
    assert [7.5, 7.5] == [step.duration_s for step in run.steps]


def test_batch_that_no_step_takes(run, train, clock):
    """A loop that breaks with a batch in hand: the wait is an event, the next step does not begin with it."""
    train.step("first")
    train.batch("first")
    signals.loader_ended("first")
    clock.advance(100)
    train.step("second")
    signals.batch_asked()
    assert [7.5, 7.5] == [step.duration_s for step in run.steps]
    assert [("phase", 1.0)] == [(event.kind, event.duration_ns / 1e9) for event in run.events]


def test_last_batch_asked_for_at_the_end(run, train):
    """A loader that ends while batches wait to be trained on: they are still the last step's."""
    train.step("loader")
    train.batch("loader")
    signals.batch_asked()
    signals.loader_ended("loader")
    train.forward()
    train.backward()
    train.optimizer()
    train.batch("next epoch")
    assert [STEP, STEP] == [shape(step) for step in run.steps]


def test_the_script_marks_steps(run, train):
    """Its first own step ends the implied ones; hooks go on to record phases in it."""
    train.step("loader")
    for _ in range(2):
        with otel_train.trace_step():
            train.forward()
            train.backward()
            train.optimizer()
        train.forward()  # outside: nobody's
    assert [STEP] + ["forward:2 backward:4 optimizer:0.5"] * 2 == [shape(step) for step in run.steps]
    assert [0, 1, 2] == [step.step for step in run.steps]


def test_gpu_marks_of_a_step_of_the_script(run, train):
    """They are all the step's own: a forward after the last step's optimizer is no sign of the next step."""
    marks, asked = [], []
    active.recorder.change(True, marks.append, lambda: asked.append(len(marks)))
    ImpliedSteps(active.recorder).activate()
    for _ in range(3):
        with otel_train.trace_step():
            train.forward()
            with otel_train.trace_phase("backward"):
                train.backward()
            train.optimizer()
    assert [] == asked
    assert [
        phase << 1 | end for phase in map(id_of, ("forward", "backward", "optimizer")) for end in (0, 1)
    ] * 3 == marks


def id_of(name):
    """A phase's number."""
    return scopes.phase(name).id


def test_phases_of_the_script_around_hooks(run, train):
    """A phase that the script marks holds the hook's, one deeper."""
    train.batch("loader")
    train.forward()
    with otel_train.trace_phase("update"):
        train.backward()
        train.optimizer()
    signals.batch_asked()
    assert [("data_wait", 0), ("forward", 0), ("backward", 1), ("optimizer", 1), ("update", 0)] == [
        (phase.name, phase.depth) for phase in run.steps[0].phases
    ]


def test_phase_inside_a_forward_is_deeper(run, train):
    """What a model marks in its forward is nested in it."""
    assert signals.forward_began()
    with otel_train.trace_phase("attention"):
        train.clock.advance(1)
    signals.forward_ended()
    train.backward()
    train.optimizer()
    train.optimizer()
    assert [("attention", 1), ("forward", 0)] == [(phase.name, phase.depth) for phase in run.steps[0].phases[:2]]


def test_optimizer_that_raises(run, train):
    """The step after it is whole again."""
    train.batch("loader")
    train.forward()
    train.backward()
    signals.optimizer_began("sgd")  # raised: nothing says that it ended
    train.step("loader")
    train.step("loader")
    signals.batch_asked()
    assert STEP == shape(run.steps[-1])
    assert [14.5, 7.5] == [step.duration_s for step in run.steps]


def test_other_threads_are_not_the_training(run, train):
    """A thread that prefetches, or runs a model of its own, leaves the steps alone."""

    def elsewhere():
        start = signals.batch_asked()
        signals.batch_came("other", start, start, 1, MISSING, 0)
        assert not signals.forward_began()
        signals.evaluation_began()
        signals.evaluation_ended()
        signals.loader_ended("other")

    train.batch("loader")
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    train.forward()
    train.backward()
    train.optimizer()
    signals.batch_asked()
    assert [STEP] == [shape(step) for step in run.steps]
    assert [] == run.events


def test_training_on_another_thread(run, train):
    """Who runs a backward is the training thread."""

    def training():
        for _ in range(3):
            train.step("loader")
        signals.batch_asked()

    thread = threading.Thread(target=training)
    thread.start()
    thread.join()
    assert 3 == len(run.steps)
    assert STEP == shape(run.steps[-1])


def test_run_ends_after_the_optimizer(clock):
    """The last step is over with its last phase, not when the process exits."""
    with record(clock) as run:
        train = Training(clock)
        train.step("loader")
        clock.advance(1000)
    assert [7.5] == [step.duration_s for step in run.steps]


def test_run_ends_within_a_step(clock):
    """Half a step is none."""
    with record(clock) as run:
        train = Training(clock)
        train.step("loader")
        train.batch("loader")
        train.forward()
    assert [STEP] == [shape(step) for step in run.steps]


def test_exception_ends_the_training_within_a_step(clock):
    """It is a failed step, with its error."""
    with record(clock) as run:
        train = Training(clock)
        train.batch("loader")
        train.forward()
        active.session.shutdown(ValueError("diverged"))
    assert [True] == [step.failed for step in run.steps]
    assert [("error", {"type": "ValueError", "message": "diverged"})] == [(e.kind, e.error) for e in run.events]


def test_queue_is_kept(run, train):
    """How many batches were ready when the step asked; none is not unknown."""
    for ready in (0, 7, None):
        start = signals.batch_asked()
        queue = 0 if ready is None else ready + 1 << QUEUE_SHIFT
        signals.batch_came("loader", start, start, 4, MISSING, queue)
        train.forward()
        train.backward()
        train.optimizer()
    signals.batch_asked()
    assert [0, 7, None] == [step.queue for step in run.steps]


def test_level_steps_keeps_steps_and_waits(clock):
    """Phases are left out, step times and waits are the same."""
    with record(clock, level="steps") as run:
        train = Training(clock)
        for _ in range(3):
            train.step("loader")
        train.evaluate()
    assert ["data_wait:1"] * 3 == [shape(step) for step in run.steps]
    assert [7.5] * 3 == [step.duration_s for step in run.steps]


def test_models_are_looked_for(run, train, monkeypatch):
    """A step with a backward and no forward asks for the models to be found, for one step."""
    asked = []
    monkeypatch.setattr(signals, "look_for_models", asked.append)
    train.batch("loader")
    train.backward()
    train.optimizer()
    train.step("loader")
    train.step("loader")
    signals.batch_asked()
    assert [True, False] == asked


def test_first_sign_begins_the_run(clock, monkeypatch):
    """Before a run, the first backward begins one, and the step has the wait that came before it."""
    recordings = []
    scope = record(clock)

    def begin():
        recordings.append(scope.__enter__())

    monkeypatch.setattr(signals, "begin_run", begin)
    train = Training(clock)
    signals.clock = signals.batch_asked = clock  # as the process's clock would be
    train.batch("passed over")
    signals.loader_ended("passed over")
    assert [] == recordings
    train.step("loader")
    train.step("loader")
    signals.batch_asked()
    (run,) = recordings
    assert ["data_wait:1 backward:4 optimizer:0.5", STEP] == [shape(step) for step in run.steps]
    assert [7.5, 7.5] == [step.duration_s for step in run.steps]
    scope.__exit__(None, None, None)
    assert signals.begin_run is None


SINGLE_PRECISION = 1e-4
"""Of the times in a record, for a step of some minutes."""
ACTIONS = ("batch", "other batch", "forward", "backward", "optimizer", "generator", "evaluate", "end", "checkpoint")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(ACTIONS), max_size=60))
def test_any_order_gives_sound_steps(actions):
    """Whatever a program does, steps follow one another, and a step's own phases lie in it, one after another."""
    clock = FakeClock()
    with record(clock) as run:
        train = Training(clock)
        do = {
            "batch": lambda: train.batch("loader"),
            "other batch": lambda: train.batch("other"),
            "forward": train.forward,
            "backward": train.backward,
            "optimizer": train.optimizer,
            "generator": lambda: train.optimizer("generator"),
            "evaluate": train.evaluate,
            "end": lambda: signals.loader_ended("loader"),
            "checkpoint": lambda: otel_train.trace_checkpoint("x").__enter__(),
        }
        for action in actions:
            do[action]()
    end = 0
    optimizers = sum(action in ("optimizer", "generator") for action in actions)
    assert len(run.steps) <= optimizers
    assert bool(run.steps) == bool(optimizers)
    for _, records in run.log.steps.read():
        for step in records:
            assert int(step["start_ns"]) >= end
            end = int(step["start_ns"]) + int(step["duration_ns"])
    for step in run.steps:
        if not step.merged:
            edge = 0.0
            for phase in step.phases:
                assert phase.start_s >= edge - SINGLE_PRECISION
                edge = phase.start_s + phase.duration_s
            assert edge <= step.duration_s + SINGLE_PRECISION


def test_a_failure_of_ours_never_reaches_the_training(clock, monkeypatch):
    """Wherever it happens: it is reported, the step is given up, and later ones are whole."""
    monkeypatch.delenv("OTEL_TRAIN_RAISE")
    with record(clock) as run:
        train = Training(clock)
        train.step("loader")
        implied = active.session.implied
        implied._state.start_ns = "broken"
        for tell in (
            lambda: train.batch("loader"),
            train.forward,
            train.backward,
            train.optimizer,
            train.evaluate,
            lambda: signals.took(None, None, None),
            lambda: signals.loader_ended("loader"),
        ):
            implied._state.start_ns = "broken"
            implied._state.implied = True
            tell()
        train.step("loader")
        train.step("loader")
        signals.batch_asked()
    assert guard.counts["steps"] > 0
    assert STEP == shape(run.steps[-1])
