"""What each thing that a script can do with scopes means: the contract at the head of ``recorder/hot_path.py``."""

import asyncio
import threading

import pytest

import otel_train
from otel_train.testing import FakeClock, PhaseRecord, record


@pytest.fixture
def clock():
    """Time that passes when told to."""
    return FakeClock()


@pytest.fixture
def run(clock):
    """A run in memory on that time."""
    with record(clock) as recording:
        yield recording


def batches(clock, count, wait_s):
    """A loader of lists of four samples, each waited for."""
    for _ in range(count):
        clock.advance(wait_s)
        yield [0, 1, 2, 3]


def test_step_with_phases(run, clock):
    """A step has its duration, counts, and each phase's start and time, in the order in which they ended."""
    with otel_train.trace_step(samples=8, tokens=64, padded_tokens=16):
        with otel_train.trace_phase("forward"):
            clock.advance(0.5)
        clock.advance(0.25)
        with otel_train.trace_phase("backward"):
            clock.advance(1.0)
    (step,) = run.steps
    assert (0, 1.75, 8, 64, 16, None) == (
        step.step, step.duration_s, step.samples, step.tokens, step.padded_tokens, step.epoch
    )  # fmt: skip
    assert (PhaseRecord("forward", 0.0, 0.5), PhaseRecord("backward", 0.75, 1.0)) == step.phases


def test_missing_is_missing(run):
    """A step that was told nothing has no counts, not zeros."""
    with otel_train.trace_step():
        pass
    (step,) = run.steps
    assert (None, None, None, None) == (step.samples, step.tokens, step.padded_tokens, step.epoch)


def test_nested_phases_have_depth(run, clock):
    """A phase inside a phase is one deeper; the outer one's time includes it."""
    with otel_train.trace_step(), otel_train.trace_phase("forward"):
        clock.advance(1.0)
        with otel_train.trace_phase("attention"):
            clock.advance(2.0)
            with otel_train.trace_phase("softmax"):
                clock.advance(4.0)
    assert [("softmax", 2, 4.0), ("attention", 1, 6.0), ("forward", 0, 7.0)] == [
        (phase.name, phase.depth, phase.duration_s) for phase in run.steps[0].phases
    ]


def test_phase_nested_in_itself(run, clock):
    """The same phase object serves recursion."""
    layer = otel_train.trace_phase("layer")
    with otel_train.trace_step(), layer:
        clock.advance(1.0)
        with layer:
            clock.advance(1.0)
    assert [(1, 1.0), (0, 2.0)] == [(phase.depth, phase.duration_s) for phase in run.steps[0].phases]


def test_phase_outside_a_step_is_an_event(run, clock):
    """Between steps a phase is an event with its duration and the last step's number; no step is made longer."""
    with otel_train.trace_step():
        clock.advance(1.0)
    with otel_train.trace_phase("synchronise"):
        clock.advance(5.0)
    with otel_train.trace_step():
        clock.advance(1.0)
    assert [1.0, 1.0] == [step.duration_s for step in run.steps]
    (event,) = run.events
    assert ("phase", 5_000_000_000, 0, {"dl.phase": "synchronise"}) == (
        event.kind, event.duration_ns, event.step, event.attributes
    )  # fmt: skip


def test_phase_around_steps(run, clock):
    """A phase around whole steps is an event; the steps inside are steps."""
    with otel_train.trace_phase("stage one"):
        for _ in range(2):
            with otel_train.trace_step(), otel_train.trace_phase("forward"):
                clock.advance(1.0)
    assert [(1.0, ("forward",)), (1.0, ("forward",))] == [
        (step.duration_s, tuple(phase.name for phase in step.phases)) for step in run.steps
    ]
    assert [2_000_000_000] == [event.duration_ns for event in run.events]


def in_thread(function):
    """Run a function on another thread, to its end."""
    thread = threading.Thread(target=function, name="writer")
    thread.start()
    thread.join()


def test_phase_on_another_thread_is_an_event(run, clock):
    """A checkpoint writer's phases never enter the step that is going on; they name their thread."""

    def write():
        with otel_train.trace_phase("serialise"):
            clock.advance(1.0)

    with otel_train.trace_step(), otel_train.trace_phase("forward"):
        in_thread(write)
        clock.advance(1.0)
    assert [PhaseRecord("forward", 0.0, 2.0)] == list(run.steps[0].phases)
    assert [("writer", {"dl.phase": "serialise"}, 0)] == [
        (event.thread, event.attributes, event.step) for event in run.events
    ]


