"""Training scripts that know nothing of otel_train, as their authors run them: what zero code records of each.

``strangers/`` holds them, in the style of each project's own examples. Each is run once without otel_train and, where
it has a loader, with 0 and 2 workers under it; the tests then look at what came of it.
"""

import functools
import itertools
import re
from dataclasses import dataclass, field
from importlib.util import find_spec

import pytest
from strangers_run import train

from otel_train.runlog.layout import EVALUATION

FULL = {"data_wait", "forward", "backward", "optimizer"}


@dataclass(frozen=True)
class Expected:
    """What a script's rank has recorded. ``breaks`` are the places where one step does not begin where the last ended:
    where there is an evaluation or a new pass over a loader. ``settled`` is from which step on the models are known."""

    script: str
    steps: int
    breaks: int
    samples: int | None = None
    phases: frozenset = frozenset(FULL)
    evaluations: tuple = ()
    epochs: tuple = ()
    arguments: tuple = ()
    ranks: int = 1
    starts_ranks: bool = False
    workers: tuple = (0, 2)
    packages: tuple = ()
    settled: int = field(default=2)

    def __str__(self):
        return " ".join((self.script.removesuffix(".py"), *self.arguments))


NO_LOADER = frozenset(FULL - {"data_wait"})
CLIPPING = {"gradient_clipping"}
SCRIPTS = [
    Expected("sine_lbfgs.py", 5, 2, phases=NO_LOADER, workers=(0,), evaluations=(("validation", 1),) * 3),
    Expected("vae.py", 12, 1, 192, evaluations=(("validation", 2),) * 2),
    Expected("gan.py", 20, 1, 160),
    Expected(
        "word_language_model.py", 20, 1, phases=NO_LOADER | CLIPPING, workers=(0,), settled=3,
        evaluations=(("validation", 2),) * 2,
    ),
    Expected("reinforce.py", 20, 0, phases=NO_LOADER, workers=(0,), settled=3),
    Expected("regression.py", 30, 0, phases=frozenset({"forward", "backward"}), workers=(0,)),
    Expected(
        "lightning_autoencoder.py", 16, 1, 256, packages=("lightning",), epochs=(0, 1),
        evaluations=(("sanity_check", 2), ("validation", 3), ("validation", 3), ("test", 8)),
    ),
    Expected(
        "lightning_autoencoder.py", 6, 1, 256, packages=("lightning",), epochs=(0, 1), arguments=("--accumulate", "3"),
        workers=(2,), evaluations=(("sanity_check", 2), ("validation", 3), ("validation", 3), ("test", 8)),
    ),
    Expected(
        "hf_trainer.py", 12, 1, 96, packages=("transformers", "accelerate"), epochs=(0, 1),
        phases=frozenset(FULL | CLIPPING), evaluations=(("validation", 2),) * 3,
    ),
    Expected(
        "accelerate_classifier.py", 12, 2, 384, packages=("accelerate",), evaluations=(("validation", 4),) * 3,
        arguments=("--with_tracking",),
    ),
    Expected("ddp_toy.py", 16, 1, 256, ranks=2),
    Expected("ddp_toy.py", 16, 1, 256, ranks=2, arguments=("--fsdp2",)),
    Expected("spawned_ddp.py", 10, 0, phases=NO_LOADER, workers=(0,), ranks=2, starts_ranks=True, settled=3),
    Expected(
        "lightning_autoencoder.py", 8, 1, 128, packages=("lightning",), epochs=(0, 1), arguments=("--devices", "2"),
        workers=(0,), ranks=2, starts_ranks=True,
        evaluations=(("sanity_check", 2), ("validation", 3), ("validation", 3), ("test", 4)),
    ),
]  # fmt: skip
RUNS = [(expected, workers) for expected in SCRIPTS for workers in expected.workers]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Each script's run, made when it is first asked for."""

    @functools.cache
    def trained(expected, workers, zero_code=True):
        for package in expected.packages:
            if find_spec(package) is None:
                pytest.skip(f"{package} is not installed")
        folder = tmp_path_factory.mktemp("stranger")
        arguments = ("--workers", str(workers), *expected.arguments)
        ranks = 1 if expected.starts_ranks else expected.ranks
        return train(folder, expected.script, *arguments, zero_code=zero_code, ranks=ranks)

    return trained


@pytest.fixture(params=RUNS, ids=lambda run: f"{run[0]}, {run[1]} workers")
def run(request, runs):
    """What is expected of a run, and the run."""
    expected, workers = request.param
    return expected, runs(expected, workers)


def steps_of(rank):
    """A rank's steps of training as the log has them: with the time they started at."""
    records = [record for _, records in rank.log.steps.read() for record in records]
    return [record for record in records if not int(record["flags"]) & EVALUATION]


def test_losses_are_the_same_bits(run, runs):
    """What the script prints, losses to their last bit among it, is what it prints without otel_train."""
    expected, trained = run
    plain = runs(expected, expected.workers[0], zero_code=False)
    assert [] == plain.ranks
    if expected.ranks == 1:
        assert lines(plain) == lines(trained)
    assert numbers(plain) == numbers(trained)
    assert numbers(trained)


