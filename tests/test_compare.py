"""Comparing runs: what is shown, what is not, and what else changed."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from compared_runs import HARDWARE, ON_GPU_MS, write_gpu_run, write_run
from hypothesis import given, settings
from hypothesis import strategies as st
from log_builder import MS, LogBuilder

from otel_train.derive.comparison import compare, keeps
from otel_train.derive.fingerprint import Fingerprint, facts_of, fingerprint, phase_times
from otel_train.derive.pace import pace_of, paces_of
from otel_train.derive.steady import steady_run
from otel_train.errors import ComparisonError
from otel_train.runlog.runs import Run


def run(directory, run_id, seed, **options):
    return fingerprint(Run(write_run(directory, run_id, seed, **options)))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return run(tmp_path_factory.mktemp("first"), "first", 1)


@pytest.mark.parametrize("phase", ["data_wait", "forward", "optimizer"])
@pytest.mark.parametrize("pace", [1.0, 1.1])
def test_a_phase_that_takes_5_percent_of_a_step_more_is_named(tmp_path, first, phase, pace):
    """Also where the machine is slower by a tenth, which is no phase's own doing."""
    found = compare([first], [run(tmp_path, "second", 2, pace=pace, **{phase: 0.5})])
    assert ("slower", phase) == (found.verdict, found.phases[0].name)
    assert 0.035 < found.change < 0.065
    assert [phase] == [each.name for each in found.phases if each.verdict == "slower"]


def test_a_phase_that_takes_less_is_named_too(tmp_path, first):
    """Faster, and by how much of a step."""
    found = compare([first], [run(tmp_path, "second", 2, optimizer=-0.6)])
    assert ("faster", "optimizer", True) == (found.verdict, found.phases[0].name, -0.08 < found.change < -0.04)


def test_equal_runs_do_not_differ(tmp_path, first):
    """Ten repetitions: none is slower or faster."""
    others = [run(tmp_path, f"r{seed}", seed) for seed in range(10, 20)]
    assert {"no difference shown"} == {compare([first], [other]).verdict for other in others}


def test_a_slower_machine_is_not_slower_code(tmp_path, first):
    """All phases alike: with one run a side nothing says whose doing it is, and that is said."""
    found = compare([first], [run(tmp_path, "second", 2, pace=1.2)])
    assert ("too little data", True) == (found.verdict, found.sentence.startswith("all phases change alike, by +"))
    assert pytest.approx(0.2, abs=0.02) == found.pace


def test_phases_do_not_become_slower_because_others_became_faster(tmp_path, first):
    """Forward and backward compiled: they are faster, and the optimizer is as it was."""
    found = compare([first], [run(tmp_path, "second", 2, varies=0.02, forward=-1.5, backward=-2.5)])
    first = replace(first, quantiles_s={**first.quantiles_s, "p75": first.quantiles_s["p5"] * 1.02})
    quiet = compare([first], [run(tmp_path, "third", 2, varies=0.02, forward=-1.5, backward=-2.5)])
    assert "slower" not in {found.verdict, *(phase.verdict for phase in found.phases)}
    assert "faster" == quiet.verdict
    assert {"forward", "backward"} == {phase.name for phase in quiet.phases if phase.verdict == "faster"}


def test_a_loader_that_stalls_now_and_then_is_seen_in_the_mean(tmp_path):
    """Each eighth step waits 16 ms: the undisturbed wait is as ever, the mean is not."""
    sides = []
    for name, stall_ms in (("before", 0), ("after", 16)):
        builder, generator = LogBuilder(tmp_path, name), np.random.default_rng(4)
        for number in range(400):
            waits = stall_ms * MS if number % 8 == 0 else 0
            work = int(10 * MS * (1 + abs(generator.normal(0, 0.01))))
            builder.step(number, waits + work, [("data_wait", 0, waits), ("forward", waits, work)])
        sides.append([fingerprint(Run(tmp_path / name))])
    found = compare(*sides)
    assert ("slower", "data_wait") == (found.verdict, found.phases[0].name)
    assert pytest.approx(0.2, abs=0.02) == found.change