def test_interleaved_threads(run):
    """Phases of two threads that overlap in every way keep their own beginnings and ends."""
    inside, may_end = threading.Event(), threading.Event()

    def write():
        with otel_train.trace_phase("serialise"):
            inside.set()
            may_end.wait(30)

    thread = threading.Thread(target=write)
    with otel_train.trace_step(), otel_train.trace_phase("forward"):
        thread.start()
        assert inside.wait(30)
        with otel_train.trace_phase("attention"):
            may_end.set()
            thread.join()
    assert ["attention", "forward"] == [phase.name for phase in run.steps[0].phases]
    assert ["serialise"] == [event.attributes["dl.phase"] for event in run.events]


def test_step_on_another_thread_while_one_runs(run):
    """A second thread's step during a step is an event, not a record that mixes with the first."""

    def second():
        with otel_train.trace_step(samples=1):
            pass

    with otel_train.trace_step(samples=2):
        in_thread(second)
    assert [2] == [step.samples for step in run.steps]
    assert [("step", "writer")] == [(event.attributes["dl.phase"], event.thread) for event in run.events]


def test_training_moves_to_another_thread(run):
    """Between steps another thread may take over: its steps and phases are the run's."""
    with otel_train.trace_step():
        pass

    def train():
        with otel_train.trace_step(), otel_train.trace_phase("forward"):
            pass

    in_thread(train)
    assert [(0, 0), (1, 1)] == [(step.step, len(step.phases)) for step in run.steps]
    assert [] == run.events


def test_step_in_a_step(run, clock):
    """An inner step is a phase named ``step`` of the outer one; only the outer one counts."""
    with otel_train.trace_step(samples=4), otel_train.trace_step(samples=2), otel_train.trace_phase("forward"):
        clock.advance(1.0)
    (step,) = run.steps
    assert (4, [("forward", 1), ("step", 0)]) == (step.samples, [(phase.name, phase.depth) for phase in step.phases])


def test_more_phases_than_slots(run, clock):
    """Gradient accumulation: phases of one name share a slot, and no time is lost."""
    with otel_train.trace_step():
        for _ in range(8):
            with otel_train.trace_phase("forward"):
                clock.advance(1.0)
            with otel_train.trace_phase("backward"):
                clock.advance(2.0)
        with otel_train.trace_phase("optimizer"):
            clock.advance(0.5)
    (step,) = run.steps
    assert step.merged
    assert {("forward", 8, 8.0), ("backward", 8, 16.0), ("optimizer", 1, 0.5)} == {
        (phase.name, phase.count, phase.duration_s) for phase in step.phases
    }


def test_more_names_than_slots(run, clock):
    """Nested phases give way first, the last of the others become ``other``: the times at depth 0 add up."""
    with otel_train.trace_step():
        for number in range(10):
            with otel_train.trace_phase(f"part {number}"):
                clock.advance(1.0)
                with otel_train.trace_phase("inner"):
                    clock.advance(1.0)
    (step,) = run.steps
    assert step.merged
    assert 7 == len(step.phases)
    assert 20.0 == sum(phase.duration_s for phase in step.phases if phase.depth == 0)
    assert (4, 8.0) == (step.phase("other").count, step.phase("other").duration_s)


def test_a_step_that_holds_an_epoch(run, clock):
    """A step with tens of thousands of phases stays small in memory; count and time are whole."""
    with otel_train.trace_step():
        for _ in range(20_000):
            with otel_train.trace_phase("forward"):
                clock.advance(0.001)
        with otel_train.trace_phase("optimizer"):
            clock.advance(1.0)
    with otel_train.trace_step():
        pass
    first, second = run.steps
    assert (20_000, True) == (first.phase("forward").count, first.merged)
    assert first.phase("forward").duration_s == pytest.approx(20.0, rel=1e-6)
    assert not second.merged


def test_wait_belongs_to_the_next_step(run, clock):
    """The step starts at its wait for data and has the batch's samples."""
    for _ in otel_train.trace_dataloader(batches(clock, 2, 0.5)):
        clock.advance(0.25)
        with otel_train.trace_step():
            clock.advance(1.0)
    assert [(1.75, 4, (PhaseRecord("data_wait", 0.0, 0.5),))] * 2 == [
        (step.duration_s, step.samples, step.phases) for step in run.steps
    ]


