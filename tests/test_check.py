"""``otel-train check``: what it prints and writes, and the code it exits with."""

import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from log_builder import MS, LogBuilder
from report_run import RUN_ID, build_run
from scaling_runs import build_ranks

from otel_train.cli import group
from otel_train.derive.goal import Goal
from otel_train.derive.projection import project
from otel_train.derive.summary import summarize_run
from otel_train.requirements.reading import parse
from otel_train.runlog.runs import Run

DOCS = Path(__file__).parent.parent / "docs" / "requirements.md"
ALL = 'steps: ">= 80"\ndata_wait.share: "< 10 %"\ngpu_utilization: ">= 70 %"\n'
PASSING = 'steps: ">= 80"\nstep_time.p95: "<= 11 ms"\n'


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Judge the run by a text: the result of the command."""
    monkeypatch.setenv("OTEL_TRAIN_DIR", str(tmp_path / "runs"))
    file = tmp_path / "r.yaml"

    def typed(text, *arguments):
        file.write_text(text)
        return CliRunner().invoke(group, ["check", *arguments, "--requirements", str(file)])

    return typed


@pytest.fixture
def run(tmp_path):
    """Two ranks of 40 steps."""
    return build_run(tmp_path / "runs")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (PASSING, 0),
        ('steps: "> 80"\n', 1),
        (ALL, 1),
        (PASSING + 'gpu_utilization: ">= 70 %"\n', 2),
        ("", 2),
        ("stps: 5\n", 2),
        ("alert.hnag: 0\n", 2),
    ],
)
def test_exit_codes(check, run, text, code):
    """0: all pass. 1: one fails, whatever else. 2: one has no data, or the file is wrong."""
    assert code == check(text).exit_code


def test_what_cannot_be_judged_is_no_failure(check, run, tmp_path):
    """No such run, no such file, no place for an output: 2 and one line, as 1 is for runs that fail."""
    for told in (
        check(PASSING, "nope"),
        check(PASSING, "--junit", str(tmp_path / "none" / "j.xml")),
        check(PASSING, "--dir", str(tmp_path / "none")),
        CliRunner().invoke(group, ["check", "--requirements", str(tmp_path / "none.yaml")]),
    ):
        assert (2, 1) == (told.exit_code, told.stderr.count("\n")), told.output
        assert told.stderr.startswith("Error: ")


def test_the_lines(check, run, monkeypatch):
    """One for each requirement, in the file's order and in the file's own units, however narrow the terminal."""
    monkeypatch.setenv("COLUMNS", "40")
    expected = (
        f"Run {RUN_ID}, 2 ranks, finished\n"
        "PASS     steps            >= 80    80\n"
        "FAIL     data_wait.share  < 10 %   57.14 %, misses by 47.1 points\n"
        "NO DATA  gpu_utilization  >= 70 %  the run did not record it\n"
        "1 passed, 1 failed, 1 without data\n"
    )
    assert expected == check(ALL).output


def test_a_value_at_an_excluded_bound(check, run):
    """Misses by nothing, and fails; one that is close has the digits to see it."""
    told = check('log.loss.last: "< 2.05"\nstep_time.max: "<= 10.9999 ms"\n').output
    assert "2.05, which is the bound itself" in told
    assert "11 ms, misses by 0.0001 ms\n" in told


def test_json(check, run):
    """One object, values in each measure's unit, null for what there is not."""
    content = json.loads(check(ALL, "--json").stdout)
    assert ("FAIL", RUN_ID, "finished") == (content["outcome"], content["run_id"], content["state"])
    steps, wait, gpu = content["requirements"]
    assert (80, "{step}", "PASS", None, 1) == (
        *(steps[key] for key in ("value", "unit", "outcome", "missed_by", "line")),
    )
    assert (pytest.approx(0.4714, abs=1e-4), [{"operator": "<", "bound": 0.1}]) == (
        wait["missed_by"],
        wait["conditions"],
    )
    assert (None, "NO DATA", "the run did not record it") == (gpu["value"], gpu["outcome"], gpu["finding"])


# -- Markdown ----------------------------------------------------------------------------------------------------------


def test_markdown_in_place_of_the_lines(check, run):
    """Without a name, or beside a file's: a table and nothing else on standard output."""
    lines = check(ALL, "--markdown", "--dir", str(run.parent)).output.splitlines()
    assert "### ❌ Requirements: 1 passed, 1 failed, 1 without data" == lines[0]
    assert "| ❌ FAIL | `data_wait.share` | `< 10 %` | 57.14 %, misses by 47.1 points |" in lines
    assert {5} == {len(re.findall(r"(?<!\\)\|", line)) for line in lines if line.startswith("|")}


