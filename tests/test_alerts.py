"""Alerts: each built-in rule on its cause and on a healthy run, the engine's times, rules of the user's own."""

import json
import random
from itertools import pairwise
from typing import ClassVar

import pytest
from alert_causes import CAUSES, GIB, TEMPERATURE, UTILIZATION, Run, saves, workers
from hypothesis import given
from hypothesis import strategies as st
from log_builder import SECOND

from otel_train import names
from otel_train import resource_names as rn
from otel_train.alerts.baseline import LONGEST, NEW_NORMAL, Baseline, slope, staircase, weighted_median
from otel_train.alerts.engine import QUIET_AGAIN_S, Engine
from otel_train.alerts.measures import MEASURES, is_measure, metrics_behind, values_of
from otel_train.alerts.replay import replay
from otel_train.alerts.rules import AlertRuleError, Rule, built_in, rules_in_force
from otel_train.alerts.watch import Figures, Watch, event_of, notification_of
from otel_train.alerts.window import Window
from otel_train.alerts.wording import duration, figure, say, size
from otel_train.resource_names import series


@pytest.fixture
def run(tmp_path):
    """A run to write down."""
    return Run(tmp_path)


def test_a_healthy_run_says_nothing(run):
    """Twenty minutes with evaluations, checkpoints, an epoch's end and steps that vary."""
    for minute in range(20):
        run.go(50, step_ms=190 + 20 * (minute % 3))
        if minute % 5 == 4:
            start_ns = run.builder.end_ns
            run.rest(8)
            run.builder.event(names.CHECKPOINT, start_ns, 8 * SECOND, attributes={names.CHECKPOINT_KIND: "save"})
            start_ns = run.builder.end_ns
            run.rest(30, rows={UTILIZATION: 0.2})
            run.builder.event(names.EVALUATION_KIND, start_ns, 30 * SECOND)
    assert [] == run.fired()


@pytest.mark.parametrize("rule", sorted(built_in()))
def test_each_rule_fires_on_its_cause(run, rule):
    """Once, and is over once the cause is; and no other rule takes it for its own, but where one thing is two."""
    CAUSES[rule](run.go(300))
    assert [(rule, "fires"), (rule, "over")] == run.fired(rule)
    others = {name for name, _ in run.fired()} - {rule}
    assert others <= ALSO.get(rule, set())


ALSO = {
    "host_memory_creep": {"loss_flat"},
    "filesystem_filling": {"filesystem_full", "loss_flat"},
    "step_time": {"throughput"},
    "hang": {"throughput", "gpu_idle"},
    "checkpoint_slow": set(),
    "loss_flat": set(),
    "loss_exploding": set(),
}
"""What else a cause may be heard of by."""


def test_every_rule_has_its_cause():
    """A rule that no test sets off would be a claim."""
    assert set(built_in()) == set(CAUSES)


def test_an_evaluation_is_no_hang_and_no_slow_step(run):
    """Steps of an evaluation are nothing to a training's rules; while it goes on, nothing is missing."""
    run.go(300).go(120, step_ms=900, evaluation=True).go(120)
    assert [] == run.fired("step_time", "hang", "throughput")


def test_saves_of_the_best_model_are_never_overdue(run):
    """They come when the model gets better, and cease."""
    saves(run.go(300), 30, 30, 60, 30, 200, 100)
    assert [] == run.go(900).fired("checkpoint_overdue")


def test_what_is_slow_does_not_become_usual(run):
    """An hour of slow steps is still slow; later on, that is how the run is."""
    run.go(600).go(3500, step_ms=400)
    assert [("step_time", "fires")] == run.fired("step_time")
    run.go(800, step_ms=400)
    assert [("step_time", "fires"), ("step_time", "over")] == run.fired("step_time")


class AskedWindow(Window):
    """Notes which resource metrics are asked for."""

    asked: ClassVar[set[str]] = set()

    def series(self, name):
        self.asked.add(name)
        return super().series(name)

    def coarse(self, name):
        self.asked.add(name)
        return super().coarse(name)