def test_waits_of_a_loader_that_ends_belong_to_no_step(run, clock):
    """A validation loop without steps makes no training step longer: its waits are one event."""
    for _ in otel_train.trace_dataloader(batches(clock, 3, 2.0)):
        clock.advance(1.0)
    with otel_train.trace_step():
        clock.advance(1.0)
    assert [(1.0, None)] == [(step.duration_s, step.samples) for step in run.steps]
    (event,) = run.events
    assert ("phase", 6_000_000_000, {"dl.phase": "data_wait", "dl.phase.count": 3}) == (
        event.kind, event.duration_ns, event.attributes
    )  # fmt: skip


def test_two_loaders_at_once(run, clock):
    """Batches of two loaders that are waited for before one step are both that step's."""
    pairs = zip(
        otel_train.trace_dataloader(batches(clock, 1, 1.0)),
        otel_train.trace_dataloader(batches(clock, 1, 2.0)),
        strict=False,
    )
    for _ in pairs:
        with otel_train.trace_step():
            clock.advance(1.0)
    (step,) = run.steps
    assert (4.0, 8) == (step.duration_s, step.samples)
    assert [1.0, 2.0] == [phase.duration_s for phase in step.phases]


def test_wait_inside_a_step(run, clock):
    """A batch fetched inside the step is a phase of it, at its depth."""
    loader = iter(otel_train.trace_dataloader(batches(clock, 1, 1.0)))
    with otel_train.trace_step(), otel_train.trace_phase("accumulate"):
        next(loader)
    assert [("data_wait", 1, 1.0), ("accumulate", 0, 1.0)] == [
        (phase.name, phase.depth, phase.duration_s) for phase in run.steps[0].phases
    ]


def test_loader_without_steps_stays_small(run, clock):
    """Waits that no step ever takes do not pile up; their sum is recorded."""
    for _ in otel_train.trace_dataloader(batches(clock, 5000, 0.001)):
        pass
    assert 5000 == sum(event.attributes["dl.phase.count"] for event in run.events)
    assert 5_000_000_000 == sum(event.duration_ns for event in run.events)


def test_evaluation_between_a_batch_and_its_step(run, clock):
    """A batch waited for before an evaluation is still its training step's; the evaluation's are its own."""
    held_out = otel_train.trace_dataloader([[0] * 16] * 3)
    for _ in otel_train.trace_dataloader(batches(clock, 1, 1.0)):
        with otel_train.trace_evaluation("held out"):
            for _ in held_out:
                with otel_train.trace_step():
                    clock.advance(0.5)
        with otel_train.trace_step():
            clock.advance(2.0)
    assert [(16, True)] * 3 + [(4, False)] == [(step.samples, step.evaluation) for step in run.steps]
    assert ["data_wait"] == [phase.name for phase in run.steps[-1].phases]


def test_validation_without_a_name_for_it(run, clock):
    """Another loader that is used up between a batch and its step does not count into the step."""
    for _ in otel_train.trace_dataloader(batches(clock, 1, 1.0)):
        for _ in otel_train.trace_dataloader([[0] * 16] * 3):
            pass
        with otel_train.trace_step():
            clock.advance(2.0)
    assert [4] == [step.samples for step in run.steps]


def test_evaluation_counts_its_steps_whatever_their_numbers(run):
    """Numbers given to evaluation steps do not change how many there were."""
    with otel_train.trace_evaluation("held out"):
        for number in (3, None):
            with otel_train.trace_step(step=number):
                pass
    assert [2] == [event.attributes["dl.step.count"] for event in run.events]


def test_numbers_that_are_none(run, caplog):
    """A step's number that is no whole number of 64 bits is counted on instead, with a warning."""
    for number in (5, 3.0, 2**70, None):
        with otel_train.trace_step(step=number):
            pass
    assert [5, 6, 7, 8] == [step.step for step in run.steps]
    assert 1 == len(caplog.records)


def test_evaluation_steps_are_apart(run, clock):
    """Steps of an evaluation are numbered apart, flagged, and counted in its event; training numbers go on."""
    for _ in range(2):
        with otel_train.trace_step():
            pass
        with otel_train.trace_evaluation("held out"):
            for _ in range(3):
                with otel_train.trace_step():
                    clock.advance(1.0)
    assert [(0, False), (0, True), (1, True), (2, True), (1, False), (3, True), (4, True), (5, True)] == [
        (step.step, step.evaluation) for step in run.steps
    ]
    assert [{"dl.evaluation.name": "held out", "dl.step.count": 3}] * 2 == [event.attributes for event in run.events]


