"""Steps told from signals as frameworks and unusual loops send them: each called by hand, on a fake clock."""

import pytest

import otel_train
from otel_train.api import Epoch, Evaluation
from otel_train.recorder.hot_path import MOST_PHASES, MOST_WAITS
from otel_train.recorder.signals import signals
from otel_train.runlog.layout import MISSING
from otel_train.testing import FakeClock, record


class Loop:
    """A training loop that does nothing but take time: each method takes a second of it."""

    def __init__(self, clock):
        self.clock = clock
        self.iteration = object()
        self.optimizer = object()

    def batch(self, samples=4):
        start = signals.batch_asked()
        self.clock.advance(1)
        signals.batch_came(self.iteration, start, signals.clock(), samples, MISSING, 0)

    def forward(self):
        signals.forward_began()
        self.clock.advance(1)
        signals.forward_ended()

    def backward(self):
        signals.backward_began()
        self.clock.advance(1)
        signals.backward_ended()

    def step(self):
        signals.optimizer_began(self.optimizer)
        self.clock.advance(1)
        signals.optimizer_ended(self.optimizer)

    def code(self):
        self.clock.advance(1)


@pytest.fixture(autouse=True)
def no_optimizer_yet(monkeypatch):
    """Other tests of this process have stepped optimizers."""
    monkeypatch.setattr(signals, "optimizer_steps", 0)


@pytest.fixture
def clock():
    """Time that passes when told to."""
    return FakeClock()


@pytest.fixture
def run(clock):
    """A run in memory."""
    with record(clock) as run:
        yield run


@pytest.fixture
def loop(run, clock):
    """A loop beside the run."""
    return Loop(clock)


def test_updates_by_hand(run, loop):
    """A loop without loader and optimizer: steps run from one forward to the next, from the second one on exactly."""
    for _ in range(5):
        signals.gradients_cleared()
        loop.forward()
        loop.backward()
        loop.code()
    otel_train.shutdown()
    assert [0, 1, 2, 3, 4] == [step.step for step in run.steps]
    assert [3, 3, 3, 3, 2] == [step.duration_s for step in run.steps]
    assert [["forward", "backward"]] * 5 == [[phase.name for phase in step.phases] for step in run.steps]


def test_updates_by_hand_that_clear_late(run, loop):
    """Gradients thrown away between the forward and the backward: the forward is the next step's."""
    for _ in range(4):
        loop.forward()
        signals.gradients_cleared()
        loop.backward()
        loop.code()
    otel_train.shutdown()
    assert [["forward", "backward"]] * 4 == [[phase.name for phase in step.phases] for step in run.steps]
    assert [3, 3, 3, 2] == [step.duration_s for step in run.steps]


def test_updates_by_hand_from_a_loader(run, loop):
    """With a loader a step begins at the wait for its batch; samples of the first two, told too late, are missing."""
    for _ in range(4):
        loop.batch()
        signals.gradients_cleared()
        loop.forward()
        loop.backward()
        loop.code()
    otel_train.shutdown()
    assert [["data_wait", "forward", "backward"]] * 4 == [[phase.name for phase in step.phases] for step in run.steps]
    assert [4, 4, 4, 3] == [step.duration_s for step in run.steps]
    assert [None, None, 4, 4] == [step.samples for step in run.steps]


def test_a_gradient_scaler_that_has_only_skipped_yet(run, loop):
    """Clearing gradients after a step that a scaler skipped is no sign of updates by hand."""
    for _ in range(2):
        loop.batch()
        signals.gradients_cleared()
        loop.forward()
        loop.backward()
        signals.optimizer_began(loop.optimizer)
        signals.optimizer_skipped()
        signals.optimizer_ended(loop.optimizer)
        signals.gradients_cleared()
    otel_train.shutdown()
    assert [(0, True, 4), (1, True, 4)] == [(step.step, step.skipped, step.samples) for step in run.steps]


def test_gradients_cleared_beside_an_optimizer(run, loop, monkeypatch):
    """Where an optimizer has ever stepped, gradients thrown away mean nothing: a penalty, say, has used them."""
    monkeypatch.setattr(signals, "optimizer_steps", 1)
    for _ in range(2):
        loop.batch()
        loop.forward()
        loop.backward()
        signals.gradients_cleared()
        loop.backward()
        loop.step()
    otel_train.shutdown()
    assert [2, 2] == [sum(phase.name == "backward" for phase in step.phases) for step in run.steps]