def test_several_runs_a_side_tell_a_slower_machine_from_slower_code(tmp_path):
    """Slower by 10 % in every one of four repetitions, which differ by 1 % among themselves, is slower."""
    sides = [
        [run(tmp_path, f"{name}-{seed}", seed, pace=pace * (1 + seed / 200), varies=0.0) for seed in range(4)]
        for name, pace in (("a", 1.0), ("b", 1.1))
    ]
    found = compare(*sides)
    assert "slower" == found.verdict
    assert pytest.approx(0.1, abs=0.02) == found.change
    assert found.median.low > 0.05


def test_contributions_add_up_to_the_difference_exactly(tmp_path, first):
    """Of the means, ``other`` included; and the parts that they explain, to one."""
    found = compare([first], [run(tmp_path, "second", 2, pace=1.07, forward=1.0)])
    means = [side[0].estimates["mean"].value for side in (found.first, found.second)]
    assert pytest.approx(means[1] - means[0], abs=1e-15) == sum(each.after_s - each.before_s for each in found.phases)
    assert pytest.approx(1) == sum(each.explained for each in found.phases)
    assert {"data_wait", "forward", "backward", "optimizer", "other"} == {each.name for each in found.phases}


@given(
    st.lists(st.floats(1e-6, 10), min_size=2, max_size=7),
    st.floats(0.2, 5),
)
def test_the_pace_is_what_all_phases_share(times, factor):
    """Whatever their times: all slower by one factor is that factor."""
    before = np.array(times)
    assert pytest.approx(np.log(factor)) == pace_of(before, before * factor)


