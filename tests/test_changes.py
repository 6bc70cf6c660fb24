"""What changed during a run: real changes are found where they are, noise and single slow steps are none."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from log_builder import MS, SECOND, LogBuilder

from otel_train import names
from otel_train.derive.change_point import change_points, superiority
from otel_train.derive.changes import Change, sentences
from otel_train.derive.summary import summarize_run
from otel_train.runlog.runs import Run

NOISE = 0.03


def changes_of(builder: LogBuilder) -> list[Change]:
    """Of the run that a builder's rank belongs to."""
    return summarize_run(Run(builder.path.parent)).merged.changes


def phased(
    directory: Path, levels: Sequence[tuple[int, dict[str, float]]], rank: int = 0, seed: int = 0, **amounts: int
) -> LogBuilder:
    """So many steps of each level, with their phases in ms and noise on each."""
    rng = np.random.default_rng(seed + rank)
    builder, number = LogBuilder(directory, rank=rank), 0
    for steps, phases in levels:
        for _ in range(steps):
            at, slots = 0, []
            for name, mean_ms in phases.items():
                slots.append((name, at, int(mean_ms * MS * rng.normal(1, NOISE))))
                at += slots[-1][2]
            builder.step(number, at, slots, **amounts)
            number += 1
    return builder


USUAL = {"data_wait": 10.0, "forward": 40.0, "backward": 50.0}


