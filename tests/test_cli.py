"""The command line, as a user types it."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from log_builder import MS, LogBuilder
from report_run import RUN_ID, build_run

from otel_train.cli import COMMANDS, demo, group
from otel_train.report.listing import KEYS
from otel_train.version import __version__


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the runs are, by the environment; no variable of the caller's reaches the test."""
    for name in ("OTEL_TRAIN_CONFIG", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_TRAIN_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def typed(*arguments: str) -> Result:
    return CliRunner().invoke(group, arguments)


def test_every_command_has_help() -> None:
    """And stands in the list, in the order in which a newcomer meets them."""
    shown = typed("--help").output
    assert sorted(COMMANDS, key=lambda name: shown.index(f"\n  {name} ")) == list(COMMANDS)
    for name in COMMANDS:
        assert 0 == typed(name, "--help").exit_code


def test_an_unknown_command_is_told() -> None:
    """With the exit code of a wrong call."""
    result = typed("raport")
    assert (2, True) == (result.exit_code, "No such command" in result.output)


def test_the_report_of_the_latest_run(directory: Path) -> None:
    """Without a name; by prefix; by path."""
    path = build_run(directory)
    for arguments in ((), (RUN_ID[:9],), (str(path),), (str(path / "rank-00001"),)):
        result = typed("report", *arguments)
        assert (0, True) == (result.exit_code, "input: 57 %" in result.output)


def test_the_report_as_json(directory: Path) -> None:
    """Standard output is JSON and nothing else."""
    build_run(directory)
    content = json.loads(typed("report", "--json").stdout)
    assert (RUN_ID, "input") == (content["run_id"], content["bottleneck"]["verdict"])


def test_a_run_that_is_not_there_is_an_error_in_one_line(directory: Path) -> None:
    """It says what there is, and what to type."""
    build_run(directory)
    result = typed("report", "nope")
    assert 1 == result.exit_code
    assert f"Error: no run in {directory} starts with 'nope'. There is: {RUN_ID}. See: otel-train ls\n" == result.output


def test_an_empty_directory_points_to_the_demo(directory: Path) -> None:
    """A newcomer's first call."""
    assert (1, True) == ((result := typed("report")).exit_code, "otel-train demo" in result.output)
    assert (0, True) == ((result := typed("ls")).exit_code, "otel-train demo" in result.output)
    assert "[]\n" == typed("ls", "--json").output


def test_the_option_dir_wins(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Over the environment."""
    other = tmp_path_factory.mktemp("other")
    build_run(other)
    assert 1 == typed("report").exit_code
    assert 0 == typed("report", "--dir", str(other)).exit_code


def test_a_wrong_setting_is_an_error_in_one_line(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a traceback."""
    monkeypatch.setenv("OTEL_TRAIN_LEVEL", "everything")
    result = typed("ls")
    assert (1, True) == (result.exit_code, "OTEL_TRAIN_LEVEL" in result.output)


def test_ls_lists_runs_with_their_state(directory: Path) -> None:
    """Ranks and steps, how long, and whether a backend has it; 80 columns are enough."""
    path = build_run(directory)
    shown = typed("ls").output
    row = next(line for line in shown.splitlines() if line.startswith(RUN_ID))
    assert ["char_gpt", "finished", "60", "s", "2", "×", "40", "no"] == [
        word for word in row.split()[1:] if "-" not in word and ":" not in word
    ]
    assert max(map(len, shown.splitlines())) <= 80
    for rank in (0, 1):
        cursor = {"traces": {"steps": 40}, "metrics": {"steps": 40 - 4 * rank}, "logs": {}}
        (path / f"rank-{rank:05}" / "cursor.json").write_text(json.dumps(cursor))
    assert "4 left" in typed("ls").output


def test_ls_as_json_has_these_keys(directory: Path) -> None:
    """What programs rely on; what is not known is null."""
    build_run(directory)
    (line,) = json.loads(typed("ls", "--json").output)
    assert list(KEYS) == list(line)
    assert (RUN_ID, 2, 40, 60.0, None, None) == tuple(
        line[key] for key in ("run_id", "ranks", "steps", "duration_s", "unacknowledged_steps", "error")
    )


def test_a_run_that_cannot_be_read_does_not_hide_the_others(directory: Path) -> None:
    """It is listed with its reason."""
    build_run(directory)
    LogBuilder(directory, "newer").save_identity(format_version=99)
    result = typed("ls")
    assert (0, True, True) == (result.exit_code, RUN_ID in result.output, "newer cannot be read" in result.output)


def test_the_duration_of_a_run_that_died_is_up_to_its_last_step(directory: Path) -> None:
    """No end was written."""
    builder = LogBuilder(directory)
    for number in range(3):
        builder.step(number, 500 * MS)
    assert 1.5 == json.loads(typed("ls", "--json").output)[0]["duration_s"]


def test_export_to_standard_output_and_to_a_file(directory: Path) -> None:
    """A row a step of every rank, or of one."""
    build_run(directory)
    rows = typed("export", "--to", "csv").stdout.splitlines()
    assert 1 + 80 == len(rows)
    assert rows[0].startswith("rank,step,epoch,start_unix_s,duration_s,samples,tokens,padded_tokens,failed,evaluation,")
    file = directory / "events.json"
    result = typed("export", RUN_ID, "--to", "json", "--what", "events", "--rank", "1", "--output", str(file))
    assert "3 rows" in result.stderr
    assert ["checkpoint", "evaluation", "health"] == [row["kind"] for row in json.loads(file.read_text())]


def test_export_to_parquet_writes_a_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named after the run, in the current directory; binary data is not for a terminal."""
    build_run(directory)
    monkeypatch.chdir(directory)
    assert 0 == typed("export", "--to", "parquet").exit_code
    assert (directory / f"{RUN_ID}-steps.parquet").is_file()


def test_parquet_without_pyarrow_says_what_to_install(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call, the package, the command."""
    build_run(directory)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = typed("export", "--to", "parquet", "--output", str(directory / "x"))
    expected = "Error: otel-train export --to parquet needs the package pyarrow: pip install 'otel-train[parquet]'\n"
    assert (1, expected) == (result.exit_code, result.output)


def test_a_rank_that_is_not_there_is_told(directory: Path) -> None:
    """With those that are."""
    build_run(directory)
    result = typed("export", "--to", "csv", "--rank", "7")
    assert (2, True) == (result.exit_code, "got 7; this run has rank 0, 1" in result.output)


def test_the_demo_without_torch_says_what_to_install(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything starts."""
    monkeypatch.setattr(demo.util, "find_spec", lambda name: None)
    result = typed("demo")
    assert (1, True) == (result.exit_code, "pip install 'otel-train[demo]'" in result.output)


def fake_training(monkeypatch: pytest.MonkeyPatch, code: int) -> list[list[str]]:
    """In place of the training: leave a run under the id that the demo gave."""
    calls: list[list[str]] = []

    def run(arguments: list[str], environment: dict[str, str]) -> int:
        calls.append(arguments)
        builder = LogBuilder(Path(environment["OTEL_TRAIN_DIR"]), environment["OTEL_TRAIN_RUN_ID"])
        for number in range(30):
            builder.step(number, 10 * MS, [("forward", 0, 9 * MS)])
        assert "1" == environment["OTEL_TRAIN_PROGRESS"]
        return code

    monkeypatch.setattr(demo, "_run", run)
    return calls


def test_the_demo_ends_with_the_summary_and_what_to_type_next(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the very run it made."""
    calls = fake_training(monkeypatch, 0)
    result = typed("demo", "--seconds", "2.5", "--slow-dataset", "4")
    assert 0 == result.exit_code
    assert "compute: 90 %" in result.output
    assert "otel-train report demo-" in result.output
    ((python, script, *options),) = calls
    assert (sys.executable, "char_gpt.py") == (python, Path(script).name)
    assert ["--seconds", "2.5", "--slow-dataset", "4"] == options


def test_a_demo_that_fails_says_so(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was recorded is shown all the same."""
    fake_training(monkeypatch, 3)
    result = typed("demo")
    assert (1, True, True) == (result.exit_code, "exit code 3" in result.output, "compute" in result.output)


def test_the_example_is_found() -> None:
    """In the repository or in the wheel."""
    try:
        assert demo.example_path().is_file()
    except click.ClickException:
        pytest.skip("the example is not there yet")


def test_the_command_runs_as_a_process(directory: Path) -> None:
    """One real call: colourless in a pipe, and neither torch nor OpenTelemetry is imported for a report."""
    build_run(directory)
    code = (
        "import sys; from otel_train.cli import group\n"
        "group(['report'], standalone_mode=False)\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted({'torch', 'opentelemetry', 'pyarrow', 'psutil', 'yaml'} & loaded))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]" == done.stdout.splitlines()[-1]
    assert "What bounds this run" in done.stdout
    assert "\x1b" not in done.stdout
    call = [sys.executable, "-m", "otel_train.cli", "--version"]
    version = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    assert f"otel-train, version {__version__}\n" == version