def numbers(trained):
    """The losses in what was printed, sorted: ranks print as they come, also into each other's lines."""
    return sorted(re.findall(r"\d+\.\d+(?:e[-+]\d+)?", " ".join(lines(trained))))


def lines(trained):
    """What does not tell of time (the Trainer prints its speed)."""
    return [line for line in trained.output if "_runtime" not in line]


def test_steps(run):
    """Every iteration of the loop is a step, on every rank, numbered from 0, none an evaluation's or failed."""
    expected, trained = run
    assert expected.ranks == len(trained.ranks)
    for rank in trained.ranks:
        steps = [step for step in rank.steps if not step.evaluation]
        assert list(range(expected.steps)) == [step.step for step in steps]
        assert not any(step.failed or step.skipped for step in steps)


def test_samples(run):
    """Samples are those of the batches that were trained on: all of them, and none of an evaluation's."""
    expected, trained = run
    for rank in trained.ranks:
        samples = [step.samples for step in rank.steps]
        if expected.samples is None:
            assert {None} == set(samples)
        else:
            assert expected.samples == sum(samples)


def test_phases(run):
    """Once the models are known, after two steps or three, each step has its phases and no other."""
    expected, trained = run
    for rank in trained.ranks:
        sometimes = {"zero_grad", "collective"}  # where it was slow; where there are ranks
        found = [{phase.name for phase in step.phases} - sometimes for step in rank.steps]
        collectives = [phase for step in rank.steps for phase in step.phases if phase.name == "collective"]
        assert bool(collectives) == ("--fsdp2" in expected.arguments or expected.starts_ranks)
        assert [expected.phases] * (expected.steps - expected.settled) == found[expected.settled :]
        assert expected.phases - {"forward"} <= found[0] | {"forward"}


def test_times(run):
    """Phases lie inside their step, one after another; no time is negative."""
    _, trained = run
    for rank in trained.ranks:
        for step in rank.steps:
            outer = [phase for phase in step.phases if phase.depth == 0]
            assert all(phase.start_s >= 0 and phase.duration_s >= 0 for phase in step.phases), step
            assert sum(phase.duration_s for phase in outer) <= step.duration_s * 1.00001, step
            if not step.merged:
                ends = [0.0, *(phase.start_s + phase.duration_s for phase in outer)]
                begins = [*(phase.start_s for phase in outer), step.duration_s]
                late = [end - begin for end, begin in zip(ends, begins, strict=True)]
                assert max(late) <= step.duration_s * 0.00001, step


def test_steps_add_up_to_the_loop(run):
    """One step begins where the last one ended, to the nanosecond, but for evaluations and new passes over a loader."""
    expected, trained = run
    for rank in trained.ranks:
        steps = steps_of(rank)
        gaps = [
            int(after["start_ns"]) - int(before["start_ns"]) - int(before["duration_ns"])
            for before, after in itertools.pairwise(steps)
        ]
        assert min(gaps) >= 0
        assert expected.breaks == sum(gap > 0 for gap in gaps)


def test_evaluations(run):
    """Evaluations are events with their batches, and no step lies in one."""
    expected, trained = run
    for rank in trained.ranks:
        events = [event for event in rank.events if event.kind == "evaluation"]
        found = [(event.attributes["dl.evaluation.name"], event.attributes["dl.step.count"]) for event in events]
        assert list(expected.evaluations) == found
        for event in events:
            end_ns = event.start_ns + event.duration_ns
            for step in steps_of(rank):
                start_ns, step_end_ns = int(step["start_ns"]), int(step["start_ns"]) + int(step["duration_ns"])
                assert step_end_ns <= event.start_ns or end_ns <= start_ns


def test_evaluations_wait_for_data(run):
    """An evaluation that reads from a loader says how long it waited, which is less than it took."""
    expected, trained = run
    if "data_wait" in expected.phases:
        for rank in trained.ranks:
            for event in rank.events:
                if event.kind == "evaluation":
                    assert 0 < event.attributes["dl.data_wait.time"] < event.duration_ns / 1e9


def test_epochs(run):
    """A framework that knows its epochs gives each step its number, and each epoch an event around its steps."""
    expected, trained = run
    for rank in trained.ranks:
        events = [event for event in rank.events if event.kind == "epoch"]
        assert list(expected.epochs) == [event.attributes["dl.epoch"] for event in events]
        assert set(expected.epochs or [None]) == {step.epoch for step in rank.steps}
        for event, number in zip(events, expected.epochs, strict=True):
            own = [step for step in steps_of(rank) if step["epoch"] == number]
            assert event.start_ns <= int(own[0]["start_ns"])
            assert int(own[-1]["start_ns"]) + int(own[-1]["duration_ns"]) <= event.start_ns + event.duration_ns


def test_nothing_else_is_recorded(run):
    """No error and no stray wait: each event is a framework's, a checkpoint, or what comes with any training."""
    _, trained = run
    for rank in trained.ranks:
        known = {"checkpoint", "checkpoint.stage", "configuration", "epoch", "evaluation"}
        known |= {"collectives", "data_loader", "ddp", "garbage_collection", "data_loader_start"}
        assert {event.attributes.get("dl.phase", event.kind) for event in rank.events} <= known