@pytest.mark.parametrize("without", [(), (rn.CGROUP_MEMORY_LIMIT, rn.CGROUP_MEMORY_UTILIZATION)])
def test_a_measure_says_which_metrics_it_needs(run, without):
    """The others are not kept: a measure that left one out would be silent for ever."""
    for name in without:
        del run.rows[name, ()]
    workers(run.go(60)).go(30)
    window = AskedWindow(run.builder.log)
    window.advance(run.builder.end_ns - 20 * SECOND)
    window.advance(run.builder.end_ns)
    for name in MEASURES:
        window.asked.clear()
        values_of(name, window)
        assert set() == window.asked - set(metrics_behind(name)), name


def test_only_what_rules_need_is_kept(run):
    """Hundreds of columns that no rule is about cost no memory; a rule in Python may ask for any."""
    run.go(10)
    needy = Rule("python", "", above=0.5, predicate=lambda measures: False)
    for rules, expected in (([built_in()["gpu_hot"]], {TEMPERATURE}), ([needy], set(run.rows))):
        watch = Watch(run.builder.log, rules)
        watch.tick(run.builder.end_ns)
        kept = {key for name, _ in run.rows for key in watch.window.series(name)}
        assert expected == kept


def test_a_series_that_ended_is_forgotten(run):
    """Half an hour after its last point: mounts and interfaces come and go for weeks."""
    gone = series(rn.FILESYSTEM_UTILIZATION, system__filesystem__mountpoint="/gone")
    run.go(10, rows={gone: 0.5}).rest(1790)
    window = Window(run.builder.log)
    window.advance(run.builder.end_ns)
    assert gone in window.series(rn.FILESYSTEM_UTILIZATION)
    run.rest(30)
    window.advance(run.builder.end_ns)
    assert gone not in window.series(rn.FILESYSTEM_UTILIZATION)


def test_short_epochs_are_judged(run):
    """Epochs of eight seconds are no reason to be silent: slow steps and a hang are seen."""
    for slow in [1] * 40 + [5] * 30:
        start_ns = run.builder.end_ns
        run.go(8, step_ms=200 * slow)
        run.builder.event(names.EPOCH, start_ns, run.builder.end_ns - start_ns)
    run.rest(300)
    assert [("step_time", "fires"), ("hang", "fires")] == run.fired("step_time", "hang")


def test_epochs_of_a_few_seconds_are_judged(run):
    """Where there is one at every tick, they are the run's usual way."""
    for slow in [1] * 100 + [5] * 60:
        start_ns = run.builder.end_ns
        run.go(3, step_ms=200 * slow)
        run.builder.event(names.EPOCH, start_ns, run.builder.end_ns - start_ns)
    assert [("step_time", "fires")] == run.fired("step_time")


def test_a_hang_where_no_tick_is_free_of_evaluations(run):
    """Four seconds of training, eight of evaluation: what a step takes is known all the same."""
    for _ in range(50):
        run.go(4).go(8, evaluation=True)
    run.rest(120)
    assert [("hang", "fires")] == run.fired("hang")


def test_a_hang_inside_a_checkpoint(run):
    """Half an hour is longer than any checkpoint of this run: that is no checkpoint any more."""
    run.go(300)
    watch = Watch(run.builder.log, [built_in()["hang"]], lambda: True)
    end_ns = run.builder.end_ns
    found = [(second, change.value) for second in range(5, 3000, 5) for change in watch.tick(end_ns + second * SECOND)]
    assert [(1805, pytest.approx(1805, abs=1))] == found


def test_a_hang_in_the_first_steps(run):
    """With one step nothing is usual yet: half an hour is a hang. Without any the script may load for as long."""
    run.go(0.2).rest(1700)
    assert [] == run.fired("hang")
    run.rest(200)
    assert [("hang", "fires")] == run.fired("hang")


def test_pauses_that_the_run_comes_back_from(run):
    """Rollouts of 100 s between steps are told once; what is twice as long is a hang again."""
    for _ in range(6):
        run.go(60).rest(100)
    assert [("hang", "fires"), ("hang", "over")] == run.fired("hang")
    run.go(60).rest(400)
    assert [("hang", "fires"), ("hang", "over"), ("hang", "fires")] == run.fired("hang")


