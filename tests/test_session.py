"""``init()`` to ``shutdown()``, in every order and however the process ends."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import otel_train
from otel_train import active
from otel_train.runlog.ranklog import RankLog
from otel_train.testing import record

ROOT = Path(__file__).parent.parent


def run_program(program, tmp_path, **environ):
    """Run a program as a process of its own; returns it, finished."""
    kept = {**os.environ, "OTEL_TRAIN_DIR": str(tmp_path / "runs"), "PYTHONPATH": str(ROOT), **environ}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=kept, capture_output=True, text=True, timeout=120, cwd=tmp_path)


def the_log(tmp_path):
    """The only rank's log in the test's directory."""
    (path,) = (tmp_path / "runs").glob("*/rank-*")
    return RankLog.open(path)


def test_with_block(tmp_path):
    """The handle is a context manager: the run is recorded, and closed at the end of the block."""
    with otel_train.init(dir=tmp_path / "runs", service_name="gpt") as run:
        with otel_train.trace_step():
            pass
        assert (run.rank, run.path.parent.name) == (0, run.id)
        assert "end" not in the_log(tmp_path).read_identity()
    identity = the_log(tmp_path).read_identity()
    assert ("gpt", run.id, 1) == (identity["service_name"], identity["run_id"], the_log(tmp_path).steps.bounds()[1])
    assert "error" not in identity["end"]


def test_what_run_json_knows():
    """Identity, process, settings, hardware, software and the commit, of this machine."""
    import platform

    with otel_train.init(service_name="described", resource_attributes={"team": "a"}) as run:
        pass
    identity = json.loads((run.path / "run.json").read_text())
    assert os.getpid() == identity["process"]["pid"]
    assert platform.python_version() == identity["software"]["python"]
    assert os.cpu_count() == identity["hardware"]["cpu"]["count"]
    assert identity["hardware"]["memory_bytes"] > 1 << 20
    assert {"team": "a"} == identity["resource_attributes"]
    assert {"step_ns", "phase_ns", "data_wait_ns", "hook_ns"} == set(identity["calibration"])
    assert "local_rank" not in identity, "missing is missing"


def test_commit_of_the_script(tmp_path):
    """The commit is that of the script's work tree, dirty when a tracked file changed; none outside of one."""
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    (tmp_path / "work").mkdir()
    script = tmp_path / "work" / "train.py"
    script.write_text("import otel_train\nwith otel_train.init(): pass\n")
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}

    def git_of_run(name):
        subprocess.run(
            [sys.executable, str(script)], env={**environ, "OTEL_TRAIN_DIR": str(tmp_path / name)}, check=True
        )
        (path,) = (tmp_path / name).glob("*/rank-*/run.json")
        return json.loads(path.read_text()).get("git")

    assert git_of_run("none") is None
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], cwd=script.parent, check=True)
    clean = git_of_run("clean")
    script.write_text(script.read_text() + "# changed\n")
    assert (False, {**clean, "dirty": True}) == (clean["dirty"], git_of_run("dirty"))


def test_init_again():
    """The same settings, or none, give the run that is going on; others are an error that says what to do."""
    with otel_train.init(service_name="one") as run:
        assert otel_train.init(service_name="one") is run
        assert otel_train.init() is run
        with pytest.raises(otel_train.AlreadyInitialized, match=r"service_name differ.*shutdown\(\) first"):
            otel_train.init(service_name="two")
        assert active.session is not None
    with otel_train.init(service_name="two") as second:
        assert second.id != run.id


def test_shutdown_twice_and_without_a_run():
    """Shutting down is harmless at any time."""
    otel_train.shutdown()
    run = otel_train.init()
    otel_train.shutdown()
    run.shutdown()
    otel_train.shutdown()
    with otel_train.trace_step():
        pass


def test_letting_go_of_the_handle(tmp_path):
    """A script that drops the handle goes on being recorded."""
    otel_train.init(dir=tmp_path / "runs")
    gc.collect()
    with otel_train.trace_step():
        pass
    otel_train.shutdown()
    assert 1 == the_log(tmp_path).steps.bounds()[1]


def test_exception_out_of_the_block(tmp_path):
    """The run's end has the exception, which goes on up."""
    with pytest.raises(KeyError), otel_train.init(dir=tmp_path / "runs"):
        raise KeyError("gone")
    assert "KeyError" == the_log(tmp_path).read_identity()["end"]["error"]["type"]


def test_exit_without_shutdown(tmp_path):
    """A process that simply ends has closed its run."""
    done = run_program("import otel_train\notel_train.init()\nwith otel_train.trace_step(): pass\n", tmp_path)
    assert (0, "") == (done.returncode, done.stderr)
    assert (1, True) == (the_log(tmp_path).steps.bounds()[1], "end" in the_log(tmp_path).read_identity())


