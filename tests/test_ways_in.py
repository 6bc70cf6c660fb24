"""The ways into zero code, in real processes: each records the same of a script that knows nothing of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
from otel_train.cli.run import is_autoloaded
from otel_train.derive.summary import summarize_run
from otel_train.errors import SettingsError
from otel_train.runlog.runs import find_run, runs_in
from otel_train.settings import load

SCRIPTS = Path(__file__).parent / "ways_in"
BIN = Path(sys.executable).parent
PLAIN = str(SCRIPTS / "plain.py")
RUN = [sys.executable, "-m", "otel_train.cli", "run"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
QUIET = ["--traces_exporter", "none", "--metrics_exporter", "none", "--logs_exporter", "none"]

pytestmark = pytest.mark.skipif(not is_autoloaded(), reason="otel_train.pth is not installed in this Python")


def start(command, tmp_path, **variables):
    """Run a command to its end with runs in the test's folder."""
    environment = {**os.environ, "OTEL_TRAIN_DIR": str(tmp_path / "runs"), "PATH": f"{BIN}:{os.environ['PATH']}"}
    environment.pop("OTEL_TRAIN_RAISE", None)
    return subprocess.run(
        command, env={**environment, **variables}, cwd=tmp_path, capture_output=True, text=True, timeout=240
    )


def recorded(tmp_path):
    """The summaries of the runs that were recorded."""
    folder = tmp_path / "runs"
    if not folder.is_dir():
        return []
    return [summarize_run(find_run(folder, run.id)) for run in runs_in(folder)]


WAYS = {
    "run": ([*RUN, PLAIN, "--lr", "3", "-m"], {}),
    "run a module": ([*RUN, "-m", "plain", "--lr", "3", "-m"], {"PYTHONPATH": str(SCRIPTS)}),
    "run a command": ([*RUN, sys.executable, PLAIN, "--lr", "3", "-m"], {}),
    "environment": ([sys.executable, PLAIN, "--lr", "3", "-m"], {"OTEL_TRAIN_INSTRUMENT": "1"}),
    "opentelemetry-instrument": (
        [str(BIN / "opentelemetry-instrument"), *QUIET, sys.executable, PLAIN, "--lr", "3", "-m"],
        {},
    ),
}


@pytest.fixture(scope="module")
def plain_loss(tmp_path_factory):
    """What the script says where nothing is instrumented."""
    return start([sys.executable, PLAIN, "--lr", "3", "-m"], tmp_path_factory.mktemp("plain")).stdout


@pytest.mark.parametrize("way", WAYS)
def test_ways_that_need_no_code(way, tmp_path, plain_loss):
    """Twenty steps with their phases; the script's output, arguments and loss are what they would have been."""
    command, variables = WAYS[way]
    done = start(command, tmp_path, **variables)
    assert (0, plain_loss) == (done.returncode, done.stdout), done.stderr
    assert "arguments ['--lr', '3', '-m'] main __main__" in done.stdout
    (run,) = recorded(tmp_path)
    assert (20, 80, "finished") == (run.merged.counts.training, run.merged.counts.samples, run.state)
    assert {"data_wait", "forward", "backward", "optimizer"} <= {phase.name for phase in run.merged.phases}
    assert "plain" == run.identities[0]["service_name"]


@pytest.mark.parametrize("way", ["init", "instrumentor"])
def test_ways_that_are_a_line_of_code(way, tmp_path):
    """``init(instrument=True)`` and ``TorchInstrumentor().instrument()``; said twice is once."""
    done = start([sys.executable, str(SCRIPTS / "in_code.py"), way], tmp_path)
    assert 0 == done.returncode, done.stderr
    (run,) = recorded(tmp_path)
    assert 20 == run.merged.counts.training
    assert ("in_code" if way == "init" else "chosen") == run.identities[0]["service_name"]


@pytest.mark.parametrize("command", [[*RUN, *TORCHRUN, PLAIN], [*TORCHRUN, "--no-python", *RUN, PLAIN]], ids=str)
def test_under_torchrun(command, tmp_path):
    """Around it or within it: one run of two ranks, and none of the agent's."""
    done = start(command, tmp_path, OMP_NUM_THREADS="1")
    assert 0 == done.returncode, done.stderr
    (run,) = recorded(tmp_path)
    assert ((0, 1), 40) == (run.merged.ranks, run.merged.counts.training)


def test_without_training_nothing_is_written(tmp_path):
    """A process that uses torch and trains nothing, its loader's workers, and what else Python runs."""
    done = start([sys.executable, str(SCRIPTS / "no_training.py")], tmp_path, OTEL_TRAIN_INSTRUMENT="1")
    assert (0, "done\n", "") == (done.returncode, done.stdout, done.stderr)
    assert [] == list(tmp_path.iterdir())


def test_children_that_train(tmp_path):
    """Forked or spawned, a child's training is a run of the child; the parent, which trains nothing, has none."""
    done = start([sys.executable, str(SCRIPTS / "children.py")], tmp_path, OTEL_TRAIN_INSTRUMENT="1")
    assert "fork 0\nspawn 0\n" == done.stdout, done.stderr
    assert [20, 20] == [run.merged.counts.training for run in recorded(tmp_path)]


