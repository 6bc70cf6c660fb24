"""MLflow, with its real server on loopback: what gets there, and what becomes of it when the server is gone."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from log_builder import SECOND, LogBuilder
from mlflow_server import MlflowServer
from test_tracker_rows import built

import otel_train
from otel_train import active, instrumentation, names
from otel_train.cli import group
from otel_train.derive import catalogue
from otel_train.derive.summary import summarize_run
from otel_train.runlog.runs import find_run
from otel_train.settings import load
from otel_train.testing import FakeClock, record
from otel_train.trackers.mlflow import Mlflow
from otel_train.trackers.rows import tracked
from otel_train.tracking import Tracking

HERE = Path(__file__).parent
P50 = "otel_train/step_time/p50"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for all; a test that kills it starts it again."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow")).start()
    yield server
    server.kill()


@pytest.fixture
def client(server, monkeypatch):
    """A client of a server that is up."""
    if server.process.poll() is not None:
        server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    mlflow.set_tracking_uri(server.uri)
    yield mlflow.MlflowClient()
    while mlflow.active_run() is not None:
        mlflow.end_run()


def history(client, run_id, name=P50):
    return [(metric.step, metric.value) for metric in client.get_metric_history(run_id, name)]


def test_the_open_run_gets_the_measures(client):
    """At the training's steps and the record's times, with the verdict; the user's own values and run stay."""
    clock = FakeClock()
    run_id = mlflow.start_run().info.run_id
    with record(clock, trackers="mlflow", exit_timeout_s=60):
        for _ in range(35):
            with otel_train.trace_step(samples=4), otel_train.trace_phase("for/ward?"):
                clock.advance(1.0)
            otel_train.log(loss=float("nan"))
        mlflow.log_metric("loss", 3.0, step=7)
    run = client.get_run(run_id)
    assert [9, 19, 29, 34] == [step for step, _ in history(client, run_id)]
    assert [1.0] * 4 == [value for _, value in history(client, run_id)]
    metrics = run.data.metrics
    assert (35.0, 1.0) == (metrics["otel_train/run/steps"], metrics["otel_train/phase/for_2fward_3f/share"])
    assert ["loss"] == [name for name in metrics if not name.startswith("otel_train/")]
    assert "test" == run.data.tags["otel_train.run_id"]
    assert run.data.tags["otel_train.verdict"].startswith("phase: 100 % of the step time is spent in 'for/ward?'")
    assert "RUNNING" == run.info.status


def test_a_run_that_is_opened_after_init_gets_the_beginning_too(client):
    """The thread finds it, though MLflow's runs are active by thread; nothing is told before there is one."""
    clock = FakeClock()
    with record(clock, trackers="auto", exit_timeout_s=60):
        for _ in range(15):
            with otel_train.trace_step():
                clock.advance(1.0)
        run_id = mlflow.start_run().info.run_id
    assert [9, 14] == [step for step, _ in history(client, run_id)]


def tracking_of(log, now_ns):
    """A thread that is not started: the test looks for it, at times of its own."""
    return Tracking(Mlflow(), load({"trackers": "mlflow"}, environ={}), log, lambda: now_ns[0])


def test_two_runs_one_after_the_other(client, tmp_path):
    """Each gets what was recorded while it was open; the last one the summary; neither what lay between."""
    log = built(tmp_path).log
    now_ns = [0]
    tracking = tracking_of(log, now_ns)
    first = mlflow.start_run().info.run_id
    tracking.look()
    now_ns[0] = 15 * SECOND
    mlflow.end_run()
    tracking.look()
    now_ns[0] = 22 * SECOND
    second = mlflow.start_run().info.run_id
    tracking.look()
    mlflow.end_run()
    now_ns[0] = 40 * SECOND
    tracking.start()
    tracking.end_soon()
    tracking.join()
    assert tracking.is_complete
    assert [9, 14] == [step for step, _ in history(client, first)]
    assert 22 <= min(step for step, _ in history(client, second))
    assert [40.0] == [value for _, value in history(client, second, "otel_train/run/steps")]
    assert "otel_train/run/steps" not in client.get_run(first).data.metrics
    assert ["FINISHED"] * 2 == [client.get_run(run_id).info.status for run_id in (first, second)]