@pytest.mark.parametrize("steps", [60, 500, 5000])
@pytest.mark.parametrize("phase", ["data_wait", "backward"])
def test_a_slower_phase_is_found_and_named(tmp_path: Path, steps: int, phase: str) -> None:
    """Steps take 10 % longer from the middle on: one change, at the step, with the phase, and the reverse of it."""
    slower = USUAL | {phase: USUAL[phase] + 10}
    (found,) = changes_of(phased(tmp_path / "slower", [(steps // 2, USUAL), (steps // 2, slower)]))
    assert ("step_time", phase, pytest.approx(0.1, abs=0.02)) == (found.kind, found.phase, found.effect)
    assert pytest.approx(0.01, rel=0.2) == found.phase_s
    assert abs(found.step - steps // 2) <= max(steps // 100, 2)
    assert found.sentence.endswith(f"% longer, mostly in {phase}")
    (back,) = changes_of(phased(tmp_path / "faster", [(steps // 2, slower), (steps // 2, USUAL)]))
    assert back.sentence.endswith(f"% shorter, mostly in {phase}")


def test_a_slow_stretch_begins_and_ends(tmp_path: Path) -> None:
    """Two changes, although the ends of the run are alike."""
    found = changes_of(phased(tmp_path, [(600, USUAL), (200, USUAL | {"forward": 60.0}), (600, USUAL)]))
    assert [(True, "forward"), (False, "forward")] == [((each.effect or 0) > 0, each.phase) for each in found]
    assert [True, True] == [abs(each.step - step) <= 6 for each, step in zip(found, (600, 800), strict=True)]


def autoregressive(
    rng: np.random.Generator, count: int, hang: float, spread: float
) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Values around 1 that hang together."""
    values = rng.standard_normal(count)
    for index in range(1, count):
        values[index] = hang * values[index - 1] + (1 - hang**2) ** 0.5 * values[index]
    return np.exp(spread * values)


@pytest.mark.parametrize(("hang", "count", "most"), [(0.0, 40, 1), (0.0, 240, 1), (0.5, 240, 1), (0.8, 240, 3)])
def test_noise_is_no_change(hang: float, count: int, most: int) -> None:
    """Of 80 series without a change, of values that vary by 10 % and hang together, hardly one has one found."""
    found = [change_points(autoregressive(np.random.default_rng(seed), count, hang, 0.1), 0.05) for seed in range(80)]
    assert sum(map(bool, found)) <= most


@pytest.mark.parametrize(("hang", "least"), [(0.0, 20), (0.5, 20), (0.8, 15)])
def test_changes_of_a_tenth_are_found(hang: float, least: int) -> None:
    """In noise of 2 %: so many of 20, within 12 of 240 values."""
    hits = 0
    for seed in range(20):
        values = autoregressive(np.random.default_rng(seed), 240, hang, 0.02)
        values[80:] *= 1.1
        hits += any(abs(at - 80) <= 12 for at in change_points(values, 0.05))
    assert hits >= least


def test_single_slow_steps_and_warm_up_are_no_change(tmp_path: Path) -> None:
    """The first steps compile, and one in 20 saves a checkpoint inside it."""
    rng = np.random.default_rng(0)
    builder = LogBuilder(tmp_path)
    for number in range(900):
        slow = 30 if number < 5 else 8 if number % 20 == 0 else 1
        builder.step(number, int(100 * MS * slow * rng.normal(1, NOISE)))
    assert [] == changes_of(builder)


def test_a_change_in_no_phase_of_the_record(tmp_path: Path) -> None:
    """A script without phases: how much longer, and nothing on where."""
    rng = np.random.default_rng(0)
    builder = LogBuilder(tmp_path)
    for number in range(400):
        builder.step(number, int((150 if number >= 200 else 100) * MS * rng.normal(1, NOISE)))
    (found,) = changes_of(builder)
    assert (None, True) == (found.phase, found.sentence.endswith("% longer"))


def test_more_time_between_steps_is_a_change_of_throughput(tmp_path: Path) -> None:
    """Steps take as long as before, but each is followed by 50 ms of something else."""
    rng = np.random.default_rng(0)
    builder = LogBuilder(tmp_path)
    for number in range(1000):
        builder.step(number, int(100 * MS * rng.normal(1, NOISE)), samples=8)
        builder.end_ns += 50 * MS * (number >= 400)
    (found,) = changes_of(builder)
    assert ("throughput", pytest.approx(-1 / 3, abs=0.02)) == (found.kind, found.effect)
    assert "33 % fewer samples pass a second; 33 % of the time passes between steps, 0 % before" in found.sentence
    assert abs(found.step - 400) <= 12


def test_larger_steps_are_told_as_such(tmp_path: Path) -> None:
    """Twice the samples in twice the time: throughput is as before, and the sentence says why steps take longer."""
    rng = np.random.default_rng(0)
    builder = LogBuilder(tmp_path)
    for number in range(1000):
        factor = 2 if number >= 500 else 1
        builder.step(number, int(factor * 100 * MS * rng.normal(1, NOISE)), samples=8 * factor)
    (found,) = changes_of(builder)
    assert ("step_time", True) == (found.kind, found.sentence.endswith("; a step has 100 % more samples"))


def test_ranks_tell_a_change_once(tmp_path: Path) -> None:
    """All three together; and where one rank alone gets slower, it is named."""
    slower = USUAL | {"backward": 70.0}
    for rank in range(3):
        together = phased(tmp_path / "together", [(300, USUAL), (300, slower)], rank)
        alone = phased(tmp_path / "alone", [(300, USUAL), (300, slower if rank == 1 else USUAL)], rank)
    (found,) = changes_of(together)
    assert (0, 1, 2) == found.ranks
    assert [found.sentence] == sentences([found], 3)
    (found,) = changes_of(alone)
    assert (1,) == found.ranks
    assert sentences([found], 3)[0].endswith("mostly in backward (rank 1)")


def test_what_was_set_differently(tmp_path: Path) -> None:
    """The governor takes a level back, and a loader with more workers takes over: from the next step on."""
    builder = phased(tmp_path, [(10, USUAL)])
    loader = {names.LOADER_WORKERS: 2, names.LOADER_TRAINS: True, names.LOADER_BATCHES: 1}
    builder.event(names.DATA_LOADER, SECOND // 5, attributes=loader)
    builder.event(names.LEVEL, SECOND // 2, attributes={names.LEVEL_NAME: "steps", names.LEVEL_SHARE: 0.021})
    builder.event(names.DATA_LOADER, SECOND * 3 // 5, attributes=loader | {names.LOADER_WORKERS: 8})
    builder.event(names.DATA_LOADER, SECOND * 7 // 10, attributes=loader | {names.LOADER_WORKERS: 8})
    level, workers = changes_of(builder)
    assert ("level", None, True) == (
        level.kind,
        level.effect,
        level.sentence.endswith("level steps, as it cost 2.10 % of a step"),
    )
    assert ("loader", True) == (workers.kind, workers.sentence.endswith("the loader has 8 workers (before: 2 workers)"))
    assert level.step < workers.step


def test_a_restart_is_told(tmp_path: Path) -> None:
    """Of a run id that a launcher's restart made; a version in a name of the user's is none."""
    for run_id in ("run-0123456789ab.2", "exp-v1.2"):
        builder = LogBuilder(tmp_path, run_id)
        builder.step(700, MS)
        found = [change.sentence for change in changes_of(builder)]
        expected = ["from step 700 on, this is the launcher's restart 2"] if run_id.startswith("run") else []
        assert expected == found


@pytest.mark.parametrize("steps", [0, 1, 2, 11, 12, 13])
def test_short_runs_have_no_change(tmp_path: Path, steps: int) -> None:
    """Nothing to judge, and nothing that fails."""
    assert [] == changes_of(phased(tmp_path, [(steps, USUAL)]))


def test_superiority_is_scipys() -> None:
    """Mann-Whitney's U over the number of pairs, ties among them."""
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    before, after = rng.integers(0, 9, 40).astype(float), rng.integers(2, 12, 25).astype(float)
    expected = stats.mannwhitneyu(after, before).statistic / (40 * 25)
    assert pytest.approx(expected) == superiority(before, after)