def test_an_endless_step_stays_small(run, loop):
    """A loop that shows no end of a step keeps its phases' times in a bounded place."""
    from otel_train import active

    for _ in range(MOST_PHASES):
        loop.forward()
        loop.backward()
        loop.batch()
    assert len(active.recorder.state.phases) <= MOST_PHASES + 3
    loop.step()
    otel_train.shutdown()
    (step,) = run.steps
    assert step.merged
    assert {"forward": MOST_PHASES, "backward": MOST_PHASES} == {
        phase.name: round(phase.duration_s) for phase in step.phases if phase.name in ("forward", "backward")
    }


def test_an_epoch_has_its_last_step(run, loop):
    """An epoch's end ends the step before it, so that it carries the epoch's number and lies inside."""
    with Epoch(3):
        loop.batch()
        loop.backward()
        loop.step()
        loop.code()
    loop.code()
    (step,), (event,) = run.steps, run.events
    assert (3, 4, 4) == (step.epoch, step.duration_s, event.duration_ns / 1e9)


def test_an_evaluation_has_its_batches(run, loop):
    """Batches of a marked evaluation, also of one left early, are the evaluation's: counted there, with the wait."""
    for _ in range(2):
        loop.batch()
        loop.backward()
        loop.step()
        with Evaluation("validation"):
            loop.batch()
            loop.batch()
    otel_train.shutdown()
    assert [4, 4] == [step.samples for step in run.steps]
    assert [3, 3] == [step.duration_s for step in run.steps]
    expected = {"dl.evaluation.name": "validation", "dl.step.count": 2, "dl.data_wait.time": 2.0}
    assert [expected] * 2 == [event.attributes for event in run.events]


def test_a_long_evaluation(run, loop):
    """However many its batches are, an evaluation is one event."""
    with Evaluation("test"):
        for _ in range(MOST_WAITS):
            loop.batch()
        signals.loader_ended(loop.iteration)
    (event,) = run.events
    assert MOST_WAITS == event.attributes["dl.step.count"] == event.attributes["dl.data_wait.time"]


def test_an_evaluation_inside_a_step(run, loop):
    """A step that goes on after an evaluation has none of its samples."""
    loop.batch()
    loop.backward()
    with Evaluation("validation"):
        loop.batch()
    loop.batch()
    loop.backward()
    loop.step()
    otel_train.shutdown()
    assert [8] == [step.samples for step in run.steps]


def test_an_exception_that_a_framework_reports(run, loop):
    """The step that was going on has failed; what comes after is another one."""
    loop.batch()
    loop.backward()
    signals.step_failed(ValueError("bad"))
    loop.batch()
    loop.backward()
    loop.step()
    signals.step_failed(ValueError("after the step"))
    assert [(0, True, 4), (1, False, 4)] == [(step.step, step.failed, step.samples) for step in run.steps]
    assert [("error", 0)] == [(event.kind, event.step) for event in run.events]


def test_a_new_pass_ends_the_step(run, loop):
    """What a loader takes to begin another pass belongs to no step."""
    loop.batch()
    loop.backward()
    loop.step()
    signals.between_steps()
    loop.code()
    loop.batch()
    loop.backward()
    loop.step()
    otel_train.shutdown()
    assert [3, 3] == [step.duration_s for step in run.steps]


def test_clearing_gradients_in_compiled_code():
    """``zero_grad`` of a module makes the same graphs with hooks in place as without."""
    import torch
    from torch._dynamo.testing import CompileCounter

    from otel_train import instrumentation

    def graphs():
        torch._dynamo.reset()
        counter, layer = CompileCounter(), torch.nn.Linear(4, 1)

        def loss(x):
            layer.zero_grad()
            return layer(x).sum()

        compiled = torch.compile(loss, backend=counter)
        for _ in range(3):
            compiled(torch.ones(2, 4)).backward()
        return counter.frame_count, counter.op_count

    plain = graphs()
    instrumentation.instrument()
    try:
        assert plain == graphs()
    finally:
        instrumentation.uninstrument()
