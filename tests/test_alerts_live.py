"""Alerts of a run that goes on: its record, its notifications, its backend, and the command line."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from export_setup import SECOND, LogBuilder, exporter_of, run_of, sent
from otlp_receiver import OtlpReceiver

import otel_train
from otel_train import active, names
from otel_train import resource_names as rn
from otel_train.alerts import predicates
from otel_train.alerts.engine import Engine
from otel_train.alerts.measures import MEASURES
from otel_train.alerts.rules import Rule, built_in, rules_in_force
from otel_train.alerts.watch import Alerts, Claims
from otel_train.alerts.wording import condition
from otel_train.cli import group
from otel_train.errors import SettingsError
from otel_train.resource_names import series
from otel_train.testing import FakeClock, record

ROOT = Path(__file__).parent.parent
TEMPERATURE = series(rn.HW_TEMPERATURE, hw__id="GPU-1", hw__sensor_location="gpu", hw__type="gpu")


@pytest.fixture(autouse=True)
def no_predicates():
    """Rules in Python are the process's: a test leaves none behind."""
    yield
    predicates.forget()


def train(clock, seconds, step_s=0.25, loss=1.0):
    """Steps, and a look at the alerts every five seconds."""
    ticks = 0
    for number in range(int(seconds / step_s)):
        with otel_train.trace_step():
            clock.advance(step_s)
            otel_train.log(loss=loss)
        if (number + 1) * step_s // 5 > ticks:
            ticks += 1
            active.session.alerts.tick()


def alerts_of(run):
    return [
        (event.attributes[names.ALERT_RULE], event.attributes[names.ALERT_STATE])
        for event in run.events
        if event.kind == names.ALERT
    ]


def test_a_run_says_that_its_loss_is_no_number(caplog):
    """In its record, and on the terminal; and that it is over."""
    clock = FakeClock()
    with caplog.at_level(logging.INFO, "otel_train"), record(clock) as run:
        train(clock, 60)
        train(clock, 10, loss=float("nan"))
        train(clock, 120)
        assert {0} == set(active.session.alerts.active().values())
    assert [("loss_nonfinite", "firing"), ("loss_nonfinite", "resolved")] == alerts_of(run)
    lines = [entry.getMessage() for entry in caplog.records if entry.getMessage().startswith("alert ")]
    assert ["alert loss_nonfinite critical", "alert loss_nonfinite is over"] == [" ".join(line.split()[:4]).removesuffix(" (rank") for line in lines]  # noqa: E501  # fmt: skip
    assert "lower the learning rate" in lines[0]


def test_a_hang_is_seen_while_nothing_happens():
    """No step ends any more: the alert is there all the same."""
    clock = FakeClock()
    with record(clock) as run:
        train(clock, 120)
        for _ in range(30):
            clock.advance(5)
            active.session.alerts.tick()
    assert ("hang", "firing") in alerts_of(run)


def test_a_hang_in_the_first_step():
    """No record of a step is there yet, but the step is known to have begun; before it a script may load for hours."""
    clock = FakeClock()
    with record(clock) as run:
        look_for(clock, 7200)
        assert [] == alerts_of(run)
        with otel_train.trace_step():
            look_for(clock, 1795)
            assert [] == alerts_of(run)
            look_for(clock, 10)
            assert [("hang", "firing")] == alerts_of(run)


