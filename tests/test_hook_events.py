"""What falls into a step without the script's doing: garbage collection, compilation, collectives."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
import torch.distributed  # noqa: E402, F811
from torch._dynamo.testing import CompileCounter  # noqa: E402

import otel_train  # noqa: E402
from otel_train import active, instrumentation, names  # noqa: E402
from otel_train.derive.aggregate import Aggregate, add_event  # noqa: E402
from otel_train.hooks.collectives import PAYLOAD  # noqa: E402
from otel_train.recorder.signals import signals  # noqa: E402
from otel_train.runlog.events import Event  # noqa: E402
from otel_train.runlog.runs import find_run  # noqa: E402
from otel_train.testing import Recording, record  # noqa: E402

RANKS = Path(__file__).parent / "collective_ranks.py"


@pytest.fixture
def run():
    """A run in memory with hooks in place."""
    instrumentation.instrument()
    with record() as recording:
        yield recording
    instrumentation.uninstrument()


def of_kind(run, kind):
    """The run's events of a kind."""
    return [event for event in run.events if event.kind == kind]


class Cell:
    """A part of a large graph of cycles."""

    def __init__(self, before):
        self.before = before
        self.me = self


def graph(size):
    """So many objects that only the collector can free."""
    cell = None
    for _ in range(size):
        cell = Cell(cell)


def test_a_long_pause_is_an_event_on_its_step(run):
    """With its generation and what it collected; a short one is only counted with it."""
    gc.collect()
    gc.collect(0)
    gc.disable()
    try:
        with otel_train.trace_step(step=7):
            graph(200_000)
            gc.collect()
    finally:
        gc.enable()
    found = of_kind(run, "garbage_collection")  # on a busy machine what was collected before can be long, too
    (event,) = [each for each in found if each.attributes["dl.garbage_collection.collected"] >= 200_000]
    assert 7 == event.step
    assert event.duration_ns >= 2_000_000
    assert event.duration_ns <= run.steps[-1].duration_s * 1e9
    assert 2 == event.attributes["dl.garbage_collection.generation"]
    assert event.thread is None


def test_a_pause_after_the_last_step_is_kept(run):
    """What no step comes after is written at the end."""
    with otel_train.trace_step():
        pass
    gc.disable()
    graph(200_000)
    gc.collect()
    gc.enable()
    otel_train.shutdown()
    assert of_kind(run, "garbage_collection")


def test_collector_is_put_back():
    """No callback of ours is left, nor a report."""
    before = list(gc.callbacks)
    instrumentation.instrument()
    assert len(before) + 1 == len(gc.callbacks)
    instrumentation.uninstrument()
    assert before == gc.callbacks
    assert [] == signals.reports


@pytest.fixture
def fresh_dynamo():
    """Nothing compiled yet. Before hooks are in place: a reset takes callbacks off."""
    torch._dynamo.reset()


def test_compilations_and_recompilations(fresh_dynamo, run):
    """Each is an event with its id; a second of the same frame is a recompilation; graphs are as many as without."""
    counter = CompileCounter()

    @torch.compile(backend=counter, dynamic=False)
    def double(tensor):
        return tensor * 2

    with otel_train.trace_step():
        double(torch.ones(3))
        double(torch.ones(3))
    with otel_train.trace_step():
        double(torch.ones(4))
    first, second = of_kind(run, "compilation")
    assert 2 == counter.frame_count
    assert [0, 1] == [first.step, second.step]
    assert [False, True] == [event.attributes["dl.compilation.again"] for event in (first, second)]
    assert all(0 < event.duration_ns <= run.steps[event.step].duration_s * 1e9 for event in (first, second))


def test_a_compilation_is_known_to_go_on(fresh_dynamo, run):
    """Steps are not judged meanwhile, and it is no hang."""
    going_on = []

    def backend(graph, inputs):
        going_on.append(len(active.going_on))
        return graph.forward

    with otel_train.trace_step():
        torch.compile(lambda tensor: tensor * 2, backend=backend)(torch.ones(3))
    assert ([1], []) == (going_on, active.going_on)


