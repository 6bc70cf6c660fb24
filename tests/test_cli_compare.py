"""``otel-train compare`` and ``otel-train baseline``, as a user types them."""

import json

import pytest
from click.testing import CliRunner
from compared_runs import HARDWARE, write_run
from log_builder import LogBuilder

from otel_train.baselines import VERSION
from otel_train.cli import group


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three repetitions of a run, and three of one with a forward that takes 15 % of a step more."""
    directory = tmp_path_factory.mktemp("runs")
    for number in range(3):
        write_run(directory, f"old-{number}", number)
        write_run(directory, f"new-{number}", 10 + number, forward=1.5)
    write_run(directory, "elsewhere", 20, hardware={**HARDWARE, "gpus": [{"model": "A GPU"}], "memory_bytes": 64 << 30})
    LogBuilder(directory, "empty")
    return directory


@pytest.fixture(autouse=True)
def here(runs, tmp_path, monkeypatch):
    """A working directory of its own, the runs by the environment, a terminal of 100 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OTEL_TRAIN_CONFIG", raising=False)
    monkeypatch.setenv("OTEL_TRAIN_DIR", str(runs))
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def typed(*arguments):
    return CliRunner().invoke(group, arguments)


def test_two_runs_are_compared():
    """The verdict and the phase first; each phase's row; what was left out; one run a side is said to be one."""
    result = typed("compare", "old-0", "new-0")
    assert 0 == result.exit_code
    assert "slower: forward +1" in result.output
    assert ["forward"] == [line.split()[0] for line in result.output.splitlines() if line.strip().startswith("forward")]
    assert "195 steady steps; left out: 5 warm-up" in result.output
    assert "One run a side" in result.output
    assert "profile compare" in result.output


def test_several_runs_with_one(runs):
    """Each with the first; by path too."""
    result = typed("compare", "old-0", str(runs / "old-1"), "new-0", "--json")
    content = json.loads(result.stdout)
    assert ["no difference shown", "slower"] == [each["verdict"] for each in content]
    assert ["old-1", "new-0"] == [each["second"][0]["run_id"] for each in content]


def test_patterns_and_baselines_make_sides_of_several_runs():
    """A name with a star is all runs like it, on one side."""
    for arguments in (("old-*", "new-*"), ("--baseline", "old-0", "--baseline", "old-[12]*", "new-*")):
        (found,) = json.loads(typed("compare", *arguments, "--json").stdout)
        assert ("slower", 3, 3) == (found["verdict"], len(found["first"]), len(found["second"]))
        assert "forward" == found["phases"][0]["name"]


def test_a_baseline_is_kept_shown_compared_with_and_forgotten(here):
    """Its file holds all that a comparison needs: it works when the runs are gone."""
    assert 0 == typed("baseline", "set", "main", "old-*").exit_code
    assert 3 == len(json.loads((here / "otel-train-baselines.json").read_text())["baselines"]["main"]["runs"])
    for arguments in (("list",), ("show", "main")):
        shown = typed("baseline", *arguments).output
        assert all(f"old-{number}" in shown for number in range(3))
    assert "slower" == json.loads(typed("compare", "main", "new-0", "--json").stdout)[0]["verdict"]
    assert 0 == typed("baseline", "rm", "main").exit_code
    assert "no baseline in" in typed("baseline", "list").output


def test_setting_a_baseline_keeps_the_others():
    """And replaces the one of its name."""
    for name, wanted in (("a", "old-0"), ("b", "old-1"), ("a", "old-2")):
        typed("baseline", "set", name, wanted)
    shown = typed("baseline", "list").output
    assert ["a", "b"] == [line.split()[0] for line in shown.splitlines()[1:]]
    assert ["old-2"] == [run["run_id"] for run in json.loads(typed("baseline", "show", "a", "--json").stdout)]


