"""Requirements: quantities, conditions, files of them, and what they say of a run."""

import contextlib
import itertools
import socket
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_builder import MS, SECOND, LogBuilder
from report_run import build_run

import otel_train
from otel_train import active, names
from otel_train.alerts.rules import built_in
from otel_train.derive import catalogue
from otel_train.derive.summary import summarize_run
from otel_train.errors import RequirementError
from otel_train.requirements.conditions import OPERATORS, can_hold, read_conditions
from otel_train.requirements.judging import FAIL, NO_DATA, PASS, Verdict, judge, outcome
from otel_train.requirements.reading import MOST_BYTES, check_rules, parse, read_requirements
from otel_train.requirements.units import DIMENSIONS, Quantity, read_quantity, spellings, told
from otel_train.resource_names import RESOURCES
from otel_train.runlog.runs import Run
from otel_train.settings import load

UNITS = [*DIMENSIONS, "By/s", "{token}", "{token}/s", "{file_descriptor}", "J/s"]
written = st.sampled_from([(ucum, spelling) for ucum in UNITS for spelling in spellings(ucum)])
decimals = st.builds(
    lambda whole, places: Fraction(whole, 10**places), st.integers(-(10**12), 10**12), st.integers(0, 9)
)
values = st.floats(1e-3, 1e6)
bounds = st.fractions(Fraction(1, 1000), 1000, max_denominator=1000)
nearly_conditions = st.from_regex(r"[<>=]{0,2} ?[0-9.,_e%-]{0,6} ?(ms|GiB|%|k|/s)?( ?(\.\.|,) ?[<>=]?[0-9]+)?")
nearly_files = st.from_regex(r"(steps|alerts|log\.x\.last): ?['\"]?[<>=]{0,2} ?[0-9]{1,3}['\"]?\n?")

# -- quantities --------------------------------------------------------------------------------------------------------


@given(written, decimals)
def test_quantities_read_back(unit, number):
    """What is printed of a quantity is read as the same number of the same unit, in every spelling of every unit."""
    ucum, spelling = unit
    quantity = Quantity(number, spelling, ucum)
    again = read_quantity(str(quantity), ucum)
    assert (quantity.number, quantity.value) == (again.number, again.value)


@given(written, values)
def test_values_are_told_with_four_digits(unit, value):
    """In the unit that a bound was written in; reading that gives the value, but for what was rounded."""
    ucum, spelling = unit
    again = read_quantity(told(value, Quantity(Fraction(1), spelling, ucum)), ucum)
    assert pytest.approx(value, rel=5e-4) == again.value


@given(
    written, st.fractions(Fraction(1, 1000), 1000, max_denominator=1000), st.sampled_from([1 - 1e-6, 1 + 1e-9, 1.01])
)
def test_a_value_that_misses_does_not_read_as_its_bound(unit, number, off):
    """Digits are added until the two differ."""
    bound = Quantity(number, unit[1], unit[0])
    assert told(bound.value, bound) != told(bound.value * off, bound, apart_from=bound.value)


@given(st.integers(0, 10**9), st.integers(0, 6))
def test_quantities_are_exact(digits, places):
    """250 ms is the float 0.25 and 70 % is 0.7: the nearest to what was written, not a product of two roundings."""
    number = f"{digits}e-{places}"
    assert float(f"{digits}e-{places + 3}") == read_quantity(f"{number} ms", "s").value
    assert float(f"{digits}e-{places + 2}") == read_quantity(f"{number}%", "1").value


@pytest.mark.parametrize(
    ("text", "ucum", "expected"),
    [
        ("250 ms", "s", 0.25),
        ("1.5h", "s", 5400.0),
        ("2 d", "s", 172800.0),
        ("1.5 GiB", "By", 1.5 * 2**30),
        ("1.5 GB", "By", 1.5e9),
        ("70 %", "1", 0.7),
        ("0.7", "1", 0.7),
        ("50_000", "{token}/s", 50000.0),
        ("50k", "{token}/s", 50000.0),
        ("50 k tokens/s", "{token}/s", 50000.0),
        ("50 ktokens / s", "{token}/s", 50000.0),
        ("3M/min", "{token}/s", 50000.0),
        ("180 M/h", "{token}/s", 50000.0),
        ("1 alert", "{alert}", 1.0),
        ("3 batches", "{batch}", 3.0),
        ("2k file descriptors", "{file_descriptor}", 2000.0),
        ("2 retries/s", "{retry}/s", 2.0),
        ("2 d", "h", 48.0),
        ("600 MiB/min", "By/s", 10 * 2**20),
        ("90 %", "", 0.9),
        ("-5e-3", "", -0.005),
        ("80 °C", "Cel", 80.0),
        ("1 kWh", "J", 3.6e6),
    ],
)
def test_units(text, ucum, expected):
    """Times, bytes of both kinds, parts, counts, rates of each, energy and temperature."""
    assert expected == read_quantity(text, ucum).value