def test_alerts_are_tags(client, tmp_path):
    """With what they say; a deleted run costs a warning, and no other run its values."""
    log = LogBuilder(tmp_path)
    told = {names.ALERT_RULE: "hang", names.ALERT_STATE: names.FIRING, names.ALERT_SUMMARY: "no step"}
    log.event(names.ALERT, 2 * SECOND, attributes=told)
    now_ns = [15 * SECOND]
    tracking = tracking_of(log.log, now_ns)
    run_id = mlflow.start_run().info.run_id
    tracking.look()
    run = client.get_run(run_id)
    assert ("no step", 1.0) == (run.data.tags["otel_train.alert.hang"], run.data.metrics["otel_train/alert/hang"])
    assert not tracking.is_complete


def test_a_run_that_is_gone_is_said_once(client, tmp_path, caplog):
    """Deleted in MLflow while it is open here: one warning, and the training knows nothing of it."""
    clock = FakeClock()
    run_id = mlflow.start_run().info.run_id
    client.delete_run(run_id)
    with record(clock, trackers="mlflow", exit_timeout_s=60):
        for _ in range(30):
            with otel_train.trace_step():
                clock.advance(1.0)
    said = [entry.getMessage() for entry in caplog.records if "did not take measures" in entry.getMessage()]
    assert 1 == len(said), said
    assert "Training and record go on" in said[0]
    client.restore_run(run_id)


def test_no_open_run_is_said(caplog):
    """Where MLflow was named; with ``auto`` there is nothing to say."""
    for trackers, expected in (("mlflow", 1), ("auto", 0)):
        caplog.clear()
        with record(trackers=trackers), otel_train.trace_step():
            pass
        assert expected == len([entry for entry in caplog.records if "no run of it was seen" in entry.getMessage()])


