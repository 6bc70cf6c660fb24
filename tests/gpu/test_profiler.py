"""A step under torch's profiler on a real GPU: its kernels, and nothing left behind."""

from collections import Counter

import pytest

import otel_train
from otel_train import active, instrumentation, names
from otel_train.export.trace_source import TraceSource
from otel_train.profiles.summary import kept_rows
from otel_train.testing import record

MS = 1_000_000


def training(torch):
    """A transformer that keeps the GPU busy; called, it takes a step under bf16 autocast."""
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(2048, 16, 8192, batch_first=True, dropout=0.0)
    model = torch.nn.TransformerEncoder(layer, 6, enable_nested_tensor=False).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    inputs = torch.randn(16, 512, 2048, device="cuda")

    def step():
        with otel_train.trace_step():
            optimizer.zero_grad()
            with otel_train.trace_phase("forward"), torch.autocast("cuda", dtype=torch.bfloat16):
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


def test_a_graph_captured_between_profiles(cuda):
    """Profiles before the capture, between replays and after it: the replays calculate as ever."""
    model = cuda.nn.Linear(256, 256).cuda()
    inputs = cuda.randn(64, 256, device="cuda")
    side = cuda.cuda.Stream()
    with record(profile_steps="2,5,8", overhead_budget="off") as run, cuda.no_grad():
        expected, graph = model(inputs), cuda.cuda.CUDAGraph()
        for number in range(12):
            with otel_train.trace_step():
                if number == 4:
                    with cuda.cuda.graph(graph, stream=side):
                        found = model(inputs)
                elif number > 4:
                    found.zero_()
                    graph.replay()
                    assert cuda.equal(expected, found)
                else:
                    model(inputs)
            if active.session.profiling._digesting is not None:
                active.session.profiling._digesting.join(60)
    taken = [event.attributes[names.PROFILE_KERNEL_COUNT] for event in run.events if event.kind == names.PROFILE]
    print(f"\nkernels in the profiles: {taken}")
    assert 3 == len(taken)
    assert all(taken)


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


def test_operators_of_the_gpu_as_spans_with_shapes(cuda):
    """The outermost operators lie within their step, under the phase that they began in; shapes are the products'."""
    step = training(cuda)
    instrumentation.instrument()
    try:
        with record(profile_steps="30", profile_shapes=True, profile_spans=True, overhead_budget="off") as run:
            profiled(step)
    finally:
        instrumentation.uninstrument()
    spans = [span for batch in TraceSource(run.log, 1000, 100.0).batches({}, True) for span in batch.items]
    by_ids = {span.ids: span for span in spans}
    operators = [span for span in spans if not span.name.startswith("dl.")]
    parents = Counter((span.name, by_ids[span.parent].name) for span in operators)
    (event,) = [event for event in run.events if event.kind == names.PROFILE]
    print(f"\n{len(operators)} operators as spans, {event.attributes[names.PROFILE_SPANS_LEFT_OUT]} left out; mostly "
          f"{parents.most_common(6)}")  # fmt: skip
    assert {30} == {span.attributes[names.ITERATION] for span in operators}
    assert {"dl.forward", "dl.backward"} <= {parent for _, parent in parents}
    assert "dl.forward" == dict(parents.keys())["aten::linear"]
    assert "Optimizer.step#AdamW.step" in dict(parents.keys())
    (whole,) = [span for span in spans if span.name == "dl.step" and span.attributes[names.ITERATION] == 30]
    assert all(whole.start_ns - MS <= span.start_ns < span.end_ns <= whole.end_ns + MS for span in operators)
    shapes = {row.name: row.shapes for row in kept_rows(event.attributes, names.PROFILE_OPERATORS) if row.shapes}
    print(f"shapes: {shapes}")
    assert "8192x2048" in " ".join(shapes.values())


def kernels_of(torch, profile):
    """Of torch's own profile."""
    return [event.name for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]


def test_beside_a_profiler_of_the_users(cuda):
    """Windows before, after and cut short by it have all kernels, and so has it."""
    step = training(cuda)
    with record(profile_steps="10,20,30,40", overhead_budget="off") as run:
        profiled(step, 16)
        with cuda.profiler.profile() as before:
            step()
        profiled(step, 13)  # steps 17 to 29, and the window of step 30 has begun
        with cuda.profiler.profile() as inside:
            step()
        profiled(step, 20)
    taken = {
        event.step: event.attributes[names.PROFILE_KERNEL_COUNT] for event in run.events if event.kind == names.PROFILE
    }
    theirs = [len(kernels_of(cuda, profile)) for profile in (before, inside)]
    print(f"\nkernels in ours {taken}, in the user's {theirs}")
    assert [10, 20, 40] == sorted(taken)
    assert 1 == len({*taken.values()})
    assert theirs[0] == theirs[1] >= taken[10]
