"""The arithmetic of a benchmark: cells and their order, intervals and early stop, the way of a sweep."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_builder import MS, LogBuilder
from scipy import stats

from otel_train import names
from otel_train.bench.judging import BEATEN, BEST, EQUAL, OPEN, UNKNOWN, judge, mean_of, planned_looks
from otel_train.bench.matrix import ARGUMENT, ENVIRONMENT, PLACEHOLDER, Cell, Setting, cells, check, order, read_factors
from otel_train.bench.memory_sweep import DOES_NOT_FIT, FITS, between, read_sweep, run_sweep
from otel_train.bench.out_of_memory import CPU, CUDA, KERNEL, KILLED, OutOfMemory, find_out_of_memory
from otel_train.bench.reading import RunRead
from otel_train.bench.state import BenchState, RunRecord, plan_of
from otel_train.derive.summary import summarize_run
from otel_train.errors import BenchError
from otel_train.runlog.events import Event
from otel_train.runlog.runs import Run

WORDS = st.lists(st.text("abc129", min_size=1, max_size=3), min_size=1, max_size=4, unique=True)


def cell(value, name="n", kind=ARGUMENT):
    """A cell of one setting."""
    return Cell((Setting(kind, name, str(value)),))


# -- matrix --------------------------------------------------------------------------------------------------------


@given(WORDS, WORDS, st.integers(0, 3))
def test_every_combination_once_a_round(first, second, seed):
    """The cells are the product of the values; a round is all of them in an order that seed and round decide."""
    factors = read_factors(ENVIRONMENT, [f"A={','.join(first)}"]) + read_factors(ARGUMENT, [f"--b={','.join(second)}"])
    found = cells(factors)
    assert len(first) * len(second) == len(set(found)) == len(found)
    for number in (1, 2, 3):
        assert set(found) == set(order(found, number, seed))
        assert order(found, number, seed) == order(found, number, seed)


def test_rounds_differ_in_their_order():
    """No cell always comes first."""
    found = cells(read_factors(ARGUMENT, ["--b=1,2,3"]))
    assert set(found) == {order(found, number, 0)[0] for number in range(1, 20)}


def test_values_find_their_places():
    """Variables, placeholders, long and short arguments; a placeholder alone with an empty value is left out."""
    factors = [
        *read_factors(ENVIRONMENT, ["THREADS=2"]), *read_factors(ARGUMENT, ["--size=8", "-w=4", "lr=0.1"]),
        *read_factors(PLACEHOLDER, ["flag=", "x=7"]),
    ]  # fmt: skip
    (only,) = cells(factors)
    command = only.command(["train.py", "{flag}", "", "--x={x}", "{y}"])
    assert ["train.py", "", "--x=7", "{y}", "--size=8", "-w", "4", "lr=0.1"] == command
    assert {"HOME": "/", "THREADS": "2"} == only.environment({"HOME": "/"})


def test_values_with_commas_and_more_values():
    """Double quotes keep a comma; a name given again adds values."""
    (factor,) = read_factors(ARGUMENT, ['--d="a,b",c', "--d=e=f"])
    assert ("a,b", "c", "e=f") == factor.values


@pytest.mark.parametrize(
    ("texts", "message"), [(["x"], "NAME=VALUE"), (["=1"], "NAME=VALUE"), (["x=1,2,1"], "has the value '1' twice")]
)
def test_a_wrong_factor(texts, message):
    """What was got, and what is allowed."""
    with pytest.raises(BenchError, match=message):
        read_factors(PLACEHOLDER, texts)


def test_a_factor_that_goes_nowhere():
    """A placeholder must be in the command, and a name has one place."""
    with pytest.raises(BenchError, match=r"there is no \{x\} in the command"):
        check(read_factors(PLACEHOLDER, ["x=1,2"]), ["train.py"])
    with pytest.raises(BenchError, match="OTEL_TRAIN_DIR is what a benchmark finds its runs by"):
        check(read_factors(ENVIRONMENT, ["OTEL_TRAIN_DIR=a,b"]), ["train.py"])
    twice = read_factors(PLACEHOLDER, ["x=1"]) + read_factors(ARGUMENT, ["x=1"])
    with pytest.raises(BenchError, match="varied in two ways"):
        check(twice, ["{x}"])


# -- judging -------------------------------------------------------------------------------------------------------


def raced(true, rounds, planned, seed, noise=0.01, margin=0.02):
    """Judge cells of these true speeds: each round has its own drift, each run its own noise."""
    random = np.random.default_rng(seed)
    noises = np.broadcast_to(noise, len(true))
    drift = random.normal(0, 0.3, rounds)
    values = {
        cell(index): {
            number + 1: speed * math.exp(drift[number] + random.normal(0, noises[index])) for number in range(rounds)
        }
        for index, speed in enumerate(true)
    }
    return judge(list(values), values, True, rounds, planned, margin)


@pytest.mark.parametrize("noise", [0.02, (0.002, 0.05, 0.01, 0.02)], ids=["equal", "unequal"])
def test_the_best_is_seldom_called_beaten(noise):
    """All cells are equally fast, the hardest case: at most 5 % of races call the one that is best in truth
    beaten. With looks after rounds 3, 4 and 5, equal and unequal noise, and a drift that is much larger."""
    wrong = sum(cell(0) in raced([1, 1, 1, 1], 5, 5, seed, noise).beaten for seed in range(600))
    assert wrong <= 30


def test_a_clear_answer_is_found():
    """Differences of 20 % with runs that differ by 1 % are clear after five rounds in nearly every race."""
    found = [raced([1.0, 0.8, 0.7], 5, 5, seed) for seed in range(100)]
    assert sum(each.is_clear and each.best == cell(0) for each in found) >= 95


def test_equal_within_the_margin():
    """Cells whose difference surely lies within the margin are as good, and that is a clear answer."""
    found = raced([1.0, 1.001], 8, 8, 1, noise=0.001)
    assert (True, {BEST, EQUAL}) == (found.is_clear, {each.verdict for each in found.cells})


def test_one_round_decides_nothing():
    """Whatever the difference."""
    found = raced([1.0, 0.1], 1, 1, 1)
    assert (False, OPEN, None) == (found.is_clear, found.of(cell(1)).verdict, found.of(cell(1)).ratio.low)
    assert [] == planned_looks(1)


def test_no_look_before_the_third_round():
    """Of more than two rounds; and none at a round that is not whole."""
    assert ([2], [3], [3, 4, 5]) == (planned_looks(2), planned_looks(3), planned_looks(5))
    values = {cell(0): {1: 1.0, 2: 1.01, 3: 1.02}, cell(1): {1: 0.1, 2: 0.101}}
    assert OPEN == judge(list(values), values, True, 2, 5, 0.02).of(cell(1)).verdict


def test_two_rounds_can_say_anything():
    """An interval of one degree of freedom may be wider than numbers are: it stays one that can be written."""
    values = {cell(0): {1: 1.0, 2: 1e60}, cell(1): {1: 1e60, 2: 1.0}}
    ratio = judge(list(values), values, True, 2, 2, 0.02).of(cell(1)).ratio
    assert (0.0, pytest.approx(1.0)) == (ratio.low, ratio.middle)
    assert 1e300 < ratio.high < math.inf


def test_lower_can_be_better():
    """The ratio is that of the values, whichever is better."""
    values = {cell(0): {1: 2.0, 2: 2.2, 3: 2.1}, cell(1): {1: 1.0, 2: 1.1, 3: 1.051}}
    found = judge(list(values), values, False, 3, 3, 0.02)
    assert (cell(1), BEATEN) == (found.best, found.of(cell(0)).verdict)
    ratio = found.of(cell(0)).ratio
    assert pytest.approx(2.0, rel=1e-3) == ratio.middle
    assert ratio.low < ratio.middle < ratio.high


def test_failed_rounds_are_left_out():
    """Only rounds that both cells have are compared; a cell without any value is unknown and keeps nothing open."""
    values = {cell(0): {1: 1.0, 2: 1.01, 3: 1.0, 4: 1.01}, cell(1): {1: 0.5, 3: 0.501, 4: 0.5}}
    found = judge([cell(0), cell(1), cell(2)], values, True, 4, 4, 0.02)
    assert 3 == found.of(cell(1)).ratio.count
    assert (UNKNOWN, None, True) == (found.of(cell(2)).verdict, found.of(cell(2)).mean, found.is_clear)


def test_no_ratio_of_what_is_not_positive():
    """Values that are zero or less have a mean and no verdict."""
    values = {cell(0): {1: -1.0, 2: -2.0}, cell(1): {1: 0.0, 2: 0.0}}
    found = judge(list(values), values, True, 2, 2, 0.02)
    assert (None, False) == (found.best, found.is_clear)
    assert pytest.approx(-1.5) == found.of(cell(0)).mean.middle


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=9))
@settings(deadline=None)
def test_intervals_are_students(values):
    """As scipy has it, of the logarithms."""
    logs = np.log(values)
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(logs)
    found = mean_of(values)
    assert pytest.approx(math.exp(logs.mean())) == found.middle
    assert pytest.approx(math.exp(logs.mean() - half), rel=1e-3) == found.low
    assert pytest.approx(math.exp(logs.mean() + half), rel=1e-3) == found.high


# -- sweep ---------------------------------------------------------------------------------------------------------


def read_of(size, limit):
    """A run that fits up to a limit."""
    record = RunRecord(cell(size), 1, f"r{size}", "done" if size <= limit else "failed", 0, 1.0, None, None)
    found = None if size <= limit else OutOfMemory(CUDA, "no memory")
    return RunRead(record, None, 0, found, found and found.sentence, [])


@given(st.integers(0, 5000), st.integers(1, 16), st.integers(16, 4096))
def test_a_sweep_finds_the_largest_that_fits(limit, first, last):
    """Doubling stops at the first that does not fit; bisecting comes within a sixteenth of it, in few runs."""
    sweep = read_sweep(f"--n={first}..{last}", [])
    found = run_sweep(sweep, lambda one: read_of(int(one.settings[-1].value), limit), bisect=True)
    sizes = [size for size, _ in found.runs]
    assert len(set(sizes)) == len(sizes) <= 20
    assert all((size <= limit) == (size in found.sizes(FITS)) for size in sizes)
    if limit >= last:
        assert (last, None) == (found.largest, found.too_large)
    elif limit < first:
        assert (None, [first]) == (found.largest, found.sizes(DOES_NOT_FIT))
    else:
        assert found.largest <= limit < found.too_large
        assert found.too_large - found.largest <= max(found.largest / 16, 1)


def test_a_sweep_ends_with_the_last_size():
    """Which need not be a doubling of the first."""
    assert [8, 16, 32, 64, 100] == read_sweep("n=8..100", ["{n}"]).doubling()
    assert (None, 12, None) == (between(None, 8), between(8, 16), between(8, 9))


@pytest.mark.parametrize(
    ("text", "message"),
    [("n", "FIRST..LAST"), ("n=8..4", "FIRST..LAST"), ("n=0..4", "FIRST..LAST"), ("n=1..4", r"--sweep --n=1\.\.4")],
)
def test_a_wrong_sweep(text, message):
    """What is allowed; and where a size would go."""
    with pytest.raises(BenchError, match=message):
        read_sweep(text, ["train.py"])


CPU_TEXT = "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes."
WORKER_TEXT = "RuntimeError: DataLoader worker (pid(s) 12) is killed by signal: Killed."


@pytest.mark.parametrize(
    ("exit_code", "status", "kills", "printed", "source"),
    [
        (1, "failed", 0, CPU_TEXT, CPU),
        (1, "failed", None, "MemoryError", CPU),
        (1, "failed", None, "numpy._core._exceptions._ArrayMemoryError: Unable to allocate", CPU),
        (1, "failed", 0, "torch.OutOfMemoryError: CUDA out of memory. Tried", CUDA),
        (-9, "failed", 1, "", KERNEL),
        (137, "failed", 2, "Killed", KERNEL),
        (1, "failed", 1, WORKER_TEXT, KERNEL),
        (1, "failed", 0, WORKER_TEXT, KILLED),
        (-9, "failed", None, "", KILLED),
        (-9, "timed out", 0, "", None),
        (1, "failed", 0, "ValueError: no MemoryErrors here", None),
        (0, "done", 1, CPU_TEXT, None),
    ],
)
def test_kinds_of_out_of_memory(exit_code, status, kills, printed, source):
    """By what was printed, the exit code and the kills that were counted: who says so, or that it is something else."""
    record = RunRecord(cell(1), 1, "r", status, exit_code, 1.0, None, kills)
    found = find_out_of_memory(record, [], printed)
    assert source == (found.source if found else None)
    if found and printed == CPU_TEXT:
        assert 4096 == found.requested


def test_the_allocators_event_comes_first():
    """It has the figures; an exception in the record is next."""
    record = RunRecord(cell(1), 1, "r", "failed", 1, 1.0, None, None)
    figures = {names.OOM_REQUESTED: 1 << 20, names.OOM_ALLOCATED: 7, names.OOM_TOTAL: 99, names.OOM_RETRIES: 3}
    event = Event(names.OUT_OF_MEMORY, 5, step=12, attributes=figures)
    found = find_out_of_memory(record, [event], CPU_TEXT)
    assert (CUDA, 12, 1 << 20, 7, 99, 3, None) == (
        found.source, found.step, found.requested, found.allocated, found.total, found.retries, found.peak
    )  # fmt: skip
    error = Event(names.ERROR, 5, step=3, error={"type": "RuntimeError", "message": CPU_TEXT})
    assert (CPU, 3) == (find_out_of_memory(record, [error], "").source, find_out_of_memory(record, [error], "").step)


# -- state and record ----------------------------------------------------------------------------------------------


def test_state_is_found_again(tmp_path):
    """A line that was cut off is left out; another plan under the name is refused; two at once too."""
    plan = plan_of(["sleep", "1"], read_factors(ARGUMENT, ["--a=1,2"]), 3)
    state = BenchState(tmp_path, "b")
    state.open(plan)
    record = RunRecord(cell(1), 1, "r1", "done", 0, 1.5, 4096, None)
    state.add(record)
    state.add(RunRecord(cell(2), 1, "r2", "interrupted", -2, 0.5, 4096, None))
    with (state.folder / "state.jsonl").open("a") as file:
        file.write('{"cell": [["arg"')
    other = BenchState(tmp_path, "b")
    with pytest.raises(BenchError, match="another process"):
        other.open(plan)
    state.close()
    other.open(plan)
    assert ({1: record}, {}, 3) == (other.over(cell(1)), other.over(cell(2)), other.repeats_first)
    other.close()
    with pytest.raises(BenchError, match="--fresh"):
        BenchState(tmp_path, "b").open(plan_of(["sleep", "2"], [], 3))


@pytest.mark.parametrize("content", ["", "{}", "nonsense\n", '{"identity": "IT"}\n{"cell": []}\n'])
def test_a_state_that_cannot_be_read(tmp_path, content):
    """What to type; and with that it begins anew, with the old one kept."""
    plan = plan_of(["sleep", "1"], [], 3)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "state.jsonl").write_text(content.replace("IT", plan["identity"]))
    state = BenchState(tmp_path, "b")
    with pytest.raises(BenchError, match=r"cannot be read .* Begin anew with --fresh"):
        state.open(plan)
    state.open(plan, fresh=True)
    assert ([], True) == (state.records, (tmp_path / "b" / "state.1.jsonl").exists())
    state.close()


def test_steps_that_are_skipped(tmp_path):
    """A summary without the first steps is that of a run that never had them, over segments too."""
    whole, rest = LogBuilder(tmp_path, "whole"), LogBuilder(tmp_path, "rest")
    for number in range(10_000):
        duration = (50 if number < 9000 else 2) * MS
        whole.step(number, duration, [("data_wait", 0, MS)], samples=8)
        if number >= 9000:
            rest.step(number, duration, [("data_wait", 0, MS)], samples=8)
    skipped, wanted = summarize_run(Run(tmp_path / "whole"), 9000).merged, summarize_run(Run(tmp_path / "rest")).merged
    assert (wanted.counts, wanted.samples_per_s, wanted.step_time, wanted.phases) == (
        skipped.counts, skipped.samples_per_s, skipped.step_time, skipped.phases
    )  # fmt: skip
    assert 0 == summarize_run(Run(tmp_path / "whole"), 10_001).merged.counts.training
