"""CUDA's allocator runs out, on a real GPU: recorded with its figures, and the training may go on."""

import pytest

from otel_train import instrumentation
from otel_train.testing import record


def test_out_of_memory_is_an_event_on_its_step(cuda):
    """With what was asked for, what the device had, and what the allocator held; after the undo nothing is recorded."""
    model = cuda.nn.Linear(64, 64).cuda()
    optimizer = cuda.optim.SGD(model.parameters(), lr=0.1)
    too_much = cuda.cuda.get_device_properties(0).total_memory

    def steps(count, ask=False):
        for _ in range(count):
            optimizer.zero_grad()
            model(cuda.randn(8, 64, device="cuda")).sum().backward()
            if ask:
                with pytest.raises(cuda.cuda.OutOfMemoryError):
                    cuda.empty(too_much, dtype=cuda.uint8, device="cuda")
            optimizer.step()

    instrumentation.instrument()
    try:
        with record(overhead_budget="off") as run:
            steps(8)
            steps(1, ask=True)
            steps(3)
    finally:
        instrumentation.uninstrument()
    steps(1, ask=True)
    (event,) = [each for each in run.events if each.kind == "out_of_memory"]
    told = {name.removeprefix("dl.out_of_memory."): value for name, value in event.attributes.items()}
    print(told)
    assert event.step in (7, 8)  # without a loader a step is known to be over when its optimizer steps again
    assert 0 == told["device"]
    assert told["requested"] >= too_much
    assert too_much == told["device.total"]
    assert 0 < told["device.free"] < too_much
    assert 0 < told["allocated"] <= told["reserved"]