def test_exit_code_is_the_scripts(tmp_path):
    """And the run is recorded."""
    done = start([*RUN, str(SCRIPTS / "ends_badly.py")], tmp_path)
    assert 7 == done.returncode, done.stderr
    assert [20] == [run.merged.counts.training for run in recorded(tmp_path)]


def test_options_are_settings(tmp_path):
    """Those of ``otel-train run`` come before the script's name."""
    options = ["--dir", str(tmp_path / "elsewhere"), "--run-id", "mine", "--level", "steps", "--service-name", "gpt"]
    done = start([*RUN, *options, PLAIN], tmp_path)
    assert 0 == done.returncode, done.stderr
    run = summarize_run(find_run(tmp_path / "elsewhere", "mine"))
    assert "gpt" == run.identities[0]["service_name"]
    assert {"data_wait", "other"} == {phase.name for phase in run.merged.phases}


def test_wrong_setting_stops_run_before_it_starts(tmp_path):
    """With what was got, what is allowed and what to do."""
    done = start([*RUN, "--level", "bogus", PLAIN], tmp_path)
    assert (2, "") == (done.returncode, done.stdout)
    assert "OTEL_TRAIN_LEVEL is 'bogus'; allowed is off or steps" in done.stderr


def test_wrong_setting_in_the_environment_stops_no_training(tmp_path, plain_loss):
    """It is said in one line, and the training goes on without a record."""
    done = start([sys.executable, PLAIN, "--lr", "3", "-m"], tmp_path, OTEL_TRAIN_INSTRUMENT="1", OTEL_TRAIN_LEVEL="x")
    assert (0, plain_loss) == (done.returncode, done.stdout)
    assert 1 == done.stderr.count("does not record this training: OTEL_TRAIN_LEVEL is 'x'")
    assert [] == recorded(tmp_path)


@pytest.mark.parametrize("disabled", ["torch", "requests, torch", "*"])
def test_disabled_instrumentations(disabled, tmp_path):
    """``OTEL_PYTHON_DISABLED_INSTRUMENTATIONS`` turns it off, whichever way it came in."""
    way = "opentelemetry-instrument" if disabled == "torch" else "environment"
    command, variables = WAYS[way]
    done = start(command, tmp_path, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=disabled, **variables)
    assert 0 == done.returncode, done.stderr
    assert [] == recorded(tmp_path)


def test_what_is_not_there(tmp_path):
    """A command that does not exist, and no command at all."""
    done = start([*RUN, "no-such-command"], tmp_path)
    assert 2 == done.returncode
    assert "'no-such-command' is neither a Python script nor a command" in done.stderr
    assert 2 == start(RUN, tmp_path).returncode


def test_declarative_configuration(tmp_path, monkeypatch):
    """``OTEL_CONFIG_FILE``: options under ``instrumentation/development``, below the environment, with variables."""
    file = tmp_path / "otel.yaml"
    file.write_text(
        'file_format: "1.0"\n'
        "instrumentation/development:\n  python:\n    torch:\n      level: ${WANTED:-steps}\n      keep_every: 7\n"
    )
    environ = {"OTEL_CONFIG_FILE": str(file)}
    assert ("steps", 7) == (load(environ=environ).level, load(environ=environ).keep_every)
    assert "phases" == load(environ={**environ, "WANTED": "phases"}).level
    assert "phases" == load(environ={**environ, "OTEL_TRAIN_LEVEL": "phases"}).level
    file.write_text("instrumentation/development: {python: {torch: {levl: steps}}}")
    with pytest.raises(SettingsError, match="has 'levl'; allowed are"):
        load(environ=environ)
    file.write_text("tracer_provider: {}")
    assert "gpu" == load(environ=environ).level


def test_environment_variables_are_options():
    """``opentelemetry-instrument`` knows every variable of ours, from the settings themselves."""
    from otel_train import environment_variables

    assert "OTEL_TRAIN_LEVEL" == environment_variables.OTEL_TRAIN_LEVEL
    done = subprocess.run([str(BIN / "opentelemetry-instrument"), "--help"], capture_output=True, text=True, check=True)
    assert "--train_level" in done.stdout


def test_resource_detector(monkeypatch):
    """The place in the job, for an application's own providers; a run id only where all ranks know it."""
    from otel_train.sinks.resource import TrainingResourceDetector

    assert {"dl.rank": 0, "dl.world_size": 1} == dict(TrainingResourceDetector().detect().attributes)
    for name, value in {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "SLURM_JOB_ID": "77"}.items():
        monkeypatch.setenv(name, value)
    found = dict(TrainingResourceDetector().detect().attributes)
    assert (3, 1, 4, "job-77", "77") == (
        found["dl.rank"],
        found["dl.local_rank"],
        found["dl.world_size"],
        found["dl.run.id"],
        found["dl.launcher.slurm_job_id"],
    )