@settings(max_examples=30)
@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=80))
def test_means_of_phases_are_means(steps):
    """And stretches are parts of the run, none of them empty."""
    columns = np.array(steps).T
    for column in columns:
        own = phase_times(column)
        assert pytest.approx(column.mean()) == own.times_s["mean"]
        assert own.times_s["undisturbed"] <= column.max()
        assert all(
            len(parts) == (1 if len(column) < 20 else min(10, len(column) // 5)) for parts in own.stretches_s.values()
        )


def test_other_hardware_is_refused_unless_asked_for(tmp_path, first):
    """The error says what differs; a host's name and a GPU's identity are no hardware."""
    other = run(tmp_path, "second", 2, hardware={**HARDWARE, "cpu": {"model": "Another", "count": 8}})
    with pytest.raises(ComparisonError, match=r"cpu: 8 x A CPU; 8 x Another.*--across-hardware"):
        compare([first], [other])
    changes = {(change.part, change.name) for change in compare([first], [other], across_hardware=True).changes}
    assert ("hardware", "cpu") in changes


def test_what_else_changed_is_told(tmp_path, first):
    """Versions, commit, settings, and the work a step does, which comes first: with it times do not compare."""
    other = run(tmp_path, "second", 2)
    facts = {**other.facts, "software": {"torch": "2.10.0"}, "git": {"commit": "def", "dirty": "True"}}
    other = replace(other, facts=facts, samples_a_step=32.0, resources={"process.memory.usage": 2e9})
    found = compare([replace(first, resources={"process.memory.usage": 1e9})], [other])
    told = [(change.part, change.name, change.before, change.after) for change in found.changes]
    assert ("work", "samples a step", 16.0, 32.0) == told[0]
    assert {
        ("software", "torch", "2.9.0", "2.10.0"), ("git", "commit", "abc", "def"), ("git", "dirty", None, "True"),
        ("resources", "process.memory.usage", 1e9, 2e9),
    } <= set(told)  # fmt: skip


def test_no_secret_is_kept():
    """Baselines are committed: of the command line and the settings, what sounds like one is hidden."""
    identity = {
        "process": {"command": ["python", "train.py", "--hf-token", "abc", "--lr", "1"]},
        "settings": {"headers": {"authorization": "abc"}, "endpoint": "http://me:abc@there:4318", "level": None},
    }
    kept = facts_of(identity)["settings"]
    assert "train.py --hf-token (hidden) --lr 1" == kept["command"]
    assert ("authorization=(hidden)", "http://(hidden)@there:4318") == (kept["headers"], kept["endpoint"])
    assert "abc" not in str(kept)
    assert "level" not in kept


@pytest.mark.parametrize("steps", [0, 1, 10, 24])
def test_short_runs_are_too_little_data(tmp_path, first, steps):
    """On either side, without an error."""
    short = run(tmp_path, "short", 2, steps=steps)
    for sides in itertools.permutations(([first], [short])):
        assert "too little data" == compare(*sides).verdict


def test_a_run_without_phases_is_compared_as_a_whole(tmp_path):
    """One run a side cannot tell; several can."""
    sides = []
    for side, factor in (("a", 1.0), ("b", 1.2)):
        for number in range(3):
            builder, generator = LogBuilder(tmp_path, f"{side}{number}"), np.random.default_rng(number)
            for step in range(100):
                builder.step(step, int(10 * MS * factor * generator.normal(1, 0.01)))
        sides.append([fingerprint(Run(tmp_path / f"{side}{number}")) for number in range(3)])
    assert "too little data" == compare(sides[0][:1], sides[1][:1]).verdict
    assert "slower" == compare(*sides).verdict


def test_a_fingerprint_is_small_and_comes_back(tmp_path, first):
    """As JSON it is at most 6 KB, and what comes back compares as the run did."""
    content = json.dumps(first.to_json(), allow_nan=False)
    assert len(content) < 6000
    again = Fingerprint.from_json(json.loads(content))
    other = run(tmp_path, "second", 2, forward=0.5)
    found, kept = compare([first], [other]), compare([again], [other])
    assert found.verdict == kept.verdict
    assert pytest.approx(found.change, abs=1e-4) == kept.change


@pytest.mark.parametrize(
    ("more", "limit", "kept"), [(0.0, 0.05, True), (1.5, 0.05, False), (1.5, 0.3, True), (0.0, 0.01, None)]
)
def test_a_limit_is_kept_passed_or_cannot_be_told(tmp_path, first, more, limit, kept):
    """A limit below what would be seen cannot be told; one is passed when slower is shown and the estimate is above."""
    found = compare([first], [run(tmp_path, "second", 2, forward=more)])
    assert kept is keeps(found, limit)[0]


def test_a_phase_is_not_called_slower_in_a_step_that_is_faster(tmp_path, first):
    """On a machine that is faster by 15 %: what the phase takes is told, and that this alone decides nothing."""
    found = compare([first], [run(tmp_path, "second", 2, pace=0.85, optimizer=0.5)])
    assert ("too little data", "optimizer", "slower") == (found.verdict, found.phases[0].name, found.phases[0].verdict)
    assert "the step as a whole changes the other way" in found.sentence


BUSY = (1.2, 0.9, 1.1, 1.0, 0.95)
"""How a machine's speed wanders from run to run."""


@pytest.mark.parametrize(("count", "verdict"), [(2, "too little data"), (3, "slower"), (5, "slower")])
def test_a_machine_that_wanders_does_not_hide_a_slower_phase(tmp_path, count, verdict):
    """The second side's runs met it when it was faster by a seventh, which among so many runs is usual."""
    paces = BUSY[:count]
    befores = [run(tmp_path, f"a{seed}", seed, pace=pace) for seed, pace in enumerate(paces)]
    afters = [run(tmp_path, f"b{seed}", 9 + seed, pace=pace * 0.88, optimizer=0.5) for seed, pace in enumerate(paces)]
    found = compare(befores, afters)
    assert (verdict, "optimizer") == (found.verdict, found.phases[0].name)
    assert all(run.verdict == "no difference shown" for run in (found.median, found.mean))


def test_a_machine_that_does_not_wander_is_not_faster_by_chance(tmp_path):
    """Equal runs are alike by 2 %: that all but the optimizer are faster by 7 % can be the code's doing."""
    befores, afters = (
        [run(tmp_path, f"{name}{seed}", at + seed, pace=pace * (1 + seed / 50), varies=0.01, optimizer=more)
         for seed in range(3)]
        for name, at, pace, more in (("a", 0, 1.0, 0.0), ("b", 9, 0.93, 0.5))
    )  # fmt: skip
    found = compare(befores, afters)
    assert ("too little data", "optimizer", "slower") == (found.verdict, found.phases[0].name, found.phases[0].verdict)


def test_a_machine_that_wanders_between_runs_and_is_steady_within_is_not_slower_code(tmp_path):
    """Each run at its own pace, 7 % of it within: that sides of such runs differ by a tenth is no phase's doing."""
    sides = [
        [run(tmp_path, f"{name}{seed}", at + seed, pace=pace, varies=0.07) for seed, pace in enumerate(paces)]
        for name, at, paces in (("a", 0, (1.0, 1.3, 1.2)), ("b", 9, (1.25, 1.3, 1.4)))
    ]
    found = compare(*sides)
    assert "no difference shown" == found.verdict


def test_forward_and_backward_have_one_vote_where_the_step_says_otherwise():
    """With one each they and a wait that is shorter by chance are most phases; with one together they are half."""
    before = np.array([1.0, 3.0, 5.0, 4.0, 0.2])
    after = before * np.array([0.91, 0.91, 0.91, 1.0, 1.0])
    faster = pytest.approx(np.log(0.91))
    assert [faster] * 3 == paces_of(before, after)
    assert [faster, faster, pytest.approx(0.0)] == paces_of(before, after, ["wait", "model", "model", "step", "other"])


def test_of_equal_runs_one_that_was_disturbed_counts_for_less(tmp_path, first):
    """Three repetitions, of which one ran on a machine that hardly let it: forward's 5 % is shown, and named."""
    befores = [run(tmp_path, f"a{seed}", seed) for seed in range(30, 33)]
    afters = [run(tmp_path, f"b{seed}", seed, forward=0.5) for seed in range(40, 42)]
    afters.append(run(tmp_path, "b-busy", 42, varies=9.0, forward=0.5))
    found = compare(befores, afters)
    assert ("slower", "forward") == (found.verdict, found.phases[0].name)


@pytest.mark.parametrize("before", ["fast", "slow"])
def test_a_loader_whose_batches_come_late_is_named(tmp_path, before):
    """Every other step waits twenty times as long as it works, as with two workers, and the other phases are faster,
    each a little differently: the wait is what changed, both ways round."""

    def recorded(name, late, pace):
        builder, generator = LogBuilder(tmp_path, name), np.random.default_rng(len(name))
        for number in range(120):
            wait = 200 * MS if late and number % 2 else 2 * MS
            work = [("forward", 3.0 * pace), ("backward", 5.0 * pace**1.2), ("optimizer", 1.5 * pace**1.5)]
            at, phases = wait, [("data_wait", 0, wait)]
            for phase, took_ms in work:
                took = int(took_ms * MS * generator.normal(1, 0.01))
                phases.append((phase, at, took))
                at += took
            builder.step(number, at, phases)
        return fingerprint(Run(tmp_path / name))

    sides = {"fast": recorded("fast", False, 1.0), "slow": recorded("slow", True, 0.9)}
    after = "slow" if before == "fast" else "fast"
    found = compare([sides[before]], [sides[after]])
    assert ("slower" if after == "slow" else "faster", "data_wait") == (found.verdict, found.phases[0].name)


def gpu_run(directory, run_id, seed, **options):
    return fingerprint(Run(write_gpu_run(directory, run_id, seed, **options)))


@pytest.fixture(scope="module")
def first_on_gpu(tmp_path_factory):
    return gpu_run(tmp_path_factory.mktemp("gpu"), "first", 1)


@pytest.mark.parametrize("phase", ["forward", "backward", "optimizer"])
def test_a_phase_that_takes_more_of_the_gpu_is_named(tmp_path, first_on_gpu, phase):
    """Wherever the host waits for it; also the phase that is most of the step. By the host's phases it is not."""
    second = gpu_run(tmp_path, "second", 2, **{phase: 1.0})
    found = compare([first_on_gpu], [second])
    assert ("slower", phase, True) == (found.verdict, found.phases[0].name, found.on_gpu)
    assert [phase] == [each.name for each in found.phases if each.verdict == "slower"]
    assert 0.04 < found.change < 0.06
    by_host = compare([replace(first_on_gpu, on_gpu={})], [second])
    assert not by_host.on_gpu
    assert phase not in [each.name for each in by_host.phases if each.verdict == "slower"]


def test_equal_runs_on_a_gpu_do_not_differ(tmp_path, first_on_gpu):
    """One run a side, and three."""
    others = [gpu_run(tmp_path, f"r{seed}", seed, every=1 + seed % 4) for seed in range(10, 20)]
    assert {"no difference shown"} == {compare([first_on_gpu], [other]).verdict for other in others}
    assert "no difference shown" == compare(others[:3], others[3:6]).verdict


def test_a_slower_gpu_is_not_slower_code(tmp_path, first_on_gpu):
    """All its phases alike: one run a side does not tell the clock from the code."""
    found = compare([first_on_gpu], [gpu_run(tmp_path, "second", 2, pace=1.06)])
    assert ("too little data", True) == (found.verdict, found.sentence.startswith("all phases change alike"))


def test_few_steps_timed_on_the_gpu_are_not_compared(tmp_path, first_on_gpu):
    """Fewer than twenty: the host's phases are there."""
    few = gpu_run(tmp_path, "few", 2, every=11)
    assert {} == few.on_gpu
    assert not compare([first_on_gpu], [few]).on_gpu


def test_the_gpus_phases_come_back_from_a_baseline(first_on_gpu):
    """And one that was kept before there were any is read."""
    content = json.loads(json.dumps(first_on_gpu.to_json()))
    again = Fingerprint.from_json(content)
    assert first_on_gpu.on_gpu.keys() == again.on_gpu.keys() == {*ON_GPU_MS, "other"}
    assert "no difference shown" == compare([first_on_gpu], [again]).verdict
    older = Fingerprint.from_json({key: content[key] for key in content if "gpu" not in key})
    assert ({}, False) == (older.on_gpu, older.is_by_the_gpu)


def test_the_gpus_phases_and_other_are_the_step(first_on_gpu):
    """By their means, of the steps that were timed."""
    together = sum(phase.times_s["mean"] for phase in first_on_gpu.on_gpu.values())
    assert pytest.approx(first_on_gpu.estimates["mean"].value, rel=0.02) == together


def test_the_gpus_of_several_ranks(tmp_path):
    """A step's time is the mean of the ranks; one that did not time it counts with its median."""
    for rank, every in ((0, 2), (1, 3)):
        builder = LogBuilder(tmp_path, rank=rank)
        for number in range(120):
            builder.step(number, 20 * MS, [("forward", 0, 1 * MS)])
            if number % every == 0:
                builder.gpu(number, {"forward": (10 + 4 * rank) * MS})
    steady = steady_run(Run(tmp_path / "run-a"))
    times = dict(zip(steady.steps.tolist(), steady.on_gpu_s["forward"].tolist(), strict=True))
    assert pytest.approx([0.012] * 3) == [times[6], times[8], times[9]]
    assert np.isnan(times[7])
    assert pytest.approx(0.008) == fingerprint(Run(tmp_path / "run-a")).on_gpu["other"].times_s["undisturbed"]