def test_names_are_no_markup(check, run):
    """A pipe in the name of a logged value ends no cell."""
    line = next(line for line in check('"log.a|b`c.last": "> 1"\n', "--markdown", "--json").output.splitlines())
    assert "Usage:" in line  # two things on standard output: refused
    row = check('"log.a|b`c.last": "> 1"\n', "--dir", str(run.parent), "--markdown").output.splitlines()[-1]
    assert (
        r"| ⚪ NO DATA | `log.a\|b'c.last` | `> 1` | the run recorded no logged value 'a\|b\`c'; there is loss |" == row
    )


def test_a_terminal_of_few_characters(run, tmp_path):
    """Marks that it cannot write, and what is no character in a name of the record, become question marks."""
    LogBuilder(run.parent, "odd").step(0, 10 * MS, [("a\ud800b", 0, MS)])
    (tmp_path / "r.yaml").write_text('steps: "> 0"\nphase.ab.share: "< 5 %"\n')
    for encoding, mark in (("ascii", "?"), ("utf-8", "\N{WHITE HEAVY CHECK MARK}")):
        told = subprocess.run(
            [sys.executable, "-m", "otel_train.cli", "check", "odd", "--dir", str(run.parent), "--requirements",
             str(tmp_path / "r.yaml"), "--markdown"], env=os.environ | {"PYTHONIOENCODING": encoding},
            capture_output=True, check=False,
        )  # fmt: skip
        assert (2, b"") == (told.returncode, told.stderr)
        assert f"| {mark} PASS | `steps` | `> 0` | 1 |" in told.stdout.decode()
        assert "there is a?b" in told.stdout.decode()


def test_the_summary_of_a_job_is_added_to(check, run, tmp_path, monkeypatch):
    """Other commands of the job write there; any other file is replaced."""
    for name, kept in (("summary.md", True), ("other.md", False)):
        (tmp_path / name).write_text("before\n")
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
        told = check(PASSING, "--markdown", str(tmp_path / name))
        text = (tmp_path / name).read_text()
        assert (0, kept, True) == (told.exit_code, text.startswith("before\n"), "### ✅ Requirements: 2 passed" in text)
        assert "PASS     steps" in told.output


# -- JUnit -------------------------------------------------------------------------------------------------------------

TEXT = set()
SCHEMA = {  # element: what may be in it, attributes that must be there, and that may be
    "testsuites": ({"testsuite"}, set(), {"name", "time", "tests", "failures", "errors"}),
    "testsuite": (
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
        {"name", "tests", "failures", "errors"},
        {"group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url"},
    ),
    "properties": ({"property"}, set(), set()),
    "property": (TEXT, {"name", "value"}, set()),
    "testcase": ({"skipped", "error", "failure", "system-out", "system-err"}, {"name"}, {"time", "classname", "group"}),
    "failure": (TEXT, set(), {"type", "message"}),
    "error": (TEXT, set(), {"type", "message"}),
    "system-out": (TEXT, set(), set()),
}
"""What Jenkins' xUnit plugin allows (junit-10.xsd), as far as we use it."""


def check_against_schema(element):
    """Elements in elements, and attributes; raises where something is not allowed, or is missing."""
    children, needed, allowed = SCHEMA[element.tag]
    assert needed <= set(element.attrib) <= needed | allowed, f"{element.tag}: {set(element.attrib)}"
    assert {child.tag for child in element} <= children, element.tag
    for child in element:
        check_against_schema(child)


def junit_of(check, tmp_path, text):
    check(text, "--junit", str(tmp_path / "j.xml"))
    return ElementTree.fromstring((tmp_path / "j.xml").read_bytes())


def test_junit(check, run, tmp_path):
    """It is what Jenkins' schema allows, and its counts are those of its cases."""
    root = junit_of(check, tmp_path, ALL)
    check_against_schema(root)
    for suite in (root, root[0]):
        assert ("3", "1", "1") == (suite.get("tests"), suite.get("failures"), suite.get("errors"))
    passed, failed, unknown = root.iter("testcase")
    assert (["system-out"], ["failure"], ["error"]) == tuple(
        [each.tag for each in case] for case in (passed, failed, unknown)
    )
    assert ("data_wait.share", "expected < 10 %, got 57.14 %, misses by 47.1 points") == (
        failed.get("name"), failed[0].get("message")
    )  # fmt: skip
    assert "r.yaml, line 2, column 1" in failed[0].text
    assert "expected >= 70 %, no data: the run did not record it" == unknown[0].get("message")
    assert "2025-01-01T00:00:00" == root[0].get("timestamp")


