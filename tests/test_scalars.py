"""``log()``: values of every kind, and a word when one is not finite."""

import math

import pytest

import otel_train
from otel_train.testing import FakeClock, ScalarRecord, record


@pytest.fixture
def clock():
    """Time that passes when told to."""
    return FakeClock()


@pytest.fixture
def run(clock):
    """A run in memory."""
    with record(clock) as recording:
        yield recording


def test_values_belong_to_their_step(run):
    """Values are recorded under the step that is going on, or else the last one; -1 before the first."""
    otel_train.log(warmup=1)
    for _ in range(2):
        with otel_train.trace_step():
            otel_train.log(loss=0.5)
        otel_train.log(learning_rate=1e-3)
    assert [
        ScalarRecord(-1, "warmup", 1.0),
        ScalarRecord(0, "loss", 0.5),
        ScalarRecord(0, "learning_rate", 1e-3),
        ScalarRecord(1, "loss", 0.5),
        ScalarRecord(1, "learning_rate", 1e-3),
    ] == run.scalars


def test_kinds_of_values(run):
    """Numbers, numpy's numbers, tensors of one element in any type, with a gradient or not; None is nothing."""
    import numpy as np
    import torch

    otel_train.log(
        a=1, b=True, c=np.float32(0.25), d=torch.tensor(2.5), e=torch.tensor([3.0], requires_grad=True),
        f=torch.tensor(1.5, dtype=torch.bfloat16), g=torch.tensor(4), h=None, i=np.array([[7.0]]),
    )  # fmt: skip
    assert {"a": 1.0, "b": 1.0, "c": 0.25, "d": 2.5, "e": 3.0, "f": 1.5, "g": 4.0, "i": 7.0} == {
        scalar.name: scalar.value for scalar in run.scalars
    }


def test_logging_does_not_touch_the_graph(run):
    """Logging a loss before ``backward`` changes no gradient."""
    import torch

    weight = torch.tensor(3.0, requires_grad=True)
    loss = weight * 2
    otel_train.log(loss=loss)
    loss.backward()
    assert 2.0 == weight.grad.item()


def test_wrong_values_are_not_recorded(run, caplog):
    """What is no number is left out, with one warning a name that says what to do; nothing raises."""
    import torch

    for _ in range(3):
        otel_train.log(loss=torch.ones(2), text="high", good=1.0)
    assert [1.0] * 3 == [scalar.value for scalar in run.scalars]
    assert ["loss", "text"] == [entry.args[0] for entry in caplog.records]
    assert "log(loss=loss.mean())" in caplog.text


def test_not_finite(run, clock):
    """Each such value is recorded as it is; the event comes once a minute and name, with the number so far."""
    for value in (math.nan, math.inf, 1.0, -math.inf):
        otel_train.log(loss=value)
    otel_train.log(grad_norm=math.nan)
    clock.advance(61)
    otel_train.log(loss=math.nan)
    assert [True, True, False, True, True, True] == [not math.isfinite(scalar.value) for scalar in run.scalars]
    assert [("loss", "nan", 1), ("grad_norm", "nan", 1), ("loss", "nan", 4)] == [
        tuple(event.attributes[f"dl.scalar.{key}"] for key in ("name", "value", "nonfinite.count"))
        for event in run.events
    ]


def test_made_up_names_are_bounded(run, caplog):
    """A loop that makes up names fills neither memory nor backends: after a thousand a warning says why."""
    for number in range(1100):
        otel_train.log(**{f"loss_{number}": 1.0})
    assert 1000 == len(run.scalars)
    assert "the step belongs into the value" in caplog.text


def test_from_several_threads(run):
    """Values logged by several threads at once are all there, each whole."""
    import threading

    def log_many(name):
        for number in range(2000):
            otel_train.log(**{name: number})

    threads = [threading.Thread(target=log_many, args=(f"thread_{index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(4):
        values = [scalar.value for scalar in run.scalars if scalar.name == f"thread_{index}"]
        assert list(map(float, range(2000))) == values
