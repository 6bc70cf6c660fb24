"""Benchmarks of real processes: matrix, resumption, failures, interrupts, nothing left behind, a real out of memory."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from otel_train.bench.running import strays
from otel_train.cli import group

HERE = Path(__file__).parent
TRAINING, MEMORY = str(HERE / "bench_training.py"), str(HERE / "bench_memory.py")
SPEED = ("--metric", "log.speed.last", "--better", "higher")


def bench(directory, *arguments):
    """What the command line gives."""
    return CliRunner().invoke(group, ["bench", "--dir", str(directory), *arguments])


def runs_in(directory):
    """The runs that were recorded."""
    return sorted(path.name for path in directory.glob("bench-*") if (path / "rank-00000").is_dir())


def is_alive(pid):
    """Does the process do anything still? One that is dead and not reaped by whoever adopted it does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def raced(tmp_path_factory):
    """Three speeds, of which one fails; five rounds are planned, and three are enough."""
    directory = tmp_path_factory.mktemp("raced")
    arguments = ("--arg", "--batch-size=1,2,3", "--vary", "speed=100", "--env", "FACTOR=3", "--repeat", "5")
    command = (TRAINING, "--speed", "{speed}", "--fail-for", "3")
    shown = bench(directory, *arguments, "--metric", "samples_per_second", "--all-rounds", "--repeat", "1", "--json",
                  "--", *command)  # fmt: skip
    return directory, arguments, command, shown


def test_a_matrix_is_run(raced):
    """Each cell once a round, each a record of its own with the settings it was given; a failure does not stop it."""
    directory, _, _, shown = raced
    assert 0 == shown.exit_code, shown.output
    told = json.loads(shown.stdout)
    assert ("complete", 1, False) == (told["ended"], told["rounds"], told["clear"])
    good = [run for run in told["runs"] if run["problem"] is None]
    assert sorted(run["run_id"] for run in good) == runs_in(directory)
    assert {"1", "2"} == {run["settings"]["--batch-size"] for run in good}
    (failed,) = [run for run in told["runs"] if run["problem"] is not None]
    assert ("exit code 7", 7, None, ["one line", "another line"]) == (
        failed["problem"], failed["exit_code"], failed["value"], failed["last_lines"]
    )  # fmt: skip
    assert "round 1 of 1: FACTOR=3 --batch-size=3 speed=100 ... exit code 7" in shown.stderr


def test_it_goes_on_where_it_was_left(raced, tmp_path):
    """What is done is not run again, whatever is asked of it; what failed twice is given up; a picture shows it."""
    directory, arguments, command, _ = raced
    before = runs_in(directory)
    picture = tmp_path / "picture.svg"
    shown = bench(directory, *arguments, *SPEED, "--repeat", "3", "--warm-up", "0", "--plot", str(picture), "--json",
                  "--", *command)  # fmt: skip
    told = json.loads(shown.stdout)
    assert 0 == shown.exit_code
    assert set(before) < set(runs_in(directory))
    assert {1: 2, 2: 2, 3: 2} == {
        number: sum(run["round"] == number and run["problem"] is None for run in told["runs"]) for number in (1, 2, 3)
    }
    assert 2 == sum(run["exit_code"] == 7 for run in told["runs"])
    assert "Not run again after failing twice: FACTOR=3 --batch-size=3 speed=100." in told["conclusion"]
    expected = [300 * (1 + 0.002 * (sum(run["run_id"].encode()) % 7)) for run in told["runs"] if not run["exit_code"]]
    assert sorted(expected) == pytest.approx(sorted(run["value"] for run in told["runs"] if not run["exit_code"]))
    text = picture.read_text()
    assert "batch-size=1 speed=100" in text
    assert "no result" in text
    again = bench(directory, *arguments, *SPEED, "--repeat", "3", "--", *command)
    assert "" == again.stderr
    assert "exit code 7" in again.stdout
    assert "│ another line" in again.stdout


def test_it_stops_when_it_is_clear(tmp_path):
    """Speeds far apart are told apart by the third of five rounds; the others are not run."""
    shown = bench(tmp_path, "--arg", "--speed=1,2", *SPEED, "--repeat", "4", "--", TRAINING, "--steps", "6")
    assert 0 == shown.exit_code
    assert "Clear after 3 of 4 rounds" in shown.stdout
    assert "Best: --speed=2." in shown.stdout
    assert 6 == len(runs_in(tmp_path))


def test_a_run_that_takes_too_long(tmp_path):
    """It is stopped and told; one that does not exist too. Nothing succeeded: exit code 1."""
    shown = bench(tmp_path, "--vary", "x=600", "--repeat", "1", "--timeout", "0.5s", "--", "sleep", "{x}")
    assert (1, True) == (shown.exit_code, "stopped after" in shown.stdout), shown.output
    record = json.loads(next(tmp_path.glob("*/state.jsonl")).read_text().splitlines()[1])
    assert ("timed out", -signal.SIGINT) == (record["status"], record["exit_code"])