@pytest.mark.parametrize(
    ("text", "ucum", "said"),
    [
        ("50,000", "{token}/s", "numbers have no commas"),
        ("0,5", "1", "numbers have no commas"),
        ("nan", "s", "allowed is a number with one of ns,"),
        ("inf", "{token}", "allowed is a number alone, or with one of k, M, G, T"),
        ("1e999", "{token}", "more than a float can hold"),
        ("1e9999999", "{token}", "no unit of a number of tokens"),
        ("250", "s", "'250' without a unit; allowed is a number with one of ns, µs, us, ms, s, min, h, d"),
        ("250 m", "s", "is min for minutes, ms for milliseconds meant?"),
        ("4 GB", "s", "'GB' goes with a size in bytes, the measure is a time"),
        ("5 %", "s", "'%' goes with a part of one, the measure is a time"),
        ("5 ms", "1", "'ms' goes with a time, the measure is a part of one"),
        ("5 ms", "", "the measure is a number"),
        ("5 GB", "By/s", "'GB' goes with a size in bytes, the measure is bytes a second"),
        ("5/s", "{token}", "'/s' goes with a number a second, the measure is a number of tokens"),
        ("50 samples/s", "{token}/s", "'samples/s' is no unit of a number of tokens a second"),
        ("4 Gb", "By", "is GB, or GiB meant?"),
        ("5 furlongs", "s", "'furlongs' is no unit of a time"),
        ("٣", "{token}", "allowed is a number"),
        ("0x10", "{token}", "'x10' is no unit"),
        ("9" * 200, "{token}", "a quantity of 200 characters"),
        ("", "s", "got ''"),
    ],
)
def test_wrong_quantities(text, ucum, said):
    """What was got, what it is a unit of, and which are allowed."""
    with pytest.raises(ValueError) as error:  # noqa: PT011  the text is what matters
        read_quantity(text, ucum)
    assert said in str(error.value)


def test_every_measure_has_units():
    """Each unit of the catalogue, and of the resources, can be written."""
    units = {catalogue.find(name).unit for name in catalogue.names()} | {known.unit for known in RESOURCES.values()}
    for ucum in units:
        assert ucum in DIMENSIONS or ucum.startswith("{") or ucum == "By/s", f"{ucum!r} has no spellings"


# -- conditions --------------------------------------------------------------------------------------------------------


@given(st.sampled_from(list(OPERATORS)), st.integers(-1000, 1000), st.sampled_from([0.0, 1e-14, -1e-14, 1e-6, -1e-6]))
def test_boundaries(sign, bound, off):
    """At the bound >=, <= and == hold, > and < do not; so they do within a rounding, and beyond it as they say."""
    value = bound * (1 + off)
    distance = 0 if abs(off) < 1e-12 else value - bound
    [condition] = read_conditions(f"{sign} {bound}", "")
    expected = {">=": distance >= 0, ">": distance > 0, "<=": distance <= 0, "<": distance < 0, "==": distance == 0}
    assert expected[sign] == condition.holds(value)
    assert abs(distance) == condition.missed_by(value)


def test_a_measure_that_rounds_meets_its_bound():
    """1 - 0.8 is a little less than 0.2, and 20 % all the same."""
    [condition] = read_conditions(">= 20 %", "1")
    assert (True, True) == (1 - 0.8 < 0.2, condition.holds(1 - 0.8))


@given(st.lists(st.tuples(st.sampled_from(list(OPERATORS)), st.integers(0, 4)), min_size=1, max_size=3))
def test_conditions_that_no_value_meets_are_refused(given_conditions):
    """And no others: tried with every value at and between the bounds."""
    text = ", ".join(f"{sign} {bound}" for sign, bound in given_conditions)
    possible = any(all(OPERATORS[sign](half / 2, bound) for sign, bound in given_conditions) for half in range(-1, 10))
    if possible:
        assert can_hold(read_conditions(text, "{step}"))
    else:
        with pytest.raises(ValueError, match="no value meets"):
            read_conditions(text, "{step}")


