"""What holds for every test: its own directory and environment, failures raised, and nothing left behind."""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from otel_train import active, guard, instrumentation
from otel_train.recorder import scopes
from otel_train.recorder.signals import signals

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # a machine with other work is slow at drawing examples, which is no fault of theirs

PREFIXES = ("OTEL_", "TORCHELASTIC_", "SLURM_", "OMPI_", "PMI_")
NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TRACEPARENT")
PATCHABLE = (
    "torch.autograd.backward",
    "torch.save",
    "torch.load",
    "torch.Tensor.backward",
    "torch.Tensor.to",
    "torch.nn.Module.__call__",
    "torch.nn.Module.zero_grad",
    "torch.nn.utils.clip_grad_norm_",
    "torch.utils.data.DataLoader.__init__",
    "torch.utils.data.DataLoader.__iter__",
    "torch.utils.data.dataloader._BaseDataLoaderIter.__next__",
    "torch.utils.data.dataloader._MultiProcessingDataLoaderIter.__init__",
    "torch.amp.GradScaler.step",
    "torch.optim.Optimizer.zero_grad",
    "torch.distributed.all_reduce",
)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runs go to the test's own folder; the caller's variables do not matter; our own failures are raised."""
    for name in list(os.environ):
        if name.startswith(PREFIXES) or name in NAMES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("OTEL_TRAIN_RAISE", "1")
    monkeypatch.setenv("OTEL_TRAIN_OVERHEAD_BUDGET", "off")  # steps of tests are short: the governor would see to them


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """A test that leaves a run, a hook, a thread or a patched torch behind fails."""
    guard.forget()
    before = _torch_as_it_is()
    yield
    guard.forget()
    session = active.session
    if session is not None:
        session.shutdown()
    assert session is None, "a run was left active"
    assert active.recorder is None
    assert scopes.Step.__enter__ is scopes._nothing, "a recorder was left in the scopes"
    assert scopes.Phase.__exit__ is scopes._nothing
    assert [] == scopes._on_new_phase
    assert not instrumentation.is_instrumented(), "hooks were left in place"
    assert signals.begin_run is None
    for thread in threading.enumerate():
        if thread.name.startswith("otel_train."):
            thread.join(10)  # shutdown() has told it to end, and waits half a second for what it is about
    assert [] == [thread.name for thread in threading.enumerate() if thread.name.startswith("otel_train.")]
    assert before == {name: thing for name, thing in _torch_as_it_is().items() if name in before}, (
        "torch was left patched"
    )


def _torch_as_it_is() -> dict[str, object]:
    found: dict[str, object] = {}
    for path in PATCHABLE:
        thing: object = sys.modules.get("torch")
        for part in path.split(".")[1:]:
            thing = getattr(thing, part, None) if thing is not None else None  # None has an __init__ too
        if thing is not None:
            found[path] = thing
    return found