def test_dynamo_callbacks_are_taken_off():
    """As many as before."""
    handler = sys.modules["torch._dynamo.callback"].callback_handler
    before = list(handler.start_callbacks), list(handler.end_callbacks)
    instrumentation.instrument()
    assert len(handler.start_callbacks) == len(before[0]) + 1
    instrumentation.uninstrument()
    assert before == (list(handler.start_callbacks), list(handler.end_callbacks))
    instrumentation.instrument()
    torch._dynamo.reset()
    instrumentation.uninstrument()
    assert [] == handler.start_callbacks


def test_collectives_are_put_back():
    """In both of their places."""
    places = torch.distributed, torch.distributed.distributed_c10d
    before = [{name: vars(place).get(name) for name in PAYLOAD} for place in places]
    instrumentation.instrument()
    assert before[0]["all_reduce"] is not torch.distributed.all_reduce
    instrumentation.uninstrument()
    assert before == [{name: vars(place).get(name) for name in PAYLOAD} for place in places]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Two gloo ranks that train with FSDP2, reduce a number each step, and train compiled in full."""
    folder = tmp_path_factory.mktemp("ranks")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    import os

    environment = {**os.environ, "OTEL_TRAIN_DIR": str(folder), "OMP_NUM_THREADS": "1", "OTEL_TRAIN_RUN_ID": "ranks"}
    environment.pop("OTEL_TRAIN_RAISE", None)
    done = subprocess.run([*torchrun, str(RANKS)], env=environment, capture_output=True, text=True, timeout=200)
    assert 0 == done.returncode, done.stderr[-3000:]
    return [Recording(log) for log in find_run(folder, "ranks").ranks()]


def test_collectives_in_a_step(ranks):
    """The script's own is a phase of the step; FSDP's lie in forward and backward, in one slot each."""
    for rank in ranks:
        step = rank.steps[8]
        own = [phase for phase in step.phases if phase.name == "collective" and phase.depth == 0]
        nested = [phase for phase in step.phases if phase.name == "collective" and phase.depth == 1]
        assert 2 == sum(phase.count for phase in own)
        assert nested
        assert step.phase("forward").duration_s > 0
        assert sum(phase.duration_s for phase in step.phases if phase.depth == 0) <= step.duration_s


def test_collectives_outside_steps_are_no_events(ranks):
    """They are in the totals alone: by operation and group size, with calls, bytes of the input and seconds."""
    for rank in ranks:
        assert [] == [event for event in rank.events if event.kind == "phase"]
        last = of_kind(rank, "collectives")[-1]
        totals = {(row[0], row[1]): row[2:] for row in last.attributes["dl.collective.totals"]}
        calls, io, seconds = totals["all_reduce", 2]
        assert (10 + 3, 10 * 400 + 3 * 8) == (calls, io)
        assert 0 < seconds < 10
        assert [1, 12] == totals["all_reduce", 1][:2]  # a group given by its place
        assert 10 == totals["barrier", 2][0]
        assert any(name.startswith("all_gather") for name, _ in totals)
        assert any(name.startswith("reduce_scatter") for name, _ in totals)


def test_what_ddp_measured(ranks):
    """Its own means, in seconds, of what it has measured."""
    for rank in ranks:
        event = of_kind(rank, "ddp")[-1]
        assert {"dl.ddp.forward.time", "dl.ddp.backward.time", "dl.ddp.communication.time"} <= set(event.attributes)
        assert all(0 < seconds < 1 for seconds in event.attributes.values())


def test_totals_are_counters():
    """What they rose since the last time is counted."""
    total = Aggregate()
    for calls in (10, 25):
        delta = Aggregate()
        rows = [["all_reduce", 8, calls, calls * 100, calls / 10]]
        add_event(delta, Event(names.COLLECTIVES, 0, attributes={names.COLLECTIVE_TOTALS: rows}), total)
        total.merge(delta)
    attributes = ((names.COLLECTIVE_OPERATION, "all_reduce"), (names.GROUP_SIZE, "8"))
    assert {
        (names.COLLECTIVE_COUNT, attributes): 25,
        (names.COLLECTIVE_IO, attributes): 2500,
        (names.COLLECTIVE_TIME, attributes): 2.5,
    } == total.sums
