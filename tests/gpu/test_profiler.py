"""A step under torch's profiler on a real GPU: its kernels, and nothing left behind."""

import statistics
import time

import pytest

import otel_train
from otel_train import active, names
from otel_train.profiles.summary import kept_rows
from otel_train.testing import record


def training(torch):
    """A transformer that keeps the GPU busy; called, it takes a step under bf16 autocast."""
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(768, 12, 3072, batch_first=True, dropout=0.0)
    model = torch.nn.TransformerEncoder(layer, 6, enable_nested_tensor=False).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    inputs = torch.randn(16, 512, 768, device="cuda")

    def step():
        with otel_train.trace_step():
            optimizer.zero_grad()
            with torch.autocast("cuda", dtype=torch.bfloat16):
                loss = model(inputs).square().mean()
            loss.backward()
            optimizer.step()

    return step


def profiled(step, count=40):
    """Take steps; returns the event of the profile once it is there."""
    for _ in range(count):
        step()
    active.session.profiling._digesting.join(60)


def test_kernels_of_a_step(cuda):
    """Their times are of the GPU, what it was busy is nearly the step, and what bounds it is the model."""
    step = training(cuda)
    with record(profile_steps="30", profile_shapes=True, overhead_budget="off") as run:
        profiled(step)
    (event,) = [event for event in run.events if event.kind == names.PROFILE]
    told = event.attributes
    kernels = kept_rows(told, names.PROFILE_KERNELS)
    busy, window = told[names.PROFILE_DEVICE_BUSY], told[names.PROFILE_DEVICE_WINDOW]
    print(f"\nbusy {busy * 1e3:.2f} of {window * 1e3:.2f} ms, {told[names.PROFILE_KERNEL_COUNT]} kernels, "
          f"MFU {told.get(names.PROFILE_MFU)}, {told[names.PROFILE_BOUND]} {told[names.PROFILE_SHARES]}")  # fmt: skip
    assert pytest.approx(busy / window, rel=0.02) == sum(row.share for row in kernels)
    assert pytest.approx(1.0, abs=0.02) == sum(row.share for row in kept_rows(told, names.PROFILE_OPERATORS))
    assert 0.5 < busy / window <= 1.0
    assert "compute" == told[names.PROFILE_BOUND]
    assert 0.05 < told[names.PROFILE_MFU] < 1.0
    assert 0.5 < told[names.PROFILE_TENSOR_CORE_SHARE] <= 1.0


def test_a_step_takes_as_long_afterwards(cuda):
    """Within 3 %, by medians: CUPTI is left as it was found."""
    step = training(cuda)

    def median_s():
        times = []
        for _ in range(60):
            begin = time.perf_counter()
            step()
            cuda.cuda.synchronize()
            times.append(time.perf_counter() - begin)
        return statistics.median(times)

    median_s()
    before = median_s()
    with record(profile_steps="25", overhead_budget="off"):
        profiled(step)
    after = median_s()
    print(f"\na step took {before * 1e3:.3f} ms before, {after * 1e3:.3f} after")
    assert after < before * 1.03


def test_losses_are_the_same(cuda):
    """Bit for bit, with a profiled step among them."""

    def losses(**settings):
        cuda.manual_seed(0)
        model = cuda.nn.Linear(256, 256).cuda()
        optimizer = cuda.optim.SGD(model.parameters(), lr=0.1)
        inputs = cuda.ones(64, 256, device="cuda")
        found = []
        with record(overhead_budget="off", **settings):
            for _ in range(30):
                with otel_train.trace_step():
                    optimizer.zero_grad()
                    loss = model(inputs).square().mean()
                    loss.backward()
                    optimizer.step()
                found.append(loss.detach())
        return [float(loss) for loss in found]

    assert losses() == losses(profile_steps="22-24")
