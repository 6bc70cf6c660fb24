"""Causes of a slow step, made on a real GPU and profiled there: each is found by name."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import otel_train
from otel_train import active, names
from otel_train.profiles.found import profiles_of
from otel_train.runlog.runs import find_run
from otel_train.testing import record

RANK = Path(__file__).parent.parent / "late_rank.py"


def causes(torch):
    """What a step does, by what bounds it."""
    large = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    long = torch.randn(1 << 26, device="cuda")
    short = torch.randn(64, device="cuda")
    pageable = torch.randn(1 << 24)

    def synchronising():
        """A loss that is read before the host does its own work: the GPU has nothing to do meanwhile."""
        for _ in range(5):
            float((large @ large)[0, 0])
            sum(range(1_000_000))

    return {
        "compute": lambda: [large @ large for _ in range(4)],
        "memory": lambda: [long.mul_(1.0001) for _ in range(40)],
        "launch": lambda: [short.add_(1) for _ in range(1000)],
        "copy": lambda: [pageable.to("cuda") for _ in range(3)],
        "synchronisation": synchronising,
        "input": lambda: short.add_(1),
    }


@pytest.mark.parametrize("bound", ["compute", "memory", "launch", "copy", "synchronisation", "input"])
def test_what_bounds_a_step(cuda, bound):
    """The largest share is the cause that was made."""
    work = causes(cuda)[bound]

    def samples():
        for _ in range(12):
            if bound == "input":
                time.sleep(0.02)
            yield None

    with record(profile_steps="8", overhead_budget="off") as run:
        for _ in otel_train.trace_dataloader(samples()):
            with otel_train.trace_step():
                work()
        active.session.profiling._digesting.join(60)
    (event,) = [event for event in run.events if event.kind == names.PROFILE]
    shares = event.attributes[names.PROFILE_SHARES]
    print(f"\n{bound}: {dict(sorted(shares.items(), key=lambda row: -row[1]))}")
    print(f"slower by {event.attributes.get(names.PROFILE_SLOWDOWN)} s than usual")
    assert bound == event.attributes[names.PROFILE_BOUND], shares


@pytest.mark.parametrize(("collective", "waiting"), [("late", [True, False]), ("large", [True, True])])
def test_a_slow_collective(cuda, tmp_path, collective, waiting):
    """Two ranks under NCCL: one waits in its kernel for the other, or both move far more than they calculate."""
    if cuda.cuda.device_count() < 2:
        pytest.skip("one device only")
    environ = {
        **os.environ, "OTEL_TRAIN_DIR": str(tmp_path), "OTEL_TRAIN_RUN_ID": "two", "OTEL_TRAIN_PROFILE_STEPS": "25",
        "OTEL_TRAIN_OVERHEAD_BUDGET": "off", "WORLD_SIZE": "2", "BACKEND": "nccl", "COLLECTIVE": collective,
        "STORE": str(tmp_path / "store"),
    }  # fmt: skip
    ranks = [
        subprocess.Popen([sys.executable, str(RANK)], env={**environ, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    assert [0, 0] == [rank.wait(120) for rank in ranks]
    found = []
    for rank in find_run(tmp_path, "two").ranks():
        (profile,) = profiles_of(rank)
        found.append(profile.event.attributes)
        shares = profile.event.attributes[names.PROFILE_SHARES]
        print(f"\n{collective}: {dict(sorted(shares.items(), key=lambda row: -row[1]))}")
    assert waiting == ["communication" == told[names.PROFILE_BOUND] for told in found]
