"""otel-train tune: a command's loaders get the settings that are tried, in the processes it starts and nowhere else."""

import json
import os
import sys
import textwrap

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")
from torch.utils.data import DataLoader, Dataset  # noqa: E402

from otel_train import instrumentation  # noqa: E402
from otel_train.cli import group  # noqa: E402
from otel_train.cli.run import is_autoloaded  # noqa: E402
from otel_train.errors import TuningError  # noqa: E402
from otel_train.hooks.loader_override import VARIABLE, settled  # noqa: E402
from otel_train.processes import is_alive  # noqa: E402
from otel_train.tuning.commands import Command  # noqa: E402
from otel_train.tuning.search import Setting  # noqa: E402

autoloaded = pytest.mark.skipif(not is_autoloaded(), reason="otel_train.pth is not installed in this Python")


class Numbers(Dataset):
    """Four of them."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return index


class OwnLoader(DataLoader):
    """A project's own, with its own defaults."""

    def __init__(self, dataset, workers=0):
        super().__init__(dataset, 2, num_workers=workers, persistent_workers=workers > 0)


@pytest.fixture
def trying(monkeypatch):
    """Settings that are being tried in this process."""

    def begin(**settings):
        monkeypatch.setenv(VARIABLE, json.dumps(settings))
        instrumentation.instrument()

    yield begin
    instrumentation.uninstrument()


def test_without_the_variable_nothing_is_replaced():
    """Zero code alone leaves the constructor as it is."""
    before = DataLoader.__init__
    instrumentation.instrument()
    try:
        assert DataLoader.__init__ is before
    finally:
        instrumentation.uninstrument()


def test_a_loader_gets_what_is_tried(trying):
    """Also where the script gave positional arguments; what is not tried stays. And the batches are the same."""
    trying(num_workers=1, prefetch_factor=4)
    loader = DataLoader(Numbers(), 2, False, None, None, 0, None, False, True)
    assert (1, 4, True, 2) == (loader.num_workers, loader.prefetch_factor, loader.drop_last, loader.batch_size)
    assert [[0, 1], [2, 3]] == [batch.tolist() for batch in loader]
    assert 1 == OwnLoader(Numbers()).num_workers


def test_without_workers_nothing_is_left_that_needs_them(trying):
    """A prefetch factor, persistent workers or a start method would be an error of torch's."""
    trying(num_workers=0)
    loader = DataLoader(Numbers(), 2, num_workers=2, prefetch_factor=3, persistent_workers=True, timeout=5,
                        multiprocessing_context="spawn")  # fmt: skip
    assert (0, None, False, 0) == (
        loader.num_workers,
        loader.prefetch_factor,
        loader.persistent_workers,
        loader.timeout,
    )
    assert 0 == OwnLoader(Numbers(), workers=3).num_workers


@pytest.mark.parametrize("content", ["2", "{num_workers: 2}", "[]"])
def test_what_the_command_does_not_set_is_told(content, monkeypatch, caplog):
    """Somebody set the variable by hand: a warning, and loaders stay as they are."""
    before = DataLoader.__init__
    monkeypatch.setenv(VARIABLE, content)
    instrumentation.instrument()
    try:
        assert DataLoader.__init__ is before
    finally:
        instrumentation.uninstrument()
    (said,) = [entry.getMessage() for entry in caplog.records if VARIABLE in entry.getMessage()]
    assert said.startswith(f"{VARIABLE}: got {content!r}; allowed is a JSON object")


def test_what_is_settled():
    """Only what is tried changes, where there are workers."""
    assert {"num_workers": 2} == settled({"num_workers": 0, "timeout": 3}, {"num_workers": 2})
    assert settled({}, {"pin_memory": True})["persistent_workers"] is False


TRAINING = """
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Slow(Dataset):
        def __len__(self):
            return 100000
        def __getitem__(self, index):
            return torch.ones(1)

    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    loader = DataLoader(Slow(), 2)
    open("workers", "w").write(str(loader.num_workers))
    for batch in loader:
        (parameter * batch.sum()).backward()
        optimizer.step()
"""

MARKED = """
    import json, os, time
    import otel_train

    open("pids", "a").write(f"{os.getpid()}\\n")
    tried = json.loads(os.environ.get("OTEL_TRAIN_TUNE", '{"num_workers": 0}'))
    wait_s = {0: 0.02, 1: 0.02, 2: 0.01}[tried["num_workers"]]

    def batches():
        while True:
            time.sleep(wait_s)
            yield 1

    with otel_train.init():
        for batch in otel_train.trace_dataloader(batches()):
            with otel_train.trace_step():
                time.sleep(0.002)
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Writes a script into the folder where it will run, and gives the command for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OTEL_TRAIN_RAISE")

    def write(text):
        (tmp_path / "train.py").write_text(textwrap.dedent(text))
        return [sys.executable, str(tmp_path / "train.py")]

    return write


@autoloaded
def test_an_unedited_training_is_measured_and_ended(script, tmp_path):
    """It would never end; its loader has the workers that are tried; nothing of it is left."""
    found = Command(script(TRAINING), 20).measure(Setting(1, 2), 0.0, 120.0)
    assert found.batches >= 15
    assert "1" == (tmp_path / "workers").read_text()
    assert VARIABLE not in os.environ


@autoloaded
def test_the_command_line_finds_what_is_fastest(script, tmp_path):
    """Two workers halve the wait of this training: they are taken, remembered, and nothing runs on."""
    runs = tmp_path / "runs"
    line = ["tune", "--dir", str(runs), "--steps", "10", "--budget", "60", "--max-workers", "2", "--json", "--"]
    line += script(MARKED)
    done = CliRunner().invoke(group, line, catch_exceptions=False)
    assert 0 == done.exit_code, done.output
    found = json.loads(done.stdout)
    assert 2 == found["settings"]["num_workers"]
    assert found["gain"] > 1.3
    assert not found["remembered"]
    assert "As the command sets its loaders" in found["evidence"][0]
    again = CliRunner().invoke(group, line, catch_exceptions=False)
    assert json.loads(again.stdout)["remembered"]
    pids = {int(pid) for pid in (tmp_path / "pids").read_text().split()}
    assert set() == {pid for pid in pids if is_alive(pid, None)}
    assert ["tuning.json"] == [path.name for path in runs.iterdir()]


@autoloaded
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("raise SystemExit('no data here')", "exit code 1 after 0 recorded steps, fewer than 8: no data here"),
        ("import time; time.sleep(1000)", "was ended after 1 s after 0 recorded steps"),
        ("import otel_train as o\nwith o.init():\n    for _ in range(9):\n        with o.trace_step(): pass",
         "no wait for a batch is recorded"),
    ],
)  # fmt: skip
def test_commands_that_tell_nothing(script, text, says):
    """Fail, hang, or have no loader: the reason is said, and nothing runs on."""
    with pytest.raises(TuningError, match=says):
        Command(script(text), 10).measure(Setting(0), 0.0, 1.0 if "sleep" in text else 60.0)


def test_what_is_typed_wrong():
    """No command, and one that is none."""
    assert "what is to be run is missing" in CliRunner().invoke(group, ["tune"]).output
    assert "neither a Python script nor a command" in CliRunner().invoke(group, ["tune", "--", "no-such-thing"]).output