def test_epoch_is_on_its_steps(run):
    """Steps inside ``trace_epoch`` carry its number, and the epoch is an event."""
    for number in range(2):
        with otel_train.trace_epoch(number), otel_train.trace_step():
            pass
    with otel_train.trace_step():
        pass
    assert [0, 1, None] == [step.epoch for step in run.steps]
    assert [("epoch", {"dl.epoch": 0}), ("epoch", {"dl.epoch": 1})] == [
        (event.kind, event.attributes) for event in run.events
    ]


def test_step_numbers(run):
    """A number given is taken, and counting goes on from there."""
    for number in (None, 100, None, 7, None):
        with otel_train.trace_step(step=number):
            pass
    assert [0, 100, 101, 7, 8] == [step.step for step in run.steps]


def test_exception_marks_the_step_and_goes_on_up(run):
    """The very exception leaves the step; the record is failed, and an event has the type, written first."""
    error = ValueError("diverged")
    with pytest.raises(ValueError, match="diverged") as caught, otel_train.trace_step():
        raise error
    assert error is caught.value
    assert [True] == [step.failed for step in run.steps]
    (event,) = run.events
    assert ("error", 0, {"error.type": "ValueError"}) == (event.kind, event.step, event.attributes)
    assert {"type": "ValueError", "message": "diverged"} == event.error


def test_phase_that_fails_in_a_step_that_survives(run):
    """An exception caught inside the step marks its phase alone."""
    with otel_train.trace_step():
        try:
            with otel_train.trace_phase("forward"):
                raise MemoryError
        except MemoryError:
            pass
        with otel_train.trace_phase("forward"):
            pass
    (step,) = run.steps
    assert (False, 2) == (step.failed, len(step.phases))
    assert [{"dl.phase": "forward", "error.type": "MemoryError"}] == [event.attributes for event in run.events]


def test_after_a_failed_step_the_next_is_whole(run, clock):
    """What an exception left open does not leak into the next step."""
    forward = otel_train.trace_phase("forward")

    @otel_train.trace_step
    def fail():
        forward.__enter__()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with otel_train.trace_step(), otel_train.trace_phase("backward"):
        clock.advance(1.0)
    assert [("backward", 0)] == [(phase.name, phase.depth) for phase in run.steps[1].phases]


def test_decorators(run, clock):
    """Each scope decorates a function, bare or with arguments; functions count from the call's arguments."""

    @otel_train.trace_step(samples=lambda batch, **_: len(batch), tokens=lambda batch, **_: sum(map(len, batch)))
    def train(batch, scale=1):
        """Train."""
        forward(batch)
        return scale

    @otel_train.trace_phase("forward")
    def forward(batch):
        clock.advance(1.0)

    @otel_train.trace_step
    def bare():
        return "bare"

    assert (3, "bare") == (train(["ab", "c"], scale=3), bare())
    assert [(2, 3), (None, None)] == [(step.samples, step.tokens) for step in run.steps]
    assert ("train", "Train.") == (train.__name__, train.__doc__)
    assert ["forward"] == [phase.name for phase in run.steps[0].phases]


def test_count_asked_at_the_end_of_a_block(run):
    """In a with-block a function is asked when the step is over."""
    seen = []
    with otel_train.trace_step(samples=lambda: len(seen)):
        seen.extend([1, 2, 3])
    assert [3] == [step.samples for step in run.steps]


@pytest.mark.parametrize(
    "wrong", [-1, 1 << 32, "many", lambda: 1 / 0, object()], ids=["negative", "large", "text", "function", "object"]
)
def test_wrong_counts_cost_nothing_but_themselves(run, wrong, caplog):
    """A count that is none is missing, with one warning; the step and its phases are recorded."""
    for _ in range(2):
        with otel_train.trace_step(samples=wrong, tokens=5), otel_train.trace_phase("forward"):
            pass
    assert [(None, 5, 1)] * 2 == [(step.samples, step.tokens, len(step.phases)) for step in run.steps]
    assert 1 == len(caplog.records)


def test_counting_function_that_fails(run, caplog):
    """A decorator's counting function that raises costs the count, not the call."""

    @otel_train.trace_step(samples=lambda batch: batch.shape[0])
    def train(batch):
        return "trained"

    assert "trained" == train([1, 2])
    assert [None] == [step.samples for step in run.steps]
    assert 1 == len(caplog.records)