def look_for(clock, seconds):
    """Time passes without records, but for the alerts' look every five seconds."""
    for _ in range(seconds // 5):
        clock.advance(5)
        active.session.alerts.tick()


@pytest.mark.parametrize("scope", [otel_train.trace_evaluation, lambda: otel_train.trace_checkpoint("/tmp/none.pt")])
def test_a_long_evaluation_or_checkpoint_is_no_hang(scope):
    """It is known to go on, though the record has it only when it is over."""
    clock = FakeClock()
    with record(clock) as run:
        train(clock, 120)
        with scope():
            for _ in range(60):
                clock.advance(5)
                active.session.alerts.tick()
        train(clock, 60)
    assert [] == alerts_of(run)


def test_a_rule_in_python_watches_a_run():
    """It is asked with the figures of now; a figure that is missing is no alert, another failure is reported."""
    calls = []

    @otel_train.alert_rule("long_steps", for_s=10, severity="info", says="Steps are long.")
    def long_steps(measures):
        calls.append(measures.get("step.time"))
        return measures["step.time"] > 0.2 and measures["log.loss"] > 0

    clock = FakeClock()
    with record(clock) as run:
        train(clock, 60)
    assert [("long_steps", "firing")] == alerts_of(run)
    assert pytest.approx(0.25) == calls[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "two words"}, "allowed is a name of letters"),
        ({"name": "a", "severity": "loud"}, "allowed are info, warning, critical"),
        ({"name": "a", "for_s": -1}, "for_s is -1; allowed are seconds"),
    ],
)
def test_a_wrong_rule_in_python(arguments, message):
    """Refused where it is written."""
    with pytest.raises(SettingsError, match=message):
        otel_train.alert_rule(**arguments)


def test_a_wrong_file_stops_init(tmp_path):
    """Before the run begins, with the line."""
    path = tmp_path / "alerts.yaml"
    path.write_text("alerts:\n- {rule: x, measure: nothing, above: 1, says: x}\n")
    with pytest.raises(SettingsError, match=r"alerts.yaml, line 2: measure is 'nothing'"), record(alerts=path):
        pass
    assert active.session is None


def test_alerts_can_be_turned_off():
    """No duty, no metric."""
    with record(alerts="off") as run:
        active.session.alerts.tick()
        assert {} == active.session.alerts.active()
    health = [event for event, _ in run.log.events() if event.kind == names.HEALTH]
    assert all(names.ALERTS_ACTIVE not in event.attributes for event in health)


def test_one_rank_tells(tmp_path):
    """The first that fires claims the alert; when it is over it can be claimed anew; without a folder each tells."""
    first, second = Claims(tmp_path / "alerts"), Claims(tmp_path / "alerts")
    assert [True, False] == [first.take("gpu_hot", "GPU/1"), second.take("gpu_hot", "GPU/1")]
    assert second.take("gpu_hot", "GPU/2")
    first.release("gpu_hot", "GPU/1")
    assert second.take("gpu_hot", "GPU/1")
    assert Claims(None).take("gpu_hot", "")


def test_a_claim_of_a_dead_rank(tmp_path):
    """After ten minutes without a renewal nobody is kept from telling by it."""
    Claims(tmp_path).take("hang", "")
    os.utime(tmp_path / "hang", (0, 0))
    assert Claims(tmp_path).take("hang", "")


def test_a_rank_tells_when_the_first_is_over_it(tmp_path):
    """Two ranks fire, one tells; when it is over there, the other, on which it still fires, tells."""
    told, ranks = [], []
    for rank in range(2):
        clock = FakeClock()
        watch = FiringWatch()
        ranks.append((clock, watch, Alerts(
            watch, clock, lambda event: None, lambda note: told.append((note.rank, note.resolved)),
            Claims(tmp_path / "alerts"), "run", rank,
        )))  # fmt: skip
    for second in range(0, 400, 5):
        for rank, (clock, watch, alerts) in enumerate(ranks):
            watch.bad = second < 100 or rank == 1
            clock.advance(5)
            alerts.tick()
    assert [(0, False), (0, True), (1, False)] == told


class FiringWatch:
    """A watch of one rule, bad when it is told to be."""

    def __init__(self):
        self.bad = True
        self.engine = Engine([Rule("hot", "gpu.temperature", above=80)])
        self.window = type("Window", (), {"step": 7})

    def tick(self, now_ns):
        return self.engine.evaluate(now_ns / 1e9, lambda rule: {"": 90.0 if self.bad else 60.0}, quiet=False)