@pytest.mark.parametrize(
    "environ", [{"OTEL_TRAIN_ENABLED": "0"}, {"OTEL_TRAIN_LEVEL": "off"}, {"OTEL_SDK_DISABLED": "true"}], ids=str
)
def test_turned_off(tmp_path, environ):
    """Off means off: the script runs as it would, nothing is written, no thread runs."""
    program = (
        "import otel_train, threading\n"
        "with otel_train.init() as run:\n"
        "    with otel_train.trace_step(): otel_train.log(loss=1.0)\n"
        "    print(run.id, run.path, threading.active_count())\n"
    )
    done = run_program(program, tmp_path, **environ)
    assert ("None None 1\n", "") == (done.stdout, done.stderr)
    assert not (tmp_path / "runs").exists()


def test_everything_works_without_init(tmp_path):
    """A library may be instrumented: without a run every call does nothing, returns and raises as before."""
    with otel_train.trace_step(samples=1, step=3), otel_train.trace_phase("x"):
        otel_train.log(loss=object())
    with otel_train.trace_epoch(1), otel_train.trace_checkpoint("nowhere"), otel_train.timed("t"):
        pass
    with otel_train.trace_evaluation("v"):
        pass

    @otel_train.trace_step(samples=lambda: 1 / 0)
    def train():
        return 5

    assert 5 == train()
    assert [1, 2] == list(otel_train.trace_dataloader([1, 2]))
    with pytest.raises(ZeroDivisionError), otel_train.trace_step():
        1 / 0  # noqa: B018
    assert [] == list(tmp_path.iterdir())


def test_scopes_made_before_init_record_after_it():
    """Decorators and kept scopes of a library that was imported first are recorded."""
    forward, step = otel_train.trace_phase("early"), otel_train.trace_step(samples=3)
    evaluation = otel_train.trace_evaluation("early")

    @otel_train.trace_step
    def train():
        with forward:
            pass

    with record() as run:
        train()
        with step:
            pass
        with evaluation:
            pass
    assert [(None, 1), (3, 0)] == [(entry.samples, len(entry.phases)) for entry in run.steps]
    assert ["evaluation"] == [event.kind for event in run.events]


def test_a_run_after_a_run():
    """The next run of a process starts afresh: numbers, names and scalars are its own."""
    for _ in range(2):
        with record() as run, otel_train.trace_step(), otel_train.trace_phase("forward"):
            otel_train.log(loss=1.0)
        assert [0] == [step.step for step in run.steps]
        assert "forward" == run.steps[0].phases[0].name
        assert ["loss"] == [scalar.name for scalar in run.scalars]


def test_recording_inside_a_run_is_refused():
    """The testing helper does not take a run's place."""
    with record(), pytest.raises(RuntimeError, match="going on already"), record():
        pass


def test_failures_of_ours_do_not_reach_the_training(monkeypatch, caplog):
    """Whatever breaks inside otel_train: the step goes on, one line is logged, and the failure is counted."""
    from otel_train import guard

    monkeypatch.delenv("OTEL_TRAIN_RAISE")

    def broken(*arguments):
        raise RuntimeError("our own bug")

    with record() as run:
        monkeypatch.setattr(active.session.store, "write_event", broken)
        monkeypatch.setattr(active.recorder.sidelines, "_write_event", broken)
        for number in range(3):
            with otel_train.trace_epoch(number), otel_train.trace_step():
                pass
        assert 3 == guard.counts["event"]
    assert 3 == len(run.steps)
    assert 1 == sum("our own bug" in entry.getMessage() for entry in caplog.records if "event" in entry.getMessage())


def test_overhead_is_measured(tmp_path):
    """The last note on health has what otel_train cost, on the training thread and beside it."""
    with otel_train.init(dir=tmp_path / "runs"):
        for _ in range(1000):
            with otel_train.trace_step(), otel_train.trace_phase("forward"):
                pass
    log = the_log(tmp_path)
    health = [event.attributes for event, _ in log.events() if event.kind == "health"][-1]
    calibration = log.identity["calibration"]
    expected_s = (1000 * calibration["step_ns"] + 1000 * calibration["phase_ns"]) / 1e9
    assert health["otel_train.overhead.time.training"] == pytest.approx(expected_s)
    assert health["otel_train.overhead.time.background"] > 0


def test_a_short_run_is_sent_and_lets_go():
    """A run that is over before its first export is sent whole at its end, and its lock and files are let go of."""
    from otlp_receiver import OtlpReceiver

    with OtlpReceiver() as receiver:
        for _ in range(3):
            with otel_train.init(endpoint=receiver.endpoint) as run, otel_train.trace_step():
                pass
            (path,) = [run.path / "export.lock"]
            assert str(path) not in {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
        assert 3 == len([span for span in receiver.spans if span.name == "dl.step"])


@pytest.mark.parametrize("kind", ["tracer_provider", "meter_provider", "logger_provider"])
def test_a_provider_that_is_none(kind):
    """What is no provider is refused at ``init()``, by name."""
    with pytest.raises(otel_train.SettingsError, match=rf"init\({kind}=…\) is 'x'"):
        otel_train.init(**{kind: "x"})


def test_a_missing_extra_is_said_at_init(monkeypatch):
    """gRPC without its package: ``init()`` raises with the command to type, and leaves no run behind."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(otel_train.OtelTrainError, match=r"pip install"):
        otel_train.init(endpoint="http://127.0.0.1:1", protocol="grpc")
    assert active.session is None
