"""Projections to a goal: known rates give known times, intervals cover, and what is missing is said."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from log_builder import MS, SECOND, LogBuilder

from otel_train.cli import group
from otel_train.derive import catalogue
from otel_train.derive.bootstrap import block_length, deviations, interval
from otel_train.derive.goal import Goal, parse_goal
from otel_train.derive.projection import Projection, project
from otel_train.derive.summary import RunSummary, summarize_run
from otel_train.errors import GoalError
from otel_train.resource_names import series
from otel_train.runlog.runs import Run

GPUS = {"gpus": [{"model": "NVIDIA H100", "uuid": "GPU-1"}]}


def summary(builder: LogBuilder) -> RunSummary:
    """Of the run that a builder's rank belongs to."""
    return summarize_run(Run(builder.path.parent))


def even_run(directory: Path, steps: int = 400, rank: int = 0, **identity: object) -> LogBuilder:
    """Steps of 100 ms with 8 samples and 80 tokens each."""
    builder = LogBuilder(directory, rank=rank, **identity)
    for number in range(steps):
        builder.step(number, 100 * MS, samples=8, tokens=80)
    return builder


@given(
    st.floats(1e-3, 1e15, allow_nan=False),
    st.sampled_from([("k", 1e3), ("M", 1e6), ("G", 1e9), ("B", 1e9), ("T", 1e12), ("", 1.0)]),
    st.sampled_from(["samples", "tokens", "steps", "epochs"]),
    st.booleans(),
    st.booleans(),
)
def test_a_goal_is_read_as_it_is_written(
    amount: float, factor: tuple[str, float], unit: str, one: bool, space: bool
) -> None:
    """Number, factor and unit, with or without a space, in the singular too."""
    text = f"{amount!r} {factor[0]}{' ' * space}{unit[:-1] if one else unit}"
    assert Goal(amount * factor[1], unit) == parse_goal(text)


@pytest.mark.parametrize(
    ("text", "amount"), [("6_000_000 samples", 6e6), ("6,000,000 samples", 6e6), ("6e6samples", 6e6)]
)
def test_thousands_may_be_separated(text: str, amount: float) -> None:
    """As people do."""
    assert Goal(amount, "samples") == parse_goal(text)


@pytest.mark.parametrize(
    "text", ["", "samples", "0 steps", "-1 steps", "6 bananas", "1.2.3 steps", "nan steps", "1 M", "1e999 steps"]
)
def test_what_is_no_goal_is_refused(text: str) -> None:
    """With what is allowed."""
    with pytest.raises(GoalError, match="allowed is a number above 0"):
        parse_goal(text)


@pytest.mark.parametrize(
    ("goal", "left", "left_s"), [("8k samples", 4800, 60.0), ("80k tokens", 48_000, 60.0), ("1000 steps", 600, 60.0)]
)
def test_an_even_run_goes_on_as_it_was(tmp_path: Path, goal: str, left: float, left_s: float) -> None:
    """80 samples, 800 tokens, 10 steps a second: by each count the same, with nothing in doubt."""
    found = project(summary(even_run(tmp_path)), parse_goal(goal))
    own = next(pace for pace in found.paces if pace.unit == found.goal.unit)
    assert (left, pytest.approx(left_s), found.goal.unit) == (own.left, own.left_s, found.trusted)
    assert [pytest.approx(left_s)] * 3 == [pace.left_s for pace in found.paces]
    assert found.total is not None
    assert pytest.approx(100.0) == found.total.time_s
    assert (pytest.approx(100.0), pytest.approx(100.0)) == (found.low_s, found.high_s)


def test_ranks_share_the_samples_and_not_the_steps(tmp_path: Path) -> None:
    """Two ranks have twice the samples a second, and each step once."""
    even_run(tmp_path, rank=1)
    run = summary(even_run(tmp_path, rank=0))
    by_samples, by_steps = (project(run, Goal(*goal)) for goal in ((16_000, "samples"), (1000, "steps")))
    assert by_samples.left is not None
    assert by_steps.left is not None
    assert (6400, 400) == (by_samples.done, by_steps.done)
    assert (pytest.approx(60.0), pytest.approx(60.0)) == (by_samples.left.time_s, by_steps.left.time_s)