@given(st.text(max_size=40) | nearly_conditions, st.sampled_from(["s", "1", "{token}/s", ""]))
def test_any_text_is_read_or_refused(text, ucum):
    """With an error of its own: never a crash, never a bound that is no number."""
    found = []
    with contextlib.suppress(ValueError):
        found = read_conditions(text, ucum)
    assert all(condition.bound.value < float("inf") for condition in found)


@pytest.mark.parametrize(
    ("text", "ucum", "expected"),
    [
        ("10 ms .. 20 ms", "s", [(">=", 0.01), ("<=", 0.02)]),
        (">= 1, < 2", "{step}", [(">=", 1.0), ("<", 2.0)]),
        ("0", "{alert}", [("==", 0.0)]),
        ("== 0.5", "1", [("==", 0.5)]),
    ],
)
def test_conditions(text, ucum, expected):
    """Ranges include both ends; a count may be a number alone."""
    assert expected == [(each.operator, each.bound.value) for each in read_conditions(text, ucum)]


# -- files -------------------------------------------------------------------------------------------------------------


def refused(text):
    with pytest.raises(RequirementError) as error:
        parse(text, "r.yaml")
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "r.yaml holds no requirement; allowed is a mapping of measures"),
        ("# nothing yet\n", "r.yaml holds no requirement"),
        ("{}", "line 1, column 1: there is no requirement"),
        ("- steps\n- tokens\n", "line 1, column 1: got a sequence; allowed is a mapping of measures"),
        ('steps: "> 1"\ntokens: "> 1"\nsteps: "> 2"\n', "line 3, column 1: 'steps' is there already, in line 1"),
        ('\n  token_per_second: ">= 1"\n', "line 2, column 3: got the measure 'token_per_second'; allowed are token"),
        ('step_time.p95:   "< 5 GB"\n', "line 1, column 18: step_time.p95: got '5 GB': 'GB' goes with a size in bytes"),
        ("steps: >= 5\n", 'column 9: no YAML, expected chomping or indentation indicators, but found \'=\'. Conditions '
                          'that begin with > need quotes: ">= 5"'),
        ("steps: > 5\n", "Conditions that begin with > need quotes"),
        ("steps: >\n  5\n", "got a block of text; conditions with > need quotes"),
        ("steps: {min: 5}\n", "line 1, column 8: got a mapping; allowed is a text"),
        ("steps: !!python/object/apply:os.system [ls]\n", "got a sequence"),
        ("steps: !mine 5\n", "got a scalar with the tag !mine"),
        ("? [a]\n: 5\n", "line 1, column 3: got a sequence"),
        ('steps: "> 1"\n---\ntokens: 5\n', "line 2, column 1: no YAML, but found another document"),
        ("tokens: 1:30\n", "':30' is no unit"),
        ("steps:\n", "steps: got ''"),
        ("gpu_utilization: '>= 70'\n", "as the measure is a part of one: type 70 %"),
        ("steps: '>= -1'\n", "the measure is never below it"),
        ("wall_time: 5 min\n", "without >=, >, <=, < or ==; allowed are one of >="),
        ("steps: '!= 5'\n", "got '!= 5'; allowed are one of >="),
        ('"log.\\x1b[31m.last": "> 5"\n', "allowed are characters that can be printed"),
        ("\x01: 1\n", "r.yaml cannot be read as YAML"),
        ("[" * 50_000, "r.yaml is nested too deep"),
        ("resource.procss.memory.usage.max: '< 1 GiB'\n", "no resource metric 'procss.memory.usage'; near are proc"),
        ("resource.process.memory.usage{a=b}.max: '< 1 GiB'\n", "has no attribute 'a'; allowed are none"),
        ("resource.process.memory.usage.max: '< 1 s'\n", "'s' goes with a time, the measure is a size in bytes"),
        ("\n".join(f"log.x{number}.last: '> 1'" for number in range(501)), "has 501 requirements; allowed are 500"),
    ],
)  # fmt: skip
def test_wrong_files(text, said):
    """A wrong line is refused with its place, what was got and what is allowed."""
    assert said in refused(text)


def test_anchors_are_yaml():
    """One bound for two measures."""
    first, second = parse('steps: &many ">= 5"\ntokens: *many\n', "r.yaml")
    assert (first.expected, second.expected) == (">= 5", ">= 5")


def test_a_recursive_anchor_is_refused():
    """It ends."""
    assert "got a mapping" in refused("steps: &x {min: *x}\n")