class Training:
    """``tracked_training.py`` in a process of its own."""

    def __init__(self, tmp_path, kind, **environ):
        self.stop = tmp_path / "stop"
        kept = {key: value for key, value in os.environ.items() if key != "OTEL_TRAIN_RAISE"}
        command = [sys.executable, str(HERE / "tracked_training.py"), kind, str(self.stop)]
        self.process = subprocess.Popen(
            command, env={**kept, "PYTHONPATH": str(HERE.parent), **environ}, cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.run_id = self.process.stdout.readline().strip()

    def finish(self):
        """Let it end; returns the steps that it took, and what otel_train and urllib3 said."""
        self.stop.touch()
        out, said = self.process.communicate(timeout=120)
        assert 0 == self.process.returncode, said
        return int(out), [line for line in said.splitlines() if "run " in line or "Retry" in line or "rror" in line]


KINDS = ("mlflow did not take measures of run", "mlflow was not told all of run")


def assert_each_is_said_once(said):
    """A failure while the run goes on and what is untold at its end, each once; which of them is up to the moment."""
    kinds = [kind for line in said for kind in KINDS if kind in line]
    assert len(said) == len(kinds) == len(set(kinds)) > 0, said


def recorded_steps(tmp_path):
    (log,) = find_run(tmp_path / "runs", None).ranks()
    return sum(len(records) for _, records in log.steps.read())


def wait_for_rows(client, training, count=1):
    """Until MLflow has that many of our rows; each look is a request."""
    while len(history(client, training.run_id)) < count:
        assert training.process.poll() is None, training.process.stderr.read()


def test_a_server_that_dies_loses_nothing(server, client, tmp_path, monkeypatch):
    """The training goes on and ends in its time, with a warning; the record is whole, and MLflow gets it later."""
    training = Training(tmp_path, "mlflow", MLFLOW_TRACKING_URI=server.uri)
    wait_for_rows(client, training)
    server.kill()
    steps, said = training.finish()
    assert_each_is_said_once(said)
    assert steps == recorded_steps(tmp_path)
    server.start()
    monkeypatch.setenv("MLFLOW_RUN_ID", training.run_id)
    done = CliRunner().invoke(group, ["export", "--to", "mlflow"])
    assert 0 == done.exit_code, done.output
    assert steps - 1 == history(client, training.run_id)[-1][0]
    assert "RUNNING" == client.get_run(training.run_id).info.status


def test_a_server_that_was_never_there(tmp_path):
    """A run by its id, of a server that does not answer: a warning, all steps recorded."""
    training = Training(tmp_path, "mlflow_by_id", MLFLOW_TRACKING_URI="http://127.0.0.1:9", MLFLOW_RUN_ID="0" * 32)
    steps, said = training.finish()
    assert_each_is_said_once(said)
    assert steps == recorded_steps(tmp_path)


def test_sigkill(server, client, tmp_path):
    """What was told stays told, and the user's run is left as he left it."""
    training = Training(tmp_path, "mlflow", MLFLOW_TRACKING_URI=server.uri)
    wait_for_rows(client, training, 2)
    training.process.send_signal(signal.SIGKILL)
    training.process.communicate()
    steps = [step for step, _ in history(client, training.run_id)]
    assert sorted(steps) == steps
    assert steps[-1] < recorded_steps(tmp_path)
    assert "RUNNING" == client.get_run(training.run_id).info.status


def test_a_record_is_told_afterwards(client, tmp_path, monkeypatch):
    """In a run of its own, of the record's name and time; ended, as the training is."""
    log = built(tmp_path / "runs")
    log.save_identity(end={"unix_ns": log.log.anchor.to_unix_ns(log.end_ns), "monotonic_ns": log.end_ns})
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "afterwards")
    done = CliRunner().invoke(group, ["export", "--to", "mlflow"])
    assert (0, True) == (done.exit_code, "4 rows and the summary are in run" in done.output), done.output
    experiment = client.get_experiment_by_name("afterwards").experiment_id
    (run,) = client.search_runs([experiment])
    assert ("run-a", "FINISHED") == (run.info.run_name, run.info.status)
    assert log.log.anchor.unix_ns // 1_000_000 == run.info.start_time
    assert [9, 19, 29, 39] == [step for step, _ in history(client, run.info.run_id)]
    expected = summarize_run(find_run(tmp_path / "runs", None))
    for name in ("step_time.p95", "checkpoint.rate", "wall_time", "stepping.share"):
        value = catalogue.find(name).of(expected)
        assert pytest.approx(value) == run.data.metrics[tracked("run", *name.split("."))], name


def test_a_server_that_is_away_is_an_error_of_one_line(tmp_path, monkeypatch):
    """On the command line, with where it was looked for."""
    built(tmp_path / "runs")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    done = CliRunner().invoke(group, ["export", "--to", "mlflow"])
    assert 1 == done.exit_code
    assert done.output.startswith("Error: MLflow at http://127.0.0.1:9 does not take run run-a")


def test_nothing_is_imported_that_the_user_did_not(tmp_path):
    """With ``auto`` and all three installed: a training that uses none of them loads none of them."""
    program = (
        "import sys, otel_train\n"
        "with otel_train.init(trackers='auto', tracker_interval_s=1):\n"
        "    with otel_train.trace_step(): pass\n"
        "print([name for name in ('mlflow', 'tensorboard', 'wandb') if name in sys.modules])\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert "[]\n" == done.stdout


def test_nothing_is_left(client):
    """After a run: no thread, no filter on another's logger, no hook."""
    logger = logging.getLogger("urllib3.connectionpool")
    before = list(logger.filters)
    mlflow.start_run()
    with record(trackers="mlflow", exit_timeout_s=60), otel_train.trace_step():
        pass
    assert active.session is None
    assert not instrumentation.is_instrumented()
    assert before == logger.filters