def test_time_between_steps_counts(tmp_path: Path) -> None:
    """A checkpoint of 10 s after each 100 steps of 100 ms: the run takes twice as long as its steps."""
    builder = LogBuilder(tmp_path)
    for number in range(2000):
        builder.step(number, 100 * MS, samples=8)
        builder.end_ns += 10 * SECOND * ((number + 1) % 100 == 0)
    found = project(summary(builder), Goal(4000, "steps"))
    assert found.left is not None
    assert pytest.approx(400.0, rel=0.03) == found.left.time_s


def test_the_pace_is_that_since_the_last_change(tmp_path: Path) -> None:
    """Steps take twice as long from step 600 on: what is left is told by the slower ones."""
    rng = np.random.default_rng(0)
    builder = LogBuilder(tmp_path)
    for number in range(1200):
        builder.step(number, int((200 if number >= 600 else 100) * MS * rng.normal(1, 0.02)), samples=8)
    found = project(summary(builder), Goal(2200, "steps"))
    assert found.left is not None
    assert found.total is not None
    assert pytest.approx(200.0, rel=0.01) == found.left.time_s
    assert pytest.approx(380.0, rel=0.01) == found.total.time_s
    assert found.from_step in range(595, 606)
    assert "since the last change" in found.notes[0]


def test_tokens_are_trusted_where_lengths_vary(tmp_path: Path) -> None:
    """A step's time goes by its tokens, whose number varies: a goal of samples is told by tokens, and why is said."""
    rng = np.random.default_rng(0)
    builder = LogBuilder(tmp_path)
    for number in range(800):
        tokens = int(rng.integers(200, 2000))
        builder.step(number, tokens * MS // 10, samples=8, tokens=tokens)
    found = project(summary(builder), Goal(20_000, "samples"))
    assert "tokens" == found.trusted
    assert found.why.startswith("by tokens: the tokens of a sample vary by")


def test_a_goal_that_is_reached_says_when(tmp_path: Path) -> None:
    """Half of the steps took half of the time; nothing is left."""
    found = project(summary(even_run(tmp_path)), Goal(200, "steps"))
    assert found.reached
    assert found.total is not None
    assert found.left is not None
    assert (pytest.approx(20.0), 0.0) == (found.total.time_s, found.left.time_s)


def test_epochs_are_steps(tmp_path: Path) -> None:
    """100 steps an epoch, of which three are complete: ten have 1,000 steps."""
    builder = LogBuilder(tmp_path)
    for number in range(350):
        builder.step(number, 100 * MS, epoch=number // 100)
    found = project(summary(builder), Goal(10, "epochs"))
    assert found.total is not None
    assert (pytest.approx(3.5), pytest.approx(100.0)) == (found.done, found.total.time_s)


def test_gpus_cost(tmp_path: Path) -> None:
    """Two ranks for 360 s at 500 W each, by their energy counters, at 2 an hour and GPU."""
    for rank in (0, 1):
        builder = even_run(tmp_path, rank=rank, hardware=GPUS, world_size=2)
        for second in range(5, 40, 5):
            energy = series("hw.energy", hw__id=f"GPU-{rank}", otel_train__gpu__own="true")
            builder.resources(second * SECOND, {energy: 500.0 * second})
    run = summary(builder)
    found = project(run, Goal(3600, "steps"), price_per_gpu_hour=2.0)
    assert found.total is not None
    assert (0.2, 360_000.0, 0.4) == (
        pytest.approx(found.total.gpu_hours), pytest.approx(found.total.energy_j), pytest.approx(found.total.cost)
    )  # fmt: skip
    assert pytest.approx(40_000.0) == catalogue.find("energy").of(run)
    assert pytest.approx(2 * 40 / 3600) == catalogue.find("gpu_hours").of(run)


def test_without_a_gpu_there_is_no_price(tmp_path: Path) -> None:
    """Nor GPU hours, nor energy; and that is said."""
    found = project(summary(even_run(tmp_path)), Goal(800, "steps"), price_per_gpu_hour=2.0)
    assert found.total is not None
    assert (None, None, None) == (found.total.gpu_hours, found.total.energy_j, found.total.cost)
    assert "No GPU is recorded, so there is no price." in found.notes


def nothing(found: Projection) -> bool:
    """It is no projection."""
    return (None, None, None, []) == (found.left, found.total, found.trusted, found.paces)


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    """No step, no samples, no whole epoch: no number, and the reason."""
    empty = project(summary(LogBuilder(tmp_path, "empty")), Goal(10, "steps"))
    builder = LogBuilder(tmp_path, "steps-only")
    builder.step(0, MS)
    run = summary(builder)
    assert "no projection: the run has no training step" == empty.why
    assert "no projection: the run's samples are not known of all its parts" == project(run, Goal(9, "samples")).why
    assert project(run, Goal(9, "epochs")).why.startswith("no projection: no epoch is complete")
    assert all(nothing(each) for each in (empty, project(run, Goal(9, "samples")), project(run, Goal(9, "epochs"))))


def test_one_step_gives_a_time_and_no_interval(tmp_path: Path) -> None:
    """There is nothing to tell the spread by."""
    builder = LogBuilder(tmp_path)
    builder.step(0, SECOND)
    found = project(summary(builder), Goal(10, "steps"))
    assert found.left is not None
    assert (pytest.approx(9.0), None, None) == (found.left.time_s, found.low_s, found.high_s)


RUNS, RECORDED, WHOLE = 60, 1200, 6000


def noisy_durations_ns(rng: np.random.Generator) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Steps of 100 ms that hang together (autoregressive, 0.6) and vary by 15 %."""
    noise = rng.standard_normal(WHOLE)
    for index in range(1, WHOLE):
        noise[index] = 0.6 * noise[index - 1] + 0.8 * noise[index]
    return (100 * MS * np.exp(0.15 * noise)).astype(np.int64)


def test_intervals_cover(tmp_path: Path) -> None:
    """Told from a fifth of the run, with a checkpoint of some 3 s every 150 steps, the interval of 95 in 100 holds what
    the whole run took in at least 53 of 60 runs; and it is no wider than 12 % of it."""
    covered, widths = 0, []
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        durations = noisy_durations_ns(rng)
        gaps = np.where(np.arange(1, WHOLE + 1) % 150 == 0, rng.uniform(2, 4, WHOLE) * SECOND, 0).astype(np.int64)
        starts = np.concatenate(([0], np.cumsum(durations + gaps)[:-1]))
        builder = LogBuilder(tmp_path, f"run-{seed}")
        for number in range(RECORDED):
            builder.step(number, int(durations[number]), start_ns=int(starts[number]), samples=8)
        found = project(summary(builder), Goal(WHOLE, "steps"))
        truth = (int(starts[-1]) + int(durations[-1])) / 1e9
        assert found.low_s is not None
        assert found.high_s is not None
        covered += found.low_s <= truth <= found.high_s
        widths.append((found.high_s - found.low_s) / truth)
    assert covered >= 53, (covered, np.mean(widths))
    assert np.median(widths) < 0.12


def test_the_bootstrap_is_a_standard_error_where_nothing_hangs_together() -> None:
    """Of independent values its spread is that of the mean, as the textbook has it."""
    values = np.random.default_rng(0).normal(1.0, 0.1, 240)
    found = deviations(values, np.ones(240), block_length(values))
    assert found is not None
    low, high = interval(found)
    assert pytest.approx(2 * 1.96 * values.std() / 240**0.5, rel=0.2) == high - low


def test_the_same_run_gives_the_same_projection(tmp_path: Path) -> None:
    """The draws are seeded."""
    rng = np.random.default_rng(0)
    builder = LogBuilder(tmp_path)
    for number in range(300):
        builder.step(number, int(rng.uniform(50, 150) * MS))
    assert project(summary(builder), Goal(900, "steps")) == project(summary(builder), Goal(900, "steps"))


def test_the_command_line_projects(tmp_path: Path) -> None:
    """To each goal, as text and as JSON; a goal that is none is one line."""
    even_run(tmp_path)
    arguments = ["report", "--dir", str(tmp_path), "--goal", "1000 steps", "--goal", "8k samples"]
    shown = CliRunner().invoke(group, arguments)
    assert 0 == shown.exit_code, shown.output
    assert "To 1,000 steps" in shown.output
    assert "1 min 00 s left, 1 min 40 s in all" in shown.output
    told = json.loads(CliRunner().invoke(group, [*arguments, "--json"]).output)["projections"]
    assert [("steps", 60.0), ("samples", 60.0)] == [
        (each["trusted"], pytest.approx(each["left"]["time_s"])) for each in told
    ]
    wrong = CliRunner().invoke(group, ["report", "--dir", str(tmp_path), "--goal", "soon"])
    assert (1, 1) == (wrong.exit_code, len(wrong.output.splitlines()))