def test_the_time_is_up(tmp_path):
    """A run that goes on at --max-time is cut short, and is run again by the next call."""
    arguments = ("--repeat", "2", "--max-time", "0.5s", "--json", "--", "sleep", "600")
    for _ in range(2):
        told = json.loads(bench(tmp_path, *arguments).stdout)
        assert ("out of time", []) == (told["ended"], told["runs"])
        assert (
            "The time is up (--max-time) after 0 whole rounds. The same command goes on from here."
            in told["conclusion"]
        )


def test_nothing_is_left_behind(tmp_path):
    """A process of a session of its own, which the command left, is killed when the command ends."""
    stray = tmp_path / "stray"
    shown = bench(tmp_path, "--repeat", "1", "--", TRAINING, "--stray", str(stray))
    assert 0 == shown.exit_code, shown.output
    assert not is_alive(int(stray.read_text()))


def started(tmp_path, directory):
    """A benchmark whose first run has trained and waits; the number of that run's process, and the open pipe."""
    pipe = tmp_path / "ready"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        [sys.executable, "-m", "otel_train.cli", "bench", "--dir", str(directory), "--arg", "--batch-size=1,2",
         "--json", "--", TRAINING, "--ready", str(pipe)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    opened = pipe.open()
    return process, int(opened.readline()), opened


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_run_too(tmp_path, number):
    """The run ends cleanly, with its record closed; what is known is told; the exit code says what happened."""
    process, pid, opened = started(tmp_path, tmp_path / "runs")
    with process, opened:
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=120)
    assert 130 == process.returncode, stderr
    assert ("interrupted", []) == (json.loads(stdout)["ended"], json.loads(stdout)["runs"])
    assert not is_alive(pid)
    (run,) = runs_in(tmp_path / "runs")
    assert "end" in json.loads((tmp_path / "runs" / run / "rank-00000" / "run.json").read_text())
    assert [] == strays(run)


def test_the_run_does_not_outlive_a_killed_benchmark(tmp_path):
    """SIGKILL leaves no time to do anything: the kernel tells the run."""
    process, pid, opened = started(tmp_path, tmp_path / "runs")
    with process, opened:
        process.kill()
        process.communicate(timeout=120)
        assert "" == opened.read()  # ends when the run's own end of the pipe does
    assert not is_alive(pid)


def test_out_of_memory_is_survived(tmp_path):
    """torch's allocator really fails, in a training that knows nothing of us; the sweep says at which size and how."""
    picture = tmp_path / "picture.svg"
    shown = bench(tmp_path, "--env", "MALLOC_ARENA_MAX=1", "--sweep", "batch_size=12000..24000", "--plot", str(picture),
                  "--", MEMORY, "--mib", "1024", "--batch-size", "{batch_size}")  # fmt: skip
    assert 0 == shown.exit_code, shown.output
    state = next(tmp_path.glob("*/state.jsonl"))
    runs = [json.loads(line) for line in state.read_text().splitlines()[1:]]
    assert ["done", "failed"] == [run["status"] for run in runs]
    assert all(run["peak_bytes"] > 64 << 20 for run in runs)
    assert "Largest that fits: 12000." in shown.stdout
    assert "24000: torch's CPU allocator got no memory; asked for " in shown.stdout
    assert "memory, GiB" in picture.read_text()


def test_a_sweep_ends_at_another_failure(tmp_path):
    """A kill that nobody explains is told as that; an exit code is another failure. Nothing fits: exit code 1."""
    shown = bench(tmp_path, "--sweep", "n=1..8", "--", "sh", "-c", "exit {n}")
    assert (1, True) == (shown.exit_code, "1 failed for another reason" in shown.stdout)
    shown = bench(tmp_path, "--sweep", "n=9..18", "--", "sh", "-c", "kill -{n} $$")
    assert (1, True) == (shown.exit_code, "9: it was killed (SIGKILL), probably for want of memory" in shown.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--metric", "nonsense", "--", TRAINING), "got the measure 'nonsense'"),
        (("--metric", "log.loss.last", "--", TRAINING), "Give --better higher or --better lower"),
        (("--vary", "x=1", "--", TRAINING), "there is no {x} in the command"),
        (("--plot", "x.gif", "--", TRAINING), "allowed are files that end in .png, .svg, .pdf"),
        (("--margin", "5", "--", TRAINING), "'5' is no share"),
        (("--max-time", "soon", "--", TRAINING), "'soon' is no time; allowed are 90s, 10m, 1.5h"),
        (("--sweep", "--n=1..8", "--arg", "--m=1,2", "--", TRAINING), "give --env, --arg and --vary one value each"),
        (("--", "no-such-command"), "neither a Python script nor a command"),
        ((), "Missing argument"),
    ],
)
def test_what_is_not_understood(tmp_path, arguments, message):
    """It is said in a line before anything is run."""
    shown = bench(tmp_path, *arguments)
    assert 0 != shown.exit_code
    assert message in " ".join(shown.stderr.split())
    assert "Traceback" not in shown.output
    assert [] == list(tmp_path.glob("bench-*"))


def test_without_matplotlib(tmp_path, monkeypatch):
    """What to type, and before anything is run."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    shown = bench(tmp_path, "--plot", "x.png", "--", TRAINING)
    assert (1, True) == (shown.exit_code, "pip install 'otel-train[plot]'" in shown.stderr)
    assert [] == list(tmp_path.glob("bench-*"))