def test_the_last_look(caplog):
    """What happened since the last one may be why the run is over: it is judged before the run is closed."""
    with record() as run:
        with otel_train.trace_step():
            otel_train.log(loss=1.0)
        active.session.alerts.tick()
        with otel_train.trace_step():
            otel_train.log(loss=float("nan"))
    fired = [event.attributes[names.ALERT_RULE] for event in run.events if event.kind == names.ALERT]
    assert ["loss_nonfinite"] == fired


def test_a_rule_in_python_takes_the_place_of_a_built_in_one():
    """By its name: one state, one judge."""
    otel_train.alert_rule("step_time", says="mine")(lambda values: False)
    (rule,) = [rule for rule in rules_in_force(None, predicates.predicates()) if rule.name == "step_time"]
    assert rule.predicate is not None


def test_a_command_is_told(tmp_path):
    """A real run in a process of its own, whose loss is no number: the command gets what the terminal shows."""
    told = tmp_path / "told.json"
    program = (
        "import otel_train, os, time\n"
        "from otel_train import active\n"
        "with otel_train.init():\n"
        "    for _ in range(30):\n"
        "        with otel_train.trace_step(): otel_train.log(loss=float('nan'))\n"
        "    active.session.alerts.tick()\n"
        f"    while not os.path.exists({str(told)!r}) or not os.path.getsize({str(told)!r}): time.sleep(0.01)\n"
    )
    environ = {**os.environ, "OTEL_TRAIN_DIR": str(tmp_path / "runs"), "PYTHONPATH": str(ROOT),
               "OTEL_TRAIN_ALERT_COMMAND": f"tee {told}"}  # fmt: skip
    ended = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=120)
    assert 0 == ended.returncode, ended.stderr
    content = json.loads(told.read_text())
    assert ("loss_nonfinite", "critical") == (content["rule"], content["severity"])
    assert "alert loss_nonfinite critical" in ended.stderr


# -- a backend -----------------------------------------------------------------------------------------------------


def alerting(tmp_path):
    """A run of a minute with an alert in its middle."""
    builder = run_of(LogBuilder(tmp_path), 30, SECOND)
    attributes = {names.ALERT_RULE: "gpu_hot", names.ALERT_SEVERITY: "critical", names.ALERT_SUMMARY: "It is hot."}
    for state, active_count in ((names.FIRING, 1), (names.RESOLVED, 0)):
        told = {**attributes, names.ALERT_STATE: state, names.ALERTS_ACTIVE: active_count}
        builder.event(names.ALERT, builder.end_ns, step=29, attributes=told)
        run_of(builder, 15, SECOND)
    return builder


def test_an_alert_is_a_log_event_a_span_event_and_a_metric(tmp_path):
    """With its rule as an attribute, its own severity and sentence; on the interval that it happened in."""
    with sent(alerting(tmp_path).log) as receiver:
        logs = [log for log in receiver.logs if log.event_name == "otel_train.alert"]
        spans = [span for span in receiver.spans if span.name == "dl.interval"]
        points = [point.as_double for point in receiver.points("otel_train.alert.active")]
        metric = next(metric for metric in receiver.metrics if metric.name == "otel_train.alert.active")
    assert ["ERROR", "INFO"] == [log.severity_text for log in logs]
    assert ["It is hot."] * 2 == [log.body.string_value for log in logs]
    assert "gpu_hot" == {pair.key: pair.value.string_value for pair in logs[0].attributes}[names.ALERT_RULE]
    assert ["otel_train.alert"] * 2 == [event.name for span in spans for event in span.events]
    assert [1.0, 0.0] == points
    assert ("{alert}", False) == (metric.unit, metric.sum.is_monotonic)


def test_alerts_wait_for_their_span_over_a_restart(tmp_path):
    """An exporter that ends in the middle of an interval leaves them to the next one."""
    builder = alerting(tmp_path)
    with OtlpReceiver() as receiver:
        for final in (False, True):
            exporter = exporter_of(builder.log, receiver)
            assert exporter.drain(final=final)
            exporter.release()
        spans = [span for span in receiver.spans if span.name == "dl.interval"]
    assert 2 == sum(len(span.events) for span in spans)


# -- the command line ----------------------------------------------------------------------------------------------