def test_a_file_of_baselines_may_be_named(here):
    """For all commands."""
    typed("baseline", "set", "main", "old-0", "--file", "ci.json")
    assert (here / "ci.json").is_file()
    assert 0 == typed("compare", "main", "old-1", "--file", "ci.json", "--fail-above", "20%").exit_code
    assert 2 == typed("compare", "main", "old-1", "--file", "other.json").exit_code


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("old-0", "old-1", "--fail-above", "5%"), 0, "no difference shown; 5 % is the limit"),
        (("old-0", "new-0", "--fail-above", "5"), 1, "and 5 % is the limit"),
        (("old-0", "new-0", "--fail-above", "30 %"), 0, "slower; 30 % is the limit"),
        (("old-0", "old-1", "--fail-above", "0.1%"), 2, "would not be seen"),
        (("old-0", "empty", "--fail-above", "5%"), 2, "cannot be told"),
        (("old-0", "old-1", "new-0", "empty", "--fail-above", "5%"), 1, "cannot be told"),
    ],
)
def test_exit_codes_of_a_limit(arguments, code, said):
    """0 is kept, 1 is passed by any run, 2 cannot be told; the reason on standard error."""
    result = typed("compare", *arguments)
    assert (code, True) == (result.exit_code, said in result.stderr)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("old-0",), "two are needed"),
        (("old-0", "nothing"), "no run in"),
        (("old-0", "nothing-*"), "no run is like 'nothing-*'"),
        (("old-0", "old"), "more than one run starts"),
        (("old-0", "elsewhere"), "--across-hardware"),
        (("old-0", "new-0", "--fail-above", "-1%"), "allowed is a percentage"),
        (("old-0", "new-0", "--fail-above", "much"), "allowed is a percentage"),
    ],
)
def test_wrong_use_exits_with_2_and_one_line(arguments, said):
    """It says what is allowed, without a traceback."""
    result = typed("compare", *arguments)
    assert (2, True) == (result.exit_code, said in result.stderr)
    assert "Traceback" not in result.output


def test_other_hardware_is_compared_when_asked_for():
    """And is among what changed."""
    result = typed("compare", "old-0", "elsewhere", "--across-hardware")
    assert (0, True) == (result.exit_code, "hardware: gpus" in result.output)


def test_markdown_has_tables():
    """A heading, the verdict, and a row for each phase, for a comment."""
    lines = typed("compare", "old-0", "new-0", "--markdown").output.splitlines()
    assert "### new-0 beside old-0" == lines[0]
    assert lines[2].startswith("**slower**: forward")
    assert 1 == len([line for line in lines if line.startswith("| forward |")])
    assert {7} == {line.count("|") - 1 for line in lines if line.startswith(("| forward", "| backward", "| Where"))}


def test_json_has_no_value_that_json_has_not():
    """Of an empty run too: null where nothing is known."""
    for other in ("new-0", "empty"):
        (found,) = json.loads(typed("compare", "old-0", other, "--json").stdout, parse_constant=pytest.fail)
        assert (1, other) == (found["schema_version"], found["second"][0]["run_id"])


def test_a_run_without_steps_is_no_baseline():
    """It says so, and writes no file."""
    result = typed("baseline", "set", "main", "empty")
    assert (1, True) == (result.exit_code, "no steady step" in result.output)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("nonsense", "is no file of baselines"),
        ("[]", "is no file of baselines"),
        (json.dumps({"format": "otel_train baselines", "version": VERSION + 1}), f"reads version {VERSION}"),
        (json.dumps({"format": "otel_train baselines", "version": VERSION, "baselines": {"a": {}}}), "is not whole"),
        (
            json.dumps(
                {
                    "format": "otel_train baselines",
                    "version": VERSION,
                    "baselines": {"a": {"set_unix_s": 1, "runs": [{}]}},
                }
            ),
            "not whole",
        ),
    ],
)
def test_a_file_that_is_none_is_refused(here, content, said):
    """By the commands that read it, and by those that would write it: nothing is lost."""
    path = here / "otel-train-baselines.json"
    path.write_text(content)
    for arguments in (("baseline", "list"), ("baseline", "set", "b", "old-0"), ("compare", "a", "old-0")):
        result = typed(*arguments)
        assert (True, True) == (result.exit_code != 0, said in result.output)
    assert content == path.read_text()


def test_names_of_baselines_are_simple():
    """No path, and none that looks like an option; an unknown one says which there are."""
    assert "allowed are letters" in typed("baseline", "set", "a/b", "old-0").output
    typed("baseline", "set", "main", "old-0")
    assert "it has main" in typed("baseline", "show", "mian").output
    assert "it has main" in typed("baseline", "rm", "mian").output
