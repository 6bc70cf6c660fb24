"""tune_workers(): the number of workers at which a job stops scaling; nothing is left running."""

import multiprocessing
import os
import signal
import threading
import time

import pytest

import otel_train
from otel_train.errors import SettingsError, TuningError
from otel_train.tuning.grants import Grants

ONE_CPU = Grants(1.0, (0,), None, 1, None, None, {}, None)
LOCK = threading.Lock()


def blocked(item):
    """Waits, as for a network: many at a time cost nothing."""
    time.sleep(0.01)


def one_at_a_time(item):
    """Cannot scale at all."""
    with LOCK:
        time.sleep(0.005)


def broken(item):
    """Fails."""
    raise ValueError(f"no item {item}")


def deadly(item):
    """Takes its process with it."""
    os.kill(os.getpid(), signal.SIGKILL)


def endless(item):
    """Hangs."""
    threading.Event().wait()


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No process and no thread of ours outlives a search."""
    yield
    assert [] == multiprocessing.active_children()
    assert [] == [thread for thread in threading.enumerate() if thread.name.startswith("otel_train.")]


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_blocked_job_scales(kind):
    """To as many workers as are allowed, though there is one CPU; and the reason says that it was the most."""
    found = otel_train.tune_workers(blocked, range(50), kind=kind, max_workers=4, budget_s=3, grants=ONE_CPU)
    assert 4 == found.workers
    assert found.gain > 2
    assert [1, 2, 3, 4] == [each.workers for each in found.curve]
    assert "the most that were tried" in str(found)


def test_a_job_that_cannot_scale_gets_one_worker():
    """Two rounds of twice the workers without gain end the climb."""
    found = otel_train.tune_workers(
        one_at_a_time, range(50), kind="threads", max_workers=64, budget_s=4, grants=ONE_CPU
    )
    assert max(each.workers for each in found.curve) < 64
    assert found.gain < 1.5
    assert "More than" in str(found)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_function_that_raises(kind):
    """Its error is told."""
    with pytest.raises(TuningError, match="ValueError: no item 0"):
        otel_train.tune_workers(broken, range(3), kind=kind)


def test_a_worker_that_dies():
    """Is not waited for."""
    with pytest.raises(TuningError, match="died"):
        otel_train.tune_workers(deadly, range(3), budget_s=20)


def test_a_function_that_hangs():
    """Is killed when the budget is over."""
    with pytest.raises(TuningError, match="not one item within"):
        otel_train.tune_workers(endless, range(3), budget_s=0.5)


def test_spawned_processes():
    """Function and items go to them by pickling. The budget is for a process that takes seconds to start, too."""
    found = otel_train.tune_workers(blocked, range(5), max_workers=1, budget_s=12, start_method="spawn")
    assert (1, 1.0) == (found.workers, found.gain)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"items": []}, TuningError, "no items"),
        ({"kind": "fibers"}, SettingsError, "allowed are processes and threads"),
        ({"budget_s": 0}, SettingsError, "allowed are seconds above 0"),
        ({"max_workers": 0}, SettingsError, "allowed are whole numbers from 1 on"),
    ],
)
def test_wrong_arguments(arguments, error, says):
    """What is allowed is said."""
    with pytest.raises(error, match=says):
        otel_train.tune_workers(blocked, **{"items": range(3)} | arguments)


def test_the_curve_as_json_and_as_a_picture(tmp_path):
    """For programs and for people."""
    pytest.importorskip("matplotlib")
    found = otel_train.tune_workers(blocked, range(5), kind="threads", max_workers=2, budget_s=0.5)
    assert ["workers", "items_per_s", "speedup", "efficiency"] == list(found.as_dict()["curve"][0])
    found.plot(tmp_path / "job.svg")
    assert "<svg" in (tmp_path / "job.svg").read_text()
