"""Profiles taken while a training goes on: which steps, what becomes of them, and that nobody is disturbed."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

import otel_train
from otel_train import active, instrumentation, names
from otel_train.cli import group
from otel_train.profiles.found import profiles_of
from otel_train.profiles.schedule import Schedule
from otel_train.profiles.summary import kept_rows
from otel_train.runlog.events import Event
from otel_train.runlog.layout import PROFILED
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.runs import find_run
from otel_train.settings import Settings
from otel_train.testing import record

LONGEST_S = 60
HOUR_NS = 3_600_000_000_000


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No warm-up, and no pauses in digesting."""
    monkeypatch.setattr("otel_train.profiles.schedule.WARM_UP_STEPS", 0)
    monkeypatch.setattr("otel_train.profiling.LONGEST_PAUSE_S", 0.0)


class Training:
    """A small model; each call is a step that is marked."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = torch.nn.Linear(64, 64)
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.inputs = torch.randn(32, 64)
        self.losses = []

    def step(self):
        with otel_train.trace_step():
            self.optimizer.zero_grad()
            loss = self.model(self.inputs).square().mean()
            loss.backward()
            self.optimizer.step()
            self.losses.append(loss.item())

    def steps(self, count):
        """Take steps, and let each profile be digested before the next can begin."""
        for _ in range(count):
            self.step()
            digested()


def digested():
    """Wait for the profile that is being digested."""
    thread = active.session.profiling._digesting
    if thread is not None:
        thread.join(LONGEST_S)
        assert not thread.is_alive()


def profiles(run):
    """The events of profiles so far."""
    return [event for event in run.events if event.kind == names.PROFILE]


def flagged(run):
    """The steps whose record says that they were profiled."""
    return [
        int(step["step"]) for _, records in run.log.steps.read() for step in records if int(step["flags"]) & PROFILED
    ]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"profile_every": 4}, [4, 8]),
        ({"profile_steps": "3,6-7"}, [3, 6, 7]),
        ({"profile_every": 5, "profile_window": 2}, [5, 6]),
        ({"profile_every": 4, "profile_ranks": "1"}, []),
        ({}, []),
    ],
)
def test_the_steps_that_settings_name(settings, expected):
    """One in N, a list, several at a time, ranks left out, and none by itself. Their records are flagged."""
    with record(overhead_budget="off", **settings) as run:
        Training().steps(10)
    assert expected == flagged(run)
    steps = [step for event in profiles(run) for step in range(event.step, event.step + event.attributes[STEPS])]
    assert expected == steps


STEPS = names.PROFILE_STEPS


def test_what_a_profile_says():
    """Its operators add up to the step within 2 %, its times are the step's, and so are its marks."""
    with record(profile_steps="5", overhead_budget="off") as run:
        Training().steps(8)
    (event,) = profiles(run)
    step = run.steps[5]
    rows = {row.name: row for row in kept_rows(event.attributes, names.PROFILE_OPERATORS)}
    assert pytest.approx(1.0, abs=0.02) == sum(row.share for row in rows.values())
    assert {"aten::addmm", "Optimizer.step#AdamW.step", "(no operator)"} <= set(rows)
    assert pytest.approx(step.duration_s) == event.duration_ns / 1e9
    assert names.PROFILE_KERNELS not in event.attributes
    assert event.attributes[names.PROFILE_BOUND] == max(
        event.attributes[names.PROFILE_SHARES], key=event.attributes[names.PROFILE_SHARES].get
    )


def test_under_zero_code():
    """Steps that no script marks are profiled too: what stopping takes is in no step."""
    with record(profile_steps="5", overhead_budget="off") as run:
        instrumentation.instrument()
        try:
            train_unmarked()
        finally:
            instrumentation.uninstrument()
    assert [5] == flagged(run)
    (event,) = profiles(run)
    assert 5 == event.step
    before, after = (record for _, records in run.log.steps.read() for record in records[5:7])
    between_ns = int(after["start_ns"]) - int(before["start_ns"]) - int(before["duration_ns"])
    assert between_ns >= 0.5 * event.attributes[names.PROFILE_COST] * 1e9, "the other half is starting it"


