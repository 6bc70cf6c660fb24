"""Causes of a slow step, made on a real GPU and profiled there: each is found by name."""

import time

import pytest

import otel_train
from otel_train import active, names
from otel_train.testing import record


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
