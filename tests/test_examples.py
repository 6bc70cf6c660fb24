"""The shipped examples, run as their users run them: real data, real workers, real checkpoints."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from otlp_receiver import OtlpReceiver

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(script, directory, *arguments, **environ):
    """Run an example; it must succeed."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    kept |= {"OTEL_TRAIN_DIR": str(directory), "PYTHONPATH": str(EXAMPLES.parent), **environ}
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    done = subprocess.run(command, env=kept, capture_output=True, text=True, timeout=200)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def report(directory):
    """The report of the newest run, as data."""
    command = [sys.executable, "-m", "otel_train.cli", "report", "--dir", str(directory), "--json"]
    environ = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


def test_losses_do_not_change(tmp_path):
    """The losses of char_gpt are the same bit for bit with otel_train off, recording, and exporting."""
    with OtlpReceiver() as receiver:
        ways = {
            "off": {"OTEL_TRAIN_ENABLED": "0"},
            "on": {},
            "exporting": {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.port}"},
        }
        losses = {}
        for way, environ in ways.items():
            run("char_gpt.py", tmp_path / way, "--steps", 40, "--losses", tmp_path / f"{way}.txt", **environ)
            losses[way] = (tmp_path / f"{way}.txt").read_text()
        assert "/v1/metrics" in {path for path, _, _ in receiver.requests}
    assert 40 == len(losses["off"].splitlines())
    assert losses["off"] == losses["on"] == losses["exporting"]
    assert not (tmp_path / "off").exists()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("script", "length"), [("digits.py", ("--epochs", 1)), ("char_gpt.py", ("--steps", 20))], ids=["digits", "char_gpt"]
)
def test_example_is_recorded(script, length, workers, tmp_path):
    """Each example leaves a run with steps, phases, evaluations and checkpoints, with and without workers."""
    run(script, tmp_path, *length, "--workers", workers)
    told = json.dumps(report(tmp_path))
    for word in ("forward", "backward", "optimizer", "data_wait", "loss"):
        assert f'"{word}"' in told
    events = "".join(path.read_text() for path in tmp_path.glob("*/rank-*/events-*.jsonl"))
    assert '"kind":"evaluation"' in events
    assert '"kind":"checkpoint"' in events


@pytest.mark.parametrize(
    ("script", "arguments"),
    [("digits.py", ("--epochs", 1, "--slow-dataset", 4)), ("char_gpt.py", ("--steps", 25, "--slow-dataset", 20))],
    ids=["digits", "char_gpt"],
)
def test_slow_dataset_is_named(script, arguments, tmp_path):
    """With a deliberately slow dataset the report's sentence says that the input bounds the run."""
    run(script, tmp_path, *arguments)
    bottleneck = report(tmp_path)["bottleneck"]
    assert "input" == bottleneck["verdict"]
    assert "input" in bottleneck["sentence"]