def train_unmarked():
    """A loop over a loader."""
    model = torch.nn.Linear(64, 64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for inputs in torch.utils.data.DataLoader(torch.randn(40, 64), batch_size=4):
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()


class Slow(torch.utils.data.Dataset):
    """Samples that take 10 ms each."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        time.sleep(0.01)
        return torch.zeros(8)


LARGE, LONG = torch.randn(1024, 1024), torch.randn(1 << 23)

WORK = {
    "input": lambda: torch.zeros(8) + 1,
    "compute": lambda: [LARGE @ LARGE for _ in range(3)],
    "memory": lambda: [LONG.mul_(1.0001) for _ in range(6)],
    "launch": lambda: [torch.zeros(2).add_(1) for _ in range(2000)],
}


@pytest.mark.parametrize("bound", WORK)
def test_what_bounds_a_step_here(bound, monkeypatch):
    """A slow data set, large matrices, large sums, and two thousand tiny operators: by real profiles on the CPU."""
    monkeypatch.setattr("otel_train.profiles.analysis.SMALL_S", 1e-4)  # on however busy a machine
    loader = otel_train.trace_dataloader(torch.utils.data.DataLoader(Slow(), batch_size=4))
    with record(profile_steps="5", overhead_budget="off") as run:
        for _ in loader if bound == "input" else range(8):
            with otel_train.trace_step():
                WORK[bound]()
            digested()
    (event,) = profiles(run)
    assert bound == event.attributes[names.PROFILE_BOUND], event.attributes[names.PROFILE_SHARES]


def test_a_rank_that_waits_for_another(tmp_path):
    """Two real ranks under gloo, of which one is late: what bounds the other's step is communication."""
    environ = {
        **os.environ, "OTEL_TRAIN_DIR": str(tmp_path), "OTEL_TRAIN_RUN_ID": "two", "OTEL_TRAIN_PROFILE_STEPS": "25",
        "OTEL_TRAIN_OVERHEAD_BUDGET": "off", "WORLD_SIZE": "2", "STORE": str(tmp_path / "store"),
    }  # fmt: skip
    command = [sys.executable, str(Path(__file__).parent / "late_rank.py")]
    ranks = [subprocess.Popen(command, env={**environ, "RANK": str(rank)}) for rank in range(2)]
    assert [0, 0] == [rank.wait(120) for rank in ranks]
    first, second = find_run(tmp_path, "two").ranks()
    (waiting,), (late,) = profiles_of(first), profiles_of(second)
    assert [25, 25] == [waiting.step, late.step]
    assert "communication" == waiting.event.attributes[names.PROFILE_BOUND]
    assert "communication" != late.event.attributes[names.PROFILE_BOUND]


def test_losses_are_the_same():
    """Bit for bit, profiled or not."""
    with record():
        plain = Training()
        plain.steps(12)
    with record(profile_every=3, overhead_budget="off"):
        profiled = Training()
        profiled.steps(12)
    assert plain.losses == profiled.losses


def test_the_trace_has_the_steps_phases(tmp_path, cli):
    """It is kept, packed, in the run's folder; the command shows its step, and gives all as JSON."""
    with otel_train.init(dir=tmp_path, profile_steps="3") as handle:
        training = Training()
        for _ in range(5):
            with otel_train.trace_step(), otel_train.trace_phase("forward"):
                training.model(training.inputs)
            digested()
    (profile,) = profiles_of(RankLog.open(handle.path))
    assert "step-00000003.json.gz" == profile.path.name
    shown = cli(["profile", "show", handle.id, "--dir", str(tmp_path)])
    assert "aten::addmm" in shown
    assert "What bounds this step" in shown
    content = json.loads(cli(["profile", "show", str(profile.path), "--json"]))
    assert pytest.approx(profile.event.duration_ns / 1e9, rel=1e-3) == content["window_s"]
    assert profile.event.attributes[names.PROFILE_BOUND] == content["bound"]


@pytest.fixture
def cli():
    """Runs a command in this process; returns what it printed."""
    from click.testing import CliRunner

    def run(arguments, code=0):
        result = CliRunner().invoke(group, arguments)
        assert code == result.exit_code, result.output
        return result.output

    return run


@pytest.mark.parametrize("cpus", [0, 1 << 20])
def test_in_a_process_or_on_a_thread(tmp_path, monkeypatch, cpus):
    """Where there are CPUs for it, another process reads the trace; the event is the same."""
    monkeypatch.setattr("otel_train.profiling.CPUS_FOR_A_PROCESS", cpus)
    with otel_train.init(dir=tmp_path, profile_steps="3", overhead_budget="off") as handle:
        training = Training()
        training.steps(5)
        assert (cpus == 0) == (active.session.profiling.digesting_ns > 100_000_000)  # Python's start, and numpy's
    (profile,) = profiles_of(RankLog.open(handle.path))
    assert profile.path is not None
    assert "aten::addmm" in {row.name for row in kept_rows(profile.event.attributes, names.PROFILE_OPERATORS)}


def test_a_process_that_cannot_be(tmp_path, monkeypatch, caplog):
    """A Python that is not there: the thread does it, and that is said."""
    monkeypatch.setattr("otel_train.profiling.CPUS_FOR_A_PROCESS", 0)
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with otel_train.init(dir=tmp_path, profile_steps="3", overhead_budget="off") as handle:
        Training().steps(5)
    assert 1 == len(profiles_of(RankLog.open(handle.path)))
    assert "profiles are read in the training's own process" in caplog.text


def test_no_profile_and_no_such_step(tmp_path, cli):
    """What there is, and how to get one, is said."""
    with otel_train.init(dir=tmp_path, profile_steps="3") as handle:
        Training().steps(5)
    assert "step 4 was not profiled; there is a trace of: 3" in cli(
        ["profile", "show", handle.id, "--step", "4", "--dir", str(tmp_path)], 1
    )
    with otel_train.init(dir=tmp_path, profile_every="off") as other:
        Training().steps(5)
    assert f"While it goes on: otel-train profile run {other.id}" in cli(
        ["profile", "show", other.id, "--dir", str(tmp_path)], 1
    )
    assert "only a run that goes on can be profiled" in cli(["profile", "run", other.id, "--dir", str(tmp_path)], 1)


def test_two_profiles_compared(tmp_path, cli):
    """By run and step, or by file."""
    with otel_train.init(dir=tmp_path, profile_steps="3,5", overhead_budget="off") as handle:
        Training().steps(7)
    shown = cli(["profile", "compare", f"{handle.id}:3", f"{handle.id}:5", "--dir", str(tmp_path), "--rows", "200"])
    assert "aten::addmm" in shown
    assert "before" in shown


def test_on_demand_from_another_process(tmp_path, cli):
    """The command asks, the run's keeper hears it, the training takes the step, the command shows it."""
    over = threading.Event()

    def train():
        training = Training()
        while not over.is_set():
            training.step()
            time.sleep(0.002)  # a step of a real training's length: the command asks for one five seconds ahead

    with otel_train.init(dir=tmp_path) as handle:
        thread = threading.Thread(target=train)
        thread.start()
        try:
            wait_until(lambda: len(RankLog.open(handle.path).steps.bounds()) and active.recorder.state.number > 5)
            shown = cli(["profile", "run", handle.id, "--dir", str(tmp_path), "--timeout", str(LONGEST_S)])
        finally:
            over.set()
            thread.join()
    assert "What bounds this step" in shown
    (profile,) = profiles_of(find_run(tmp_path, handle.id).ranks()[0])
    assert "requested" == profile.event.attributes[names.PROFILE_REASON]


def wait_until(condition):
    """Give up after a minute."""
    until = time.monotonic() + LONGEST_S
    while not condition():
        assert time.monotonic() < until
        threading.Event().wait(0.01)


def test_an_alert_on_step_time_takes_a_profile():
    """When it fires, once in ten minutes; not when it is over, nor for other rules; nor where that is turned off."""

    def alert(rule, state):
        attributes = {names.ALERT_RULE: rule, names.ALERT_STATE: state}
        active.session._write_event(Event(names.ALERT, 0, attributes=attributes))

    for on, expected in ((True, ["alert"]), (False, [])):
        with record(profile_on_alert=on, overhead_budget="off") as run:
            training = Training()
            training.steps(2)
            for rule, state in [("gpu_hot", "firing"), ("step_time", "resolved")]:
                alert(rule, state)
                training.steps(2)
            assert [] == flagged(run)
            alert("step_time", "firing")
            training.steps(2)
            alert("step_time", "firing")
            training.steps(2)
        assert expected == [event.attributes[names.PROFILE_REASON] for event in profiles(run)]


def test_profiles_become_rarer_where_they_cost_too_much():
    """By powers of two, so that ranks share steps. Without a budget they stay as they were asked for."""
    with record(profile_every=2, overhead_budget=0.01):
        training = Training()
        training.steps(12)
        every = active.session.profiling._schedule.every
    assert every > 2
    assert every & (every - 1) == 0
    with record(profile_every=2, overhead_budget="off"):
        Training().steps(12)
        assert 2 == active.session.profiling._schedule.every


def test_a_users_profiler_is_left_alone():
    """While one is prepared or at work none of ours begins; one of ours that is under way ends, and theirs sees all."""
    with record(profile_every=1, overhead_budget="off") as run:
        training = Training()
        training.steps(2)
        training.step()
        ours = len(flagged(run))
        digested()
        with torch.profiler.profile() as theirs:
            for _ in range(3):
                training.step()
        counts = {row.key: row.count for row in theirs.key_averages()}
        training.steps(2)
    assert 3 == counts["aten::addmm"]
    during = [step for step in flagged(run) if 4 <= step <= 5]
    assert [] == during
    assert ours >= 1
    assert max(flagged(run)) >= 6


def test_a_users_schedule_is_left_alone():
    """A profiler with a schedule, as Lightning and the Trainer have it: all its steps are there."""
    seen = []
    with record(profile_every=1, overhead_budget="off"):
        training = Training()
        schedule = torch.profiler.schedule(wait=2, warmup=1, active=2, repeat=2)
        with torch.profiler.profile(schedule=schedule, on_trace_ready=lambda p: seen.append(count_of(p))) as theirs:
            for _ in range(10):
                training.step()
                theirs.step()
    assert [2, 2] == seen


def count_of(profile):
    """How often the model ran."""
    return next(row.count for row in profile.key_averages() if row.key == "aten::addmm")


def test_an_evaluation_is_not_profiled():
    """One that comes before the chosen step: the profile is taken of a later one."""
    with record(profile_steps="3", overhead_budget="off") as run:
        training = Training()
        training.steps(3)
        with otel_train.trace_evaluation("validation"):
            training.model(training.inputs)
        training.steps(3)
    assert [4] == [event.step for event in profiles(run)]


def test_a_block():
    """``with profile(name)`` and ``@profile``: inside a step it is part of the step's trace."""

    @otel_train.profile
    def prepare():
        return torch.ones(64, 64) @ torch.ones(64, 64)

    with record() as run:
        prepare()
        digested()
        training = Training()
        with otel_train.trace_step(), otel_train.profile("half"):
            training.model(training.inputs)
        digested()
    first, second = profiles(run)
    assert ("block", None) == (first.attributes[names.PROFILE_REASON], first.step)
    assert first.attributes[names.PROFILE_NAME].endswith("prepare")
    assert ("half", 0) == (second.attributes[names.PROFILE_NAME], second.step)
    assert [0] == flagged(run)
    prepare()  # without a run


def test_nothing_stays_behind():
    """torch's profiler is whole again, and its log level is not ours to change."""
    before = dict(torch.autograd.profiler.profile.__dict__)
    with record(profile_every=2, overhead_budget="off"):
        Training().steps(5)
    after = dict(torch.autograd.profiler.profile.__dict__)
    assert before == after
    assert "KINETO_LOG_LEVEL" not in os.environ
    assert not torch.autograd._profiler_enabled()


def test_a_run_that_ends_inside_a_window():
    """The profiler is off afterwards, and nothing is told."""
    with record(profile_steps="2", overhead_budget="off") as run:
        Training().steps(2)
        assert torch.autograd._profiler_enabled()
    assert not torch.autograd._profiler_enabled()
    assert [] == profiles(run)


def test_spans_of_a_profile():
    """A child of its step in the step's trace, which is kept; operators are its events, numbers all of them."""
    from otel_train.export.trace_source import TraceSource

    with record(profile_steps="3", overhead_budget="off") as run:
        training = Training()
        with otel_train.trace_epoch(2):
            training.steps(5)
    spans = [span for batch in TraceSource(run.log, 1000, 100.0).batches({}, True) for span in batch.items]
    (profile,) = [span for span in spans if span.name == "dl.profile"]
    (step,) = [span for span in spans if span.ids == profile.parent]
    assert (3, "profiled") == (step.attributes[names.ITERATION], step.attributes[names.KEPT_BECAUSE])
    assert (step.start_ns, step.end_ns) == (profile.start_ns, profile.end_ns)
    shares = [attributes[names.OPERATOR_SHARE] for name, _, attributes in profile.events if name == "dl.operator"]
    assert pytest.approx(1.0, abs=0.02) == sum(shares)
    assert len(profile.events) <= 128
    assert all(
        isinstance(value, (int, float, str)) for _, _, attributes in profile.events for value in attributes.values()
    )
    assert names.PROFILE_OPERATORS not in profile.attributes
    classes = [value for key, value in profile.attributes.items() if key.startswith(f"{names.PROFILE_SHARES}.")]
    assert pytest.approx(1.0, abs=1e-4) == sum(classes)


def test_operators_as_spans():
    """The outermost ones, each under the phase that it began in and inside the profiled step, at its own time."""
    from otel_train.export.trace_source import TraceSource

    with record(profile_steps="3-4", profile_spans=True, overhead_budget="off") as run:
        training = Training()
        for _ in range(7):
            with otel_train.trace_step():
                with otel_train.trace_phase("forward"):
                    loss = training.model(training.inputs).square().mean()
                loss.backward()
        digested()
    spans = [span for batch in TraceSource(run.log, 1000, 100.0).batches({}, True) for span in batch.items]
    by_ids = {span.ids: span for span in spans}
    operators = [span for span in spans if not span.name.startswith("dl.")]
    assert {3, 4} == {span.attributes[names.ITERATION] for span in operators}
    parents = {span.name: by_ids[span.parent].name for span in operators}
    assert "dl.forward" == parents["aten::linear"]
    assert "dl.step" == parents["autograd::engine::evaluate_function: AddmmBackward0"]
    assert "aten::addmm" not in parents, "aten::linear calls it"
    for span in operators:
        step = by_ids[span.parent]
        assert step.start_ns - 1_000_000 <= span.start_ns < span.end_ns <= step.end_ns + 1_000_000 or (
            "dl.forward" == step.name
        )
    (profile,) = profiles(run)
    assert 0 == profile.attributes[names.PROFILE_SPANS_LEFT_OUT]


def test_operators_of_a_block_as_spans():
    """Under the block's own span."""
    from otel_train.export.trace_source import TraceSource

    with record(profile_spans=True) as run:
        with otel_train.trace_step(), otel_train.profile("products"):
            torch.ones(8, 8) @ torch.ones(8, 8)
        digested()
    spans = [span for batch in TraceSource(run.log, 1000, 100.0).batches({}, True) for span in batch.items]
    (product,) = [span for span in spans if span.name == "aten::matmul"]
    assert product.parent in {span.ids for span in spans if span.name in ("dl.step", "dl.profile")}


def test_shapes_where_asked():
    """As text, of the inputs that the operator spent most of its time on; nothing where they were not asked for."""
    for asked in (True, False):
        with record(profile_steps="3", profile_shapes=asked, overhead_budget="off") as run:
            Training().steps(5)
        rows = {row.name: row for row in kept_rows(profiles(run)[0].attributes, names.PROFILE_OPERATORS)}
        assert ("32x64 64x64" in (rows["aten::mm"].shapes or "")) is False or asked
        assert ("64 32x64 64x64" if asked else None) == rows["aten::addmm"].shapes


def test_wrong_settings():
    """Each is refused with what is allowed."""
    for setting, wrong, allowed in [
        ("profile_every", "often", "off, auto, or a whole number from 1"),
        ("profile_steps", "5-3", "step numbers and ranges of them: 100,200-203"),
        ("profile_epochs", "first", "whole numbers: 0,8"),
        ("profile_ranks", "x", "all, or whole numbers: 0,8"),
    ]:
        with pytest.raises(otel_train.SettingsError, match=allowed):
            otel_train.init(**{setting: wrong})


def test_ranks_take_the_same_steps():
    """Whatever each can afford: the steps of one that takes fewer are among the other's."""
    quick, slow = (Schedule(Settings(profile_every="auto")) for _ in range(2))
    slow.spread(cost_ns=20e6, step_ns=5e6)  # 0.5 % of 800 steps
    assert (128, 1024) == (quick.every, slow.every)
    chosen = [{step for step in range(5000) if each.wanted(step, 0, HOUR_NS)[0]} for each in (quick, slow)]
    assert chosen[1] < chosen[0]


def test_auto_earns_its_first_profile():
    """0.2 s of it are half a percent of 40 s of training; without a budget it is taken at once."""
    schedule, unbounded = (
        Schedule(Settings(profile_every="auto")),
        Schedule(Settings(profile_every="auto", overhead_budget=None)),
    )
    step_ns = 50_000_000
    assert 896 == next(step for step in range(1, 5000) if schedule.wanted(step, 0, step * step_ns)[0])
    assert 128 == next(step for step in range(1, 5000) if unbounded.wanted(step, 0, step * step_ns)[0])


def test_a_step_of_some_epochs():
    """The first after its warm-up, once in each epoch that is named."""
    schedule = Schedule(Settings(profile_epochs=(1, 2)))
    assert [10, 20] == [step for step in range(40) if schedule.wanted(step, step // 10, 0)[0]]
    assert schedule.is_over(40)