def test_numbers_of_other_kinds(run):
    """numpy's integers and tensors on the host are counts too."""
    import numpy as np
    import torch

    with otel_train.trace_step(samples=np.int64(3), tokens=torch.tensor(7)):
        pass
    assert [(3, 7)] == [(step.samples, step.tokens) for step in run.steps]


def test_coroutines(run):
    """A coroutine function is awaited inside its scope."""

    @otel_train.trace_step(samples=2)
    async def infer():
        with otel_train.trace_phase("forward"):
            await asyncio.sleep(0)
        return "answer"

    assert "answer" == asyncio.run(infer())
    assert [(2, 1)] == [(step.samples, len(step.phases)) for step in run.steps]


def test_generators_are_refused():
    """A scope around a generator's call would time nothing: decorating one is an error that says what to do."""
    for decorate in (otel_train.trace_step, otel_train.trace_phase("x"), otel_train.timed("x")):
        with pytest.raises(TypeError, match="with-block"):
            decorate(lambda: (yield))
    with pytest.raises(TypeError, match="decorates functions"):
        otel_train.trace_step(5)


def test_checkpoint(run, clock, tmp_path):
    """A checkpoint has path, kind, size of a file or a whole folder, and rate; a failed one its error."""
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "a").write_bytes(bytes(300))
    with otel_train.trace_checkpoint(tmp_path / "model.pt"):
        (tmp_path / "model.pt").write_bytes(bytes(1000))
        clock.advance(2.0)
    with otel_train.trace_checkpoint(tmp_path / "shards", kind="load"):
        clock.advance(1.0)
    with pytest.raises(OSError), otel_train.trace_checkpoint(tmp_path / "gone"):  # noqa: PT011
        raise OSError("disk full")
    saved, loaded, failed = run.events
    assert {
        "dl.checkpoint.kind": "save",
        "dl.checkpoint.path": str(tmp_path / "model.pt"),
        "dl.checkpoint.size": 1000,
        "dl.checkpoint.rate": 500.0,
    } == saved.attributes
    assert ("load", 300, 300.0) == tuple(
        loaded.attributes[f"dl.checkpoint.{name}"] for name in ("kind", "size", "rate")
    )
    assert "dl.checkpoint.size" not in failed.attributes
    assert {"type": "OSError", "message": "disk full"} == failed.error


def test_checkpoint_on_another_thread(run, clock, tmp_path):
    """An asynchronous save names its thread, so that it is not taken for blocked time."""

    @otel_train.trace_checkpoint(tmp_path / "model.pt")
    def save():
        clock.advance(3.0)

    with otel_train.trace_step():
        in_thread(save)
    assert [("checkpoint", "writer", 0)] == [(event.kind, event.thread, event.step) for event in run.events]


def test_timed(run, tmp_path):
    """Any function: CPU time, growth of peak memory, bytes read and written, as measured by the system."""

    @otel_train.timed("prepare")
    def prepare():
        kept = bytearray(200 << 20)
        (tmp_path / "data").write_bytes(bytes(5_000_000))
        return len(kept) + len((tmp_path / "data").read_bytes())

    assert (200 << 20) + 5_000_000 == prepare()
    (event,) = run.events
    assert ("timed", "prepare") == (event.kind, event.attributes["code.function.name"])
    assert event.attributes["otel_train.timed.cpu_time"] > 0
    assert event.attributes["otel_train.timed.written"] >= 5_000_000
    assert event.attributes["otel_train.timed.read"] >= 5_000_000
    assert event.attributes["otel_train.timed.peak_memory_change"] > 0


def test_level_steps(clock):
    """At level ``steps`` phases are not recorded, waits and steps are."""
    with record(clock, level="steps") as run:
        for _ in otel_train.trace_dataloader(batches(clock, 1, 1.0)):
            with otel_train.trace_step(), otel_train.trace_phase("forward"):
                clock.advance(1.0)
    assert [("data_wait",)] == [tuple(phase.name for phase in step.phases) for step in run.steps]


def test_wrong_names_do_not_raise(run, caplog):
    """A phase that is no name is recorded as ``other``: nothing raises into the training."""
    with otel_train.trace_step():
        for wrong in (3, None, "", ["forward"]):
            with otel_train.trace_phase(wrong):
                pass
    assert {"other"} == {phase.name for phase in run.steps[0].phases}
    assert 1 == len(caplog.records)
