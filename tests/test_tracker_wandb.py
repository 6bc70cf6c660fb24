"""Weights & Biases, offline, with its real service: our values in the user's rows, and his rows as without us."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from wandb_file import history, summary

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The file of the same training with our values, and without; and what the run's step was at the end."""
    found = {}
    for kind in ("wandb", "wandb_alone"):
        folder = tmp_path_factory.mktemp(kind)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "WANDB_"))}
        environ = {**kept, "PYTHONPATH": str(HERE.parent), "OTEL_TRAIN_DIR": str(folder), "OTEL_TRAIN_RAISE": "1"}
        command = [sys.executable, str(HERE / "tracked_training.py"), kind, "-"]
        done = subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True, timeout=200)
        assert 0 == done.returncode, done.stderr
        assert "Error" not in done.stderr
        (file,) = folder.glob("wandb/offline-run-*/*.wandb")
        found[kind] = (file, int(done.stdout.split()[-1]))
    return found


def users(rows):
    """What the user logged: his values, by their step."""
    return [{key: row[key] for key in ("_step", "loss", "accuracy", "test", "later") if key in row} for row in rows]


def test_the_users_rows_are_as_without_us(files):
    """Each value at its step, also those that he adds to a row later; and his run goes on after ours."""
    alone, told = (files[kind] for kind in ("wandb_alone", "wandb"))
    assert users(history(alone[0])) == users(history(told[0]))
    assert {"_step": 0, "loss": 0.0, "accuracy": 25.0} == users(history(told[0]))[0]
    assert alone[1] == told[1]


def test_our_values_are_in_them(files):
    """At the training's step, which has a name of its own; a script that is not tracked has none."""
    rows = [row for row in history(files["wandb"][0]) if "otel_train/step_time/p50" in row]
    assert rows
    steps = [row["otel_train/step"] for row in rows]
    assert sorted(set(steps)) == steps
    assert 299 == steps[-1]
    assert all(row["otel_train/step_time/p50"] >= 0.01 for row in rows)
    assert [] == [key for row in history(files["wandb_alone"][0]) for key in row if key.startswith("otel_train")]


def test_the_summary_has_the_run(files):
    """Its measures, and what bounds it."""
    found = summary(files["wandb"][0])
    assert 300 == found["otel_train/run/steps"]
    assert found["otel_train/verdict"].startswith("phase: ")
    assert 0.9 < found["otel_train/run/phase/for ward_3f/share"] <= 1.0
    assert found["otel_train/run_id"]