def test_junit_is_xml_whatever_a_script_calls_its_phases(check, tmp_path):
    """Characters that XML cannot have, in names of the record that an error tells."""
    builder = LogBuilder(tmp_path / "runs")
    builder.step(0, 10 * MS, [('a\x00\x1b<&"\ud800b', 0, MS)])
    root = junit_of(check, tmp_path, 'phase.a.share: "< 5 %"\n')
    check_against_schema(root)
    assert 'there is a\ufffd\ufffd<&"\ufffdb' in root.find(".//error").get("message")


# -- runs --------------------------------------------------------------------------------------------------------------


def test_a_run_that_was_killed(check, tmp_path):
    """A real one: its steps are judged, and the first line says what they are."""
    (tmp_path / "counter").write_bytes(bytes(8))
    script = Path(__file__).parent / "training_process.py"
    command = [sys.executable, str(script), "--steps", "50", "--end", "wait", str(tmp_path / "counter")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as training:
        assert "trained\n" == training.stdout.readline()
        goes_on = check('steps: ">= 50"\n').output
        training.send_signal(signal.SIGKILL)
    told = check('steps: ">= 50"\nsamples: ">= 101"\nalerts: 0\n')
    assert "running. It goes on: judged by what there is so far\n" in goes_on
    assert "died. It was killed: judged by what it left\n" in told.output
    assert ["PASS", "FAIL", "NO DATA"] == re.findall(r"^(PASS|FAIL|NO DATA)", told.output, re.MULTILINE)


def test_own_rules_are_known(check, run, tmp_path, monkeypatch):
    """Those that the alerts' setting names, whatever the run had."""
    (tmp_path / "alerts.yaml").write_text("alerts: [{rule: slow, measure: step.rate, below: 1, says: 'It is slow.'}]\n")
    assert "there is no rule 'slow'" in check("alert.slow: 0\n").output
    monkeypatch.setenv("OTEL_TRAIN_ALERTS", str(tmp_path / "alerts.yaml"))
    assert "NO DATA  alert.slow" in check("alert.slow: 0\n").output


def test_scaling_efficiency(check, tmp_path):
    """Of the steady state against another run: 10 ms a step alone, 12.5 ms with two ranks."""
    runs = tmp_path / "runs"
    build_ranks(runs, "alone", [lambda number: {"forward": 10}])
    build_ranks(runs, "twice", [lambda number: {"forward": 12.5}] * 2)
    build_ranks(runs, "elsewhere", [lambda number: {"forward": 10}], hardware={"cpu": {"model": "EPYC", "count": 2}})
    build_ranks(runs, "uncounted", [lambda number: {"forward": 10}], samples=None)
    build_ranks(runs, "no-steps", [lambda number: {"forward": 10}], steps=0)
    told = {}
    for baseline, minimum in (("alone", "80 %"), (f"{runs}/alone", "90 %"), *((name, "1 %") for name in (
        "elsewhere", "uncounted", "no-steps"))):  # fmt: skip
        result = check(f'scaling_efficiency: {{baseline: {baseline}, min: "{minimum}"}}\n', "twice")
        told[baseline] = (result.exit_code, result.output.splitlines()[1])
    assert (0, "PASS     scaling_efficiency  >= 80 % of alone  80 %") == told["alone"]
    assert (1, True) == (told[f"{runs}/alone"][0], told[f"{runs}/alone"][1].endswith("80 %, misses by 10 points"))
    assert (2, True) == (told["elsewhere"][0], "The runs differ in CPU: EPYC" in told["elsewhere"][1])
    assert told["uncounted"][1].endswith("neither samples nor tokens are known of both runs")
    assert told["no-steps"][1].endswith("run no-steps has no training step on record")


def test_projected_time(check, tmp_path):
    """1,000 steps of 32 samples in 10 to 12 ms: the estimate, or the upper end of its interval, which is told."""
    builder, chance = LogBuilder(tmp_path / "runs", end={"unix_ns": 1}), random.Random(1)
    for number in range(1000):
        builder.step(number, int(10 * MS * (1 + chance.random() / 5)), samples=32)
    goal = Goal(6_000_000, "samples")
    projected = project(summarize_run(Run(tmp_path / "runs" / "run-a")), goal)
    bound = (projected.total.time_s + projected.high_s) / 2
    told = {}
    for by in ("estimate", "upper"):
        told[by] = check(f"projected_time: {{samples: 6_000_000, max: {bound:.3f} s, by: {by}}}\n", "--json")
    (estimate,), (upper,) = (json.loads(each.stdout)["requirements"] for each in told.values())
    assert (0, 1) == tuple(each.exit_code for each in told.values())
    assert (projected.total.time_s, projected.high_s) == (estimate["value"], upper["value"])
    assert re.fullmatch(r"2\d{3} s, 95 % between 2\d{3} s and 2\d{3} s, by samples", estimate["finding"])
    assert f"<= {bound:.3f} s to 6_000_000 samples by upper" == upper["expected"]


@pytest.mark.parametrize(
    ("goal", "code", "said"),
    [
        ("steps: 3, max: 31 ms", 0, "30 ms, the goal is reached"),
        ("samples: 1M, max: 1 s", 1, "too little of the run is there for an interval"),
        ("samples: 1M, max: 1 h, by: upper", 2, "too little of the run is there for an interval"),
        ("epochs: 3, max: 1 h", 2, "no projection: no epoch is complete"),
        ("tokens: 3M, max: 1 h", 2, "no projection: the run's tokens are not known"),
    ],
)
def test_goals(check, tmp_path, goal, code, said):
    """One that was reached takes what it took; what cannot be projected is no data, with the reason."""
    build_ranks(tmp_path / "runs", "short", [lambda number: {"forward": 10}], steps=3)
    result = check(f"projected_time: {{{goal}}}\n")
    assert (code, True) == (result.exit_code, said in result.output), result.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "projected_time: '< 10h'\n",
            "column 17: got a scalar; allowed is projected_time: {samples: 6_000_000, max: 10h}",
        ),
        ("projected_time: {max: 1 h}\n", "projected_time needs one of samples, tokens, steps, epochs"),
        ("projected_time: {steps: 3, samples: 5, max: 1 h}\n", "projected_time needs one of"),
        ("projected_time: {steps: 0, max: 1 h}\n", "column 25: projected_time: steps: got 0; allowed is more than 0"),
        ("projected_time: {steps: 5 tokens, max: 1 h}\n", "'tokens' is no unit of a number of steps"),
        ("projected_time: {steps: 5, max: 1}\n", "column 33: projected_time: max: got '1' without a unit"),
        ("projected_time: {steps: 5}\n", "projected_time has neither min nor max"),
        ("projected_time: {steps: 5, max: 1 h, by: luck}\n", "got by: 'luck'; allowed are estimate and upper"),
        ("scaling_efficiency: 5\n", "column 21: got a scalar; allowed is scaling_efficiency: {baseline: RUN, min:"),
        ("scaling_efficiency: {min: 5 %}\n", "column 1: scaling_efficiency has no baseline"),
        ("scaling_efficiency: {baseline: x}\n", "column 1: scaling_efficiency has neither min nor max"),
        ("scaling_efficiency: {baseline: x, min: 5 ms}\n", "column 40: scaling_efficiency: min: got '5 ms': 'ms' goes"),
        ("scaling_efficiency: {baseline: x, min: 90 %, max: 10 %}\n", "min is above max"),
        ("scaling_efficiency: {baseline: x, min: -5 %}\n", "allowed are bounds from 0 on"),
        ("scaling_efficiency: {baseline: x, mn: 90 %}\n", "got 'mn'; allowed are baseline, min, max"),
        (
            "scaling_efficiency: {baseline: x, min: 1 %, min: 2 %}\n",
            "column 45: scaling_efficiency: 'min' is given twice",
        ),
        ("scaling_efficiency: {baseline: [x], min: 1 %}\n", "column 32: got a sequence"),
        ("scaling_efficency: {baseline: x, min: 1 %}\n", "got 'scaling_efficency'; allowed is scaling_efficiency: {"),
        ("scaling_efficiency: {baseline: nope, min: 1 %}\n", "column 1: scaling_efficiency: baseline: no run in"),
    ],
)
def test_wrong_forms(check, run, text, said):
    """Each is refused with its place."""
    result = check(text)
    assert (2, True) == (result.exit_code, said in result.output), result.output


def test_the_documented_file():
    """What docs/requirements.md shows as a file is one."""
    example = re.search(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)[1]
    assert 15 == len(parse(example, "requirements.yaml"))