@given(st.text(max_size=60) | nearly_files)
def test_any_file_is_read_or_refused(text):
    """With ``RequirementError``, whatever stands in it; what is read holds something."""
    found = None
    with contextlib.suppress(RequirementError):
        found = parse(text, "r.yaml")
    assert [] != found


def test_files_that_are_no_text(tmp_path):
    """Larger than is read, or not UTF-8; a byte order mark is none of these."""
    at = tmp_path / "r.yaml"
    at.write_bytes(b"a" * 10_000_000)
    with pytest.raises(RequirementError, match=f"is larger than {MOST_BYTES >> 10} KiB"):
        read_requirements(at)
    at.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequirementError, match="no text in UTF-8"):
        read_requirements(at)
    at.write_bytes(b'\xef\xbb\xbfsteps: ">= 5"\n')
    assert ["steps"] == [requirement.name for requirement in read_requirements(at)]


def test_rules_that_there_are_not():
    """``alert.<rule>`` of an unknown rule would hold for ever: it is refused, with the names that come near."""
    requirements = parse("alerts: 0\nalert.hang: 0\nalert.hnag: 0\n", "r.yaml")
    check_rules(requirements[:2], built_in())
    with pytest.raises(RequirementError, match=r"r.yaml, line 3, column 1: there is no rule 'hnag'.* there are hang\."):
        check_rules(requirements, built_in())
    check_rules(requirements, {*built_in(), "hnag"})


# -- verdicts ----------------------------------------------------------------------------------------------------------


def judged(path, text):
    return judge(parse(text, "r.yaml"), summarize_run(Run(path)))


def outcomes(path, text):
    return [verdict.outcome for verdict in judged(path, text)]


def test_verdicts(tmp_path):
    """Of two ranks read as one run; the condition that is missed, and by how much."""
    text = 'steps: ">= 80"\nstep_time.p50: "1 ms .. 5 ms"\npacking_efficiency: ">= 90 %"\nlog.loss.last: "< 2.05"\n'
    passed, failed, at_bound, excluded = judged(build_run(tmp_path), text)
    assert (PASS, 80, None) == (passed.outcome, passed.value, passed.missed_by)
    assert (FAIL, "<=") == (failed.outcome, failed.missed.operator)
    assert pytest.approx((0.0105, 0.0055, 1.1)) == (failed.value, failed.missed_by, failed.missed_by_share)
    assert (PASS, pytest.approx(0.9)) == (at_bound.outcome, at_bound.value)
    assert (FAIL, 0.0) == (excluded.outcome, excluded.missed_by)


def test_a_bound_of_zero_has_no_part(tmp_path):
    """Nothing is so many percent of 0."""
    [verdict] = judged(build_run(tmp_path), "steps.failed: 0\n")
    assert (FAIL, 1, None) == (verdict.outcome, verdict.missed_by, verdict.missed_by_share)


def test_what_was_not_recorded(tmp_path):
    """Is no data, with the reason and the names that there are."""
    text = (
        'gpu_utilization: "> 1 %"\nphase.bakward.share: "< 5 %"\nlog.los.last: "< 2"\nlog.loss.nonfinite: 0\n'
        'resource.hw.power.max: "< 700 W"\n'
    )
    verdicts = judged(build_run(tmp_path), text)
    assert [NO_DATA, NO_DATA, NO_DATA, PASS, NO_DATA] == [verdict.outcome for verdict in verdicts]
    assert "the run did not record it" == verdicts[0].remark
    assert "the run recorded no phase 'bakward'; there is backward, forward" == verdicts[1].remark
    assert "the run recorded no logged value 'los'; there is loss" == verdicts[2].remark
    assert verdicts[4].remark.startswith("the run recorded no resource 'hw.power'; there is process.memory")


def test_a_run_without_steps(tmp_path):
    """Has no data but its count of steps, which is 0 and fails."""
    LogBuilder(tmp_path)
    verdicts = judged(tmp_path / "run-a", 'steps: ">= 1"\nstep_time.p95: "< 1 s"\nphase.forward.share: "< 1"\n')
    assert [FAIL, NO_DATA, NO_DATA] == [verdict.outcome for verdict in verdicts]
    assert "the run has no training step on record" == verdicts[1].remark


def test_all_together():
    """A failure outweighs what is not known, and that what passed; nothing at all is no pass."""
    [requirement] = parse("steps: 5\n", "r.yaml")
    each = {name: Verdict(requirement, name, None) for name in (PASS, FAIL, NO_DATA)}
    for chosen in itertools.product(each, repeat=2):
        expected = FAIL if FAIL in chosen else NO_DATA if NO_DATA in chosen else PASS
        assert expected == outcome([each[name] for name in chosen])
    assert NO_DATA == outcome([])