def run_command(*arguments, **environ):
    return CliRunner().invoke(group, ["alerts", *map(str, arguments)], env={"OTEL_TRAIN_ALERTS": "", **environ})


def test_the_list_shows_own_rules(tmp_path):
    """Every rule with its condition; those of a file marked."""
    path = tmp_path / "alerts.yaml"
    path.write_text("alerts:\n- {rule: slow, measure: step.rate, below: 5, clear: 6, says: x, for: 2m}\n")
    shown = run_command("list", "--rules", path)
    assert 0 == shown.exit_code
    (line,) = [line for line in shown.output.splitlines() if line.startswith("slow ")]
    assert "step.rate below 5 a second for 2 min; over at 6 a second  (own)" in line
    assert "gpu_hot" in shown.output


def test_a_trial_goes_through_every_channel(tmp_path):
    """A command, and a backend: each says whether it was taken, and one that fails is exit code 1."""
    told = tmp_path / "told.json"
    with OtlpReceiver() as receiver:
        environ = {"OTEL_TRAIN_ALERT_COMMAND": f"tee {told}", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        shown = run_command("test", "gpu_hot", **environ)
        assert ["otel_train.alert"] == [log.event_name for log in receiver.logs]
    assert 0 == shown.exit_code, shown.output
    assert "gpu_hot" == json.loads(told.read_text())["rule"]
    assert 2 == shown.output.count(": taken")
    failing = run_command("test", "gpu_hot", OTEL_TRAIN_ALERT_COMMAND="false")
    assert (1, True) == (failing.exit_code, "command: failed" in failing.output)
    unknown = run_command("test", "gpu_cold")
    assert (1, True) == (
        unknown.exit_code,
        "there is no rule 'gpu_cold'; there are allocator_retries" in unknown.output,
    )


def test_replay_says_when(tmp_path):
    """After how long, at which step, what."""
    builder = LogBuilder(tmp_path)
    for second in range(0, 300, 5):
        run_of(builder, 5, SECOND)
        builder.resources(builder.end_ns, {TEMPERATURE: 90 if 100 < second < 200 else 60})
    shown = run_command("replay", "run-a", "--dir", tmp_path)
    lines = [line.strip() for line in shown.output.splitlines()]
    assert "Run run-a" == lines[0]
    assert any(line.startswith("rank 0, after 2 min 50 s, step ") and "gpu_hot warning. GPU-1 is at 90 °C" in line for line in lines), lines  # noqa: E501  # fmt: skip
    assert any("gpu_hot over" in line for line in lines)


def test_the_report_names_what_fired(tmp_path):
    """How often, for how long, what it said; what is not over at the end, too."""
    builder = alerting(tmp_path)
    attributes = {names.ALERT_RULE: "hang", names.ALERT_STATE: names.FIRING, names.ALERT_SUMMARY: "Nothing happens."}
    builder.event(names.ALERT, builder.end_ns, attributes=attributes)
    shown = CliRunner().invoke(group, ["report", "run-a", "--dir", str(tmp_path)])
    lines = [line.strip() for line in shown.output.splitlines()]
    assert "gpu_hot, 15.0 s in all: It is hot." in lines
    assert "hang, not over at the end: Nothing happens." in lines
    told = json.loads(CliRunner().invoke(group, ["report", "run-a", "--json", "--dir", str(tmp_path)]).output)
    hot = next(found for key, found in _all(told, "alerts") if key == "gpu_hot")
    assert (1, 15.0, 0) == (hot["count"], hot["time_s"], hot["firing"])


def _all(content, key):
    """Items of every mapping of that name, however deep."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from value.items() if name == key else _all(value, key)


def test_the_document_has_every_rule_and_measure():
    """As they are in the code."""
    text = (ROOT / "docs" / "alerts.md").read_text()
    for rule in built_in().values():
        assert f"| `{rule.name}` | {condition(rule)} | {rule.severity} |" in text
    for name, measure in MEASURES.items():
        assert f"| `{name}` | {measure.unit} | {measure.meaning} |" in text