def test_a_replay_knows_when_a_checkpoint_went_on(run):
    """As a run that goes on does: two minutes of it are no hang."""
    run.go(300)
    start_ns = run.builder.end_ns
    run.rest(120)
    run.builder.event(names.CHECKPOINT, start_ns, 120 * SECOND, attributes={names.CHECKPOINT_KIND: "save"})
    run.go(60)
    assert [] == run.fired("hang")


@pytest.mark.parametrize("thread", [None, "pt_autograd_0"])
def test_a_replay_knows_when_a_compilation_went_on(run, thread):
    """That of the first backward is on autograd's thread, and the training waits for it."""
    run.go(300)
    start_ns = run.builder.end_ns
    run.rest(120)
    run.builder.event(names.COMPILATION, start_ns, 120 * SECOND, thread=thread)
    run.go(60)
    assert [] == run.fired("hang")


def test_a_disk_that_checkpoints_fill(run):
    """By a piece every fifteen minutes: hours before it is full."""
    usage = series(rn.FILESYSTEM_USAGE, system__filesystem__mountpoint="/data")
    run.go(8000, step_ms=1000, rows={usage: lambda second: (500 + 50 * (second // 900)) * GIB})
    assert [("filesystem_filling", "fires")] == run.fired("filesystem_filling")


def test_host_memory_that_workers_fill(run):
    """Without a limit of a container: by what the host has left, whoever takes it."""
    for key in [key for key in run.rows if key[0].startswith("otel_train.cgroup.memory")]:
        run.rows.pop(key)
    run.go(1500, step_ms=1000, rows={(rn.MEMORY_AVAILABLE, ()): lambda second: (300 - second / 12) * GIB})
    assert [("host_memory_creep", "fires")] == run.fired("host_memory_creep")


def test_checkpoints_of_two_kinds(run):
    """A small file and a large one each time: the large one is not slow."""
    for number in range(8):
        for name, took in (("model", 3), ("optimizer", 12)):
            start_ns = run.builder.end_ns
            run.rest(took)
            told = {names.CHECKPOINT_KIND: "save", names.CHECKPOINT_PATH: f"/c/{name}-{number}.pt"}
            run.builder.event(names.CHECKPOINT, start_ns, took * SECOND, attributes=told)
        run.go(120)
    assert [] == run.fired("checkpoint_slow")


def test_a_loss_around_zero(run):
    """Several times a median that is next to nothing is no explosion."""
    draw = random.Random(1)
    run.go(1800, step_ms=1000, loss=lambda step: draw.gauss(0, 0.01))
    assert [] == run.fired("loss_exploding")


# -- the engine ----------------------------------------------------------------------------------------------------

HOT = Rule("hot", "gpu.temperature", above=80, for_s=20, clear=75, says="{value}")


def judge(rule, values, every_s=5.0):
    """When a rule fires and is over, for a value a tick."""
    engine = Engine([rule])
    found = []
    for tick, value in enumerate(values):
        given = {} if value is None else {"": value}
        found += [(tick * every_s, change.resolved, change.tell) for change in engine.evaluate(
            tick * every_s, lambda _, given=given: given, quiet=False)]  # fmt: skip
    return found


def test_a_condition_has_to_hold():
    """For its whole time, without a gap; it is over when it is good for as long, below the value that clears it."""
    assert [] == judge(HOT, [85] * 4 + [70] + [85] * 4)
    assert [(20, False, True)] == judge(HOT, [85] * 10 + [77] * 10)
    assert [(20, False, True), (70, True, True)] == judge(HOT, [85] * 10 + [70] * 10)


def test_what_is_missing_is_neither():
    """No value: a firing rule goes on, a pending one has to begin anew after two minutes."""
    assert [(20, False, True)] == judge(HOT, [85] * 5 + [None] * 50)
    assert [] == judge(HOT, [85] * 2 + [None] * 30 + [85] * 3)


def test_what_flaps_is_told_once():
    """Recorded each time; somebody is told once in a quarter of an hour, and of its end as often."""
    found = judge(HOT, ([85] * 8 + [70] * 8) * 20)
    told = [time for time, resolved, tell in found if tell and not resolved]
    assert len([1 for _, resolved, _ in found if not resolved]) == 20
    assert all(later - before >= QUIET_AGAIN_S for before, later in pairwise(told))
    assert len(told) == len([1 for _, resolved, tell in found if tell and resolved])


@given(st.lists(st.one_of(st.none(), st.floats(0, 120)), max_size=80))
def test_firing_and_over_take_turns(values):
    """Whatever the values."""
    resolved = [resolved for _, resolved, _ in judge(HOT, values)]
    assert resolved == [bool(index % 2) for index in range(len(resolved))]


def test_what_comes_back_to_stay_is_told():
    """Within the quarter of an hour nobody is told that it is back; after it they are, if it is still so."""
    engine, told = Engine([HOT]), []
    for tick in range(400):
        value = 70 if 8 <= tick < 20 else 85
        told += [
            (tick * 5, change.resolved, change.again)
            for change in engine.evaluate(tick * 5.0, lambda _, value=value: {"": value}, quiet=False)
            if change.tell
        ]
    assert [(20, False, False), (60, True, False), (20 + QUIET_AGAIN_S, False, True)] == told


def test_each_thing_by_itself():
    """Two GPUs are two alerts."""
    engine = Engine([Rule("hot", "gpu.temperature", above=80)])
    changes = engine.evaluate(0.0, lambda rule: {"GPU-1": 90, "GPU-2": 70}, quiet=False)
    changes += engine.evaluate(5.0, lambda rule: {"GPU-1": 90, "GPU-2": 91}, quiet=False)
    assert ["GPU-1", "GPU-2"] == [change.label for change in changes]


# -- statistics ----------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(1, 5)), min_size=1, max_size=30))
def test_weighted_median(pairs):
    """As many of the repeated values lie below it as above."""
    repeated = sorted(value for value, weight in pairs for _ in range(weight))
    assert repeated[(len(repeated) - 1) // 2] == weighted_median(pairs)


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_slope_of_a_line(rise, start):
    """One value in five may be anything."""
    points = [(float(t), start + rise * t if t % 5 else 1e9) for t in range(60)]
    found = slope(points)
    assert pytest.approx(rise, abs=1e-3) == found[0] or abs(found[0] - rise) < 0.2 * abs(rise) + 1


def test_a_baseline_follows_quickly_what_is_better():
    """Cold caches: five minutes of something better are the usual; of a rate, better is more."""
    for higher, first, then in ((False, 4.0, 1.0), (True, 1.0, 4.0)):
        baseline = Baseline(higher)
        for value in [first] * 100 + [then] * 60:
            baseline.learn(value)
        assert then == baseline.usual


@given(st.lists(st.floats(0, 100), min_size=2, max_size=30))
def test_a_staircase_never_falls(heights):
    """Its pace is that from the first to the last; one that falls by as much as it rises is none."""
    points = [(60.0 * place, height) for place, height in enumerate(heights)]
    pace = staircase(points)
    if pace is not None:
        assert pytest.approx((heights[-1] - heights[0]) / points[-1][0]) == pace
    assert staircase([*points, (1e6, -1000.0)]) is None
    rising = [(60.0 * place, 10.0 * (place // 5)) for place in range(20)]
    assert pytest.approx(30 / 1140) == staircase(rising)


def test_a_baseline_learns_slowly_from_what_is_off():
    """An hour of it at once becomes usual; less does not."""
    baseline = Baseline()
    for _ in range(LONGEST):
        baseline.learn(1.0)
    for _ in range(NEW_NORMAL - 1):
        baseline.learn(3.0)
    assert 1.0 == baseline.usual
    baseline.learn(3.0)
    assert 3.0 == baseline.usual


# -- rules of the user's own ---------------------------------------------------------------------------------------


def rules_of(tmp_path, text):
    path = tmp_path / "alerts.yaml"
    path.write_text(text)
    return {rule.name: rule for rule in rules_in_force(path)}


def test_rules_of_a_file(tmp_path):
    """A new one, a built-in one changed, one disabled; percentages and times as people write them."""
    rules = rules_of(tmp_path, """
alerts:
  - rule: slow_epoch
    measure: step.rate
    below: 12
    clear: 13.5
    for: 2m
    severity: critical
    says: "{value} samples a second"
  - rule: gpu_idle
    below: 20%
  - rule: loss_flat
    disabled: true
  - {rule: fan, measure: "hw.temperature{hw.sensor_location=memory}", above: 95, says: "hot", for: 90}
""")  # fmt: skip
    slow = rules["slow_epoch"]
    assert (12, 13.5, 120, "critical") == (slow.below, slow.clear, slow.for_s, slow.severity)
    assert (0.2, None, 120) == (rules["gpu_idle"].below, rules["gpu_idle"].clear, rules["gpu_idle"].for_s)
    assert built_in()["gpu_idle"].do == rules["gpu_idle"].do
    assert "loss_flat" not in rules
    assert 90 == rules["fan"].for_s
    assert set(built_in()) - {"loss_flat"} <= set(rules)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{rule: a, measure: step.tim, above: 1, says: x}", "line 3: measure is 'step.tim'; allowed are .*step.time"),
        ("{rule: a, measure: step.time, says: x}", "line 3: the rule 'a' needs either above or below"),
        ("{rule: a, measure: step.time, above: 1, below: 2, says: x}", "needs either above or below"),
        ("{rule: a, measure: step.time, above: much, says: x}", "above is 'much'; allowed is a number"),
        ("{rule: a, measure: step.time, above: .nan, says: x}", "above is nan; allowed is a number"),
        ("{rule: a, measure: step.time, above: 1, clear: 2, says: x}", "clear is 2; allowed is at most"),
        ("{rule: a, measure: step.time, above: 1, for: soon, says: x}", "for is 'soon'; allowed is a time: 30s"),
        ("{rule: a, measure: step.time, above: 1, severity: bad, says: x}", "allowed are info, warning, critical"),
        ("{rule: a, measure: step.time, above: 1, says: '{what}'}", "says has {what}; allowed are {value}"),
        ("{rule: a, measure: step.time, above: 1}", "has no says"),
        ("{rule: a, measure: gpu.utilization, above: 95, says: x}", "above is 95, but gpu.utilization is a part of 1"),
        (
            "{rule: a, measure: 'hw.temperature{hw.sensor_locaton=memory}', above: 9, says: x}",
            "line 3: measure has the attribute 'hw.sensor_locaton'; allowed for hw.temperature are hw.sensor_location",
        ),
        (
            "{rule: a, measure: 'system.memory.limit{state=used}', above: 9, says: x}",
            "'state'; allowed for system.memory.limit are none",
        ),
        ("{rule: host_memory, above: 95}", "allowed is 0 to 1, or a percentage: 95%"),
        (f"{{rule: a, measure: step.time, above: 1{'0' * 400}, says: x}}", "allowed is a number"),
        ("{rule: a b, measure: step.time, above: 1, says: x}", "allowed is a name of letters"),
        ("{rule: a, measur: step.time}", "line 3: got 'measur'; allowed are rule, measure"),
        ("{rule: a, measure: step.time, above: 1, above: 2, says: x}", "line 3: 'above' is given twice"),
        ("{rule: nobody, disabled: true}", "there is no rule 'nobody' to disable; there are .*gpu_hot"),
        ("step.time > 3", "line 3: got 'step.time > 3'; allowed is a mapping"),
    ],
)
def test_a_wrong_rule_is_refused_with_its_line(tmp_path, entry, message):
    """What was got, what is allowed, and where."""
    with pytest.raises(AlertRuleError, match=message):
        rules_of(tmp_path, f"alerts:\n  - {{rule: gpu_idle, below: 10%}}\n  - {entry}\n")


@pytest.mark.parametrize("text", ["[]", "alert: []", "alerts: {}", "alerts: []\nother: 1", "a: [", "just text"])
def test_a_file_that_holds_no_rules(tmp_path, text):
    """Another shape is refused, a file that is missing too."""
    with pytest.raises(AlertRuleError, match=r"alerts\.yaml"):
        rules_of(tmp_path, text)
    with pytest.raises(AlertRuleError, match="cannot be read"):
        rules_in_force(tmp_path / "nowhere.yaml")


def test_the_same_rule_twice(tmp_path):
    """Said with the line of the first."""
    with pytest.raises(AlertRuleError, match="line 3: the rule 'gpu_hot' is there already, in line 2"):
        rules_of(tmp_path, "alerts:\n- {rule: gpu_hot, above: 90}\n- {rule: gpu_hot, above: 91}\n")


@pytest.mark.parametrize("name", ["log.", "hw.power{", "power", "", "dl.step.duration"])
def test_what_is_no_measure(name):
    """A name that nothing gives a value is refused at the start, not silent for ever."""
    assert not is_measure(name)


def test_measures_by_name(run):
    """Figures, resource metrics with and without attributes, and logged values."""
    run.go(200)
    window = Window(run.builder.log)
    for second in range(5, 200, 5):
        window.advance(second * SECOND)
    figures = Figures(window)
    assert pytest.approx(0.2) == figures["step.time"]
    assert pytest.approx(0.05, rel=0.01) == figures["data_wait.share"]
    assert 60 == figures["hw.temperature{hw.sensor_location=gpu}"]
    assert 60 == figures["gpu.temperature"]
    assert 0 < figures["log.loss"] < 2
    assert "log.accuracy" not in figures
    assert figures.get("checkpoint.age") is None
    assert set(figures.keys()) <= set(MEASURES)


def test_a_rule_in_python(run):
    """Its function gets all figures; one that fails is reported, and fires nothing."""
    both = Rule(
        "both", "", above=0.5, says="both", predicate=lambda m: m["gpu.temperature"] > 50 and m["step.time"] > 0.1
    )
    run.go(60)
    assert ["both"] == [each.change.rule.name for each in replay(run.builder.log, [both])]


# -- words ---------------------------------------------------------------------------------------------------------


def test_words():
    """Figures with units, a label that is empty leaves no gap."""
    rule = built_in()["gpu_idle"]
    assert "The GPU has been busy 31 % of the time for 2 min, less than 50 %." == say(rule.says, rule, "", 0.31)
    assert "Steps take 1.8 times as long as is usual for this run." == say(
        built_in()["step_time"].says, built_in()["step_time"], "", 1.8
    )
    assert ("82 °C", "93 %", "2 h 5 min") == (
        figure(82, "gpu.temperature"), figure(0.93, "gpu.memory.utilization"), figure(7500, "host.memory.time_left"),
    )  # fmt: skip
    assert ["12 ms", "1.5 s", "1 min 30 s", "1 h", "2 d 1 h"] == [
        duration(seconds) for seconds in (0.012, 1.5, 90, 3600, 176400)
    ]
    assert ["512 B", "1.5 KiB", "3 GiB"] == [size(number) for number in (512, 1536, 3 * GIB)]


def test_an_alert_is_an_event(run):
    """With all that a backend, a report or a person wants of it."""
    CAUSES["gpu_hot"](run.go(300))
    first, last = replay(run.builder.log, [built_in()["gpu_hot"]])
    event = event_of(first.change, first.time_ns, first.step)
    assert names.ALERT == event.kind
    attributes = event.attributes
    assert ("gpu_hot", "firing", "warning", "GPU-1") == tuple(
        attributes[key] for key in (names.ALERT_RULE, names.ALERT_STATE, names.ALERT_SEVERITY, names.ALERT_LABEL)
    )
    assert (86, 80) == (attributes[names.ALERT_VALUE], attributes[names.ALERT_THRESHOLD])
    assert "GPU-1 is at 86 °C." == attributes[names.ALERT_SUMMARY]
    json.dumps(attributes)
    over = event_of(last.change, last.time_ns, last.step)
    assert "resolved" == over.attributes[names.ALERT_STATE]
    told = notification_of(first.change, "run-a", 3, 12, 1.0)
    assert ("gpu_hot", False, 3, 86) == (told.rule, told.resolved, told.rank, told.value)