# -- alerts ------------------------------------------------------------------------------------------------------------


def watched(directory, rules=("hang", "own"), fired=(), rank=0, run_id="run-a", settings=None):
    """A rank whose record tells which rules were in force, or not (None)."""
    builder = LogBuilder(directory, run_id, rank, settings={"alerts": "True"} if settings is None else settings)
    builder.step(0, 5 * MS)
    for rule in fired:
        builder.event(names.ALERT, SECOND, attributes={names.ALERT_RULE: rule, names.ALERT_STATE: names.FIRING})
    in_force = {} if rules is None else {names.ALERTS_ACTIVE: dict.fromkeys(rules, 0)}
    builder.event(names.HEALTH, 2 * SECOND, attributes={names.OVERHEAD_TRAINING: 0.1, **in_force})
    return builder


ALERTS = "alerts: 0\nalert.hang: 0\nalert.own: 0\n"


def test_a_run_that_was_watched_and_quiet(tmp_path):
    """No alert fired, and the record says that the rules were in force."""
    watched(tmp_path)
    assert [PASS, PASS, PASS] == outcomes(tmp_path / "run-a", ALERTS)


def test_a_rule_that_fired(tmp_path):
    """Fails its own requirement and that of all rules."""
    watched(tmp_path, fired=["hang", "hang"])
    verdicts = judged(tmp_path / "run-a", ALERTS)
    assert [FAIL, FAIL, PASS] == [verdict.outcome for verdict in verdicts]
    assert [2, 2, 0] == [verdict.value for verdict in verdicts]


def test_a_run_that_nobody_watched(tmp_path):
    """Is no data, and never 0: alerts off, ended before the first look, a rule that was disabled, one rank of two."""
    watched(tmp_path, rules=None, run_id="off", settings={"alerts": "False"})
    watched(tmp_path, rules=None, run_id="short")
    watched(tmp_path, rules=["hang"], run_id="disabled")
    watched(tmp_path, run_id="one-of-two")
    watched(tmp_path, rules=None, run_id="one-of-two", rank=1)
    assert {
        "off": [NO_DATA] * 3,
        "short": [NO_DATA] * 3,
        "disabled": [PASS, PASS, NO_DATA],
        "one-of-two": [NO_DATA] * 3,
    } == {run_id: outcomes(tmp_path / run_id, ALERTS) for run_id in ("off", "short", "disabled", "one-of-two")}
    assert "alerts were off on rank 0" == judged(tmp_path / "off", ALERTS)[0].remark
    assert "the rule own was not in force on every rank" == judged(tmp_path / "disabled", ALERTS)[2].remark


def test_an_alert_of_a_rank_that_was_killed_soon(tmp_path):
    """It fired: that the record does not tell all rules does not make it no data."""
    watched(tmp_path, rules=None, fired=["hang"])
    assert [FAIL, FAIL, NO_DATA] == outcomes(tmp_path / "run-a", ALERTS)


def test_a_run_that_watches_itself_says_so():
    """A real run: before its first look at the rules nothing is known, after it every rule is known to be quiet."""
    run = {}
    for name, looks in (("before", 0), ("after", 1)):
        with otel_train.init(run_id=name):
            with otel_train.trace_step():
                pass
            for _ in range(looks):
                active.session.alerts.tick()
        run[name] = summarize_run(Run(load().dir / name))
    requirements = parse("alerts: 0\nalert.hang: 0\n", "r.yaml")
    told = {name: [verdict.outcome for verdict in judge(requirements, summary)] for name, summary in run.items()}
    assert {"before": [NO_DATA, NO_DATA], "after": [PASS, PASS]} == told
    assert set(built_in()) == run["after"].merged.watched_rules


def test_a_killed_run(tmp_path):
    """Is judged by what it left."""
    builder = LogBuilder(tmp_path, process={"pid": 1, "host": socket.gethostname(), "start_ticks": -1})
    for number in range(3):
        builder.step(number, 5 * MS)
    run = summarize_run(Run(tmp_path / "run-a"))
    assert ("died", [PASS, FAIL]) == (
        run.state, [each.outcome for each in judge(parse("step_time.max: '<= 5 ms'\nsteps: '> 3'", "r"), run)]
    )  # fmt: skip
