"""The rounds of a benchmark: which run is next, until the answer is clear, the rounds are done or the time is up."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from otel_train import resource_names
from otel_train.bench.judging import Judgement, judge
from otel_train.bench.matrix import Cell, order
from otel_train.bench.reading import RunRead, RunReader, choose_metric, is_higher_better
from otel_train.bench.running import Ended, run_command
from otel_train.bench.state import DONE, FAILED, INTERRUPTED, TIMED_OUT, BenchState, RunRecord
from otel_train.derive.catalogue import Measure
from otel_train.samplers.cgroup import CgroupSampler
from otel_train.samplers.sampler import SamplerUnavailable

FAILURES_ENOUGH = 2
"""A cell that has failed so often, and never succeeded, is not run again."""

CLEAR, COMPLETE, OUT_OF_TIME, STOPPED = "clear", "complete", "out of time", "interrupted"
"""Why a benchmark ended."""


@dataclass(frozen=True)
class Plan:
    """What is to be run, and how its runs are judged."""

    command: Sequence[str]
    cells: Sequence[Cell]
    repeat: int
    seed: int = 0
    metric: str | None = None
    better: str | None = None
    margin: float = 0.02
    timeout_s: float | None = None
    max_time_s: float | None = None
    early_stop: bool = True


@dataclass
class Runner:
    """Starts runs, one at a time, and keeps what came of each. ``say`` gets each run as it begins and as it is over."""

    plan: Plan
    state: BenchState
    reader: RunReader
    environ: Mapping[str, str]
    say: Callable[[str, Cell, int, RunRead | None], None]
    began: float = field(default_factory=time.monotonic)
    ended_by: str | None = None
    """Why the last run was not run, or cut short."""

    def run(self, cell: Cell, round_number: int) -> RunRead | None:
        """Run a cell, unless that is done already. None when it was interrupted, or the time is up."""
        try:
            return self._run(cell, round_number)
        except KeyboardInterrupt:  # before its start, or after its end
            self.ended_by = STOPPED
            return None

    def _run(self, cell: Cell, round_number: int) -> RunRead | None:
        known = self.state.over(cell).get(round_number)
        if known is not None:
            return self.reader.read(known)
        left_s = self.left_s()
        if left_s <= self._usual_s(cell):
            self.ended_by = OUT_OF_TIME
            return None
        run_id = self.state.new_run_id(cell, round_number)
        self.say("begins", cell, round_number, None)
        record = self._record(cell, round_number, run_id, left_s)
        self.state.add(record)
        if not record.is_over:
            return None
        read = self.reader.read(record)
        self.say("is over", cell, round_number, read)
        return read

    def left_s(self) -> float:
        """Seconds until no run may go on."""
        limit_s = self.plan.max_time_s
        return float("inf") if limit_s is None else limit_s - (time.monotonic() - self.began)

    def _usual_s(self, cell: Cell) -> float:
        """What the cell's longest run took; 0 before its first. One that would not end in time is not begun."""
        return max((record.wall_s for record in self.state.over(cell).values()), default=0.0)

    def _record(self, cell: Cell, round_number: int, run_id: str, left_s: float) -> RunRecord:
        kills = KillCount()
        environment = {**cell.environment(self.environ), "OTEL_TRAIN_RUN_ID": run_id}
        timeout_s = min(left_s, self.plan.timeout_s or float("inf"))
        ended = run_command(
            cell.command(self.plan.command), environment, self.state.output(run_id),
            None if timeout_s == float("inf") else timeout_s,
        )  # fmt: skip
        is_out_of_time = ended.timed_out and timeout_s == left_s
        self.ended_by = STOPPED if ended.interrupted else OUT_OF_TIME if is_out_of_time else None
        status = INTERRUPTED if self.ended_by else _status(ended)
        return RunRecord(
            cell, round_number, run_id, status, ended.exit_code, ended.wall_s, ended.peak_bytes, kills.since()
        )


def _status(ended: Ended) -> str:
    if ended.timed_out:
        return TIMED_OUT
    return DONE if ended.exit_code == 0 else FAILED


class KillCount:
    """How often the kernel has killed in this control group for want of memory since this was made."""

    def __init__(self) -> None:
        self._sampler = None
        with suppress(SamplerUnavailable):
            self._sampler = CgroupSampler()
            self._sampler.sample()

    def since(self) -> int | None:
        """None where the control group does not tell."""
        told = self._sampler.sample() if self._sampler else {}
        count = told.get((resource_names.CGROUP_OOM_KILLS, ()))
        return None if count is None else int(count)


@dataclass(frozen=True)
class Outcome:
    """What is known when a benchmark ends, however it ends."""

    reason: str
    metric: Measure
    higher_is_better: bool
    judgement: Judgement
    runs: tuple[RunRead, ...]
    rounds: int
    """Rounds that are whole."""
    given_up: tuple[Cell, ...]
    """Cells that only failed, and were not run again."""


def run_rounds(runner: Runner) -> Outcome:
    """Run round after round. A Ctrl-C, or the end of the time, ends it with what is known.

    Raises ``OSError`` where its state cannot be written, ``BenchError``.
    """
    plan, done = runner.plan, 0
    try:
        for number in range(1, plan.repeat + 1):
            outcome = conclude(runner, done, CLEAR)
            if plan.early_stop and outcome.judgement.is_clear:
                return outcome
            left_out = {*outcome.given_up, *(outcome.judgement.beaten if plan.early_stop else ())}
            if not _run_round(runner, number, left_out):
                return conclude(runner, done, runner.ended_by or STOPPED)
            done = number
    except KeyboardInterrupt:  # between two runs
        return conclude(runner, done, STOPPED)
    return conclude(runner, done, COMPLETE)


def _run_round(runner: Runner, number: int, left_out: set[Cell]) -> bool:
    """Is the round whole?"""
    for cell in order(runner.plan.cells, number, runner.plan.seed):
        if cell not in left_out and runner.run(cell, number) is None:
            return False
    return True


def conclude(runner: Runner, rounds: int, reason: str) -> Outcome:
    """Judge what is known. Only runs that succeeded are judged."""
    plan, runs = runner.plan, runner.reader.of(runner.plan.cells)
    metric = choose_metric(plan.metric, runs)
    higher = is_higher_better(metric, plan.better)
    values: dict[Cell, dict[int, float]] = {}
    for run in runs:
        value = run.value(metric)
        if value is not None:
            values.setdefault(run.record.cell, {})[run.record.round_number] = value
    judgement = judge(plan.cells, values, higher, rounds, plan.repeat, plan.margin)
    return Outcome(reason, metric, higher, judgement, tuple(runs), rounds, _given_up(plan, runs))


def _given_up(plan: Plan, runs: Sequence[RunRead]) -> tuple[Cell, ...]:
    of_cell = {cell: [run for run in runs if run.record.cell == cell] for cell in plan.cells}
    return tuple(
        cell
        for cell, own in of_cell.items()
        if len(own) >= FAILURES_ENOUGH and all(run.problem is not None for run in own)
    )
