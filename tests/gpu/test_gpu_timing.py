"""Zero code on a real GPU: what phases take there, without a synchronisation, and nothing else changed."""

import copy
import gc
import time
import weakref

import pytest

import otel_train
from otel_train import instrumentation
from otel_train.testing import record


@pytest.fixture
def run():
    """A run in memory with hooks in place and no governor, so that short tests keep their level."""
    instrumentation.instrument()
    with record(overhead_budget="off") as recording:
        yield recording
    instrumentation.uninstrument()


def gpt(torch, width=256, layers=2):
    """A small transformer, and batches for it."""
    layer = torch.nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True, dropout=0.0)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.TransformerEncoder(layer, layers, enable_nested_tensor=False))
    return model.cuda()


def train(torch, model, steps, between=lambda number: None, host_wait=lambda number: None):
    """A loop over a loader, with copies to the device, under bf16 autocast; returns its losses as tensors."""
    torch.manual_seed(1)

    class Data(torch.utils.data.Dataset):
        def __len__(self):
            return steps * 8

        def __getitem__(self, index):
            if index % 8 == 0:
                host_wait(index // 8)
            return torch.full((64, 256), index / 100.0)

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    losses = []
    for number, inputs in enumerate(torch.utils.data.DataLoader(Data(), batch_size=8, pin_memory=True)):
        inputs = inputs.to("cuda", non_blocking=True)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = model(inputs).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
        between(number)
    torch.cuda.synchronize()
    return losses


def test_phases_on_the_gpu(run, cuda):
    """Each step's forward, backward and optimizer have a GPU time, and its copies a host phase."""
    train(cuda, gpt(cuda), 30)
    train(cuda, gpt(cuda), 3)
    assert {"data_wait", "forward", "backward", "optimizer"} == set(run.gpu[10].phases)
    assert all(0 < seconds < 1 for seconds in run.gpu[10].phases.values())
    assert "host_to_device" in [phase.name for phase in run.steps[20].phases]
    seen = [known.step for known in run.gpu]
    assert sorted(set(seen)) == seen
    assert any(known.reserved and known.peak >= known.allocated for known in run.gpu)


def test_nothing_synchronises(run, cuda):
    """Where torch makes every synchronisation an error, training with GPU times passes."""
    model = gpt(cuda)
    optimizer = cuda.optim.SGD(model.parameters(), lr=0.1)
    inputs = cuda.randn(8, 64, 256, device="cuda")

    def steps(count):
        for _ in range(count):
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()

    steps(10)
    cuda.cuda.set_sync_debug_mode("error")
    steps(50)
    cuda.cuda.set_sync_debug_mode("default")
    cuda.cuda.synchronize()
    steps(2)
    assert len(run.gpu) > 40


def test_synchronisations_in_a_profile(cuda):
    """As many calls that wait for the GPU with hooks as without."""

    def waits():
        model = gpt(cuda)
        train(cuda, model, 10)
        with cuda.profiler.profile() as profile:
            train(cuda, model, 10)
        return sorted(event.name for event in profile.events() if "Synchronize" in event.name)

    without = waits()
    instrumentation.instrument()
    with record(overhead_budget="off"):
        hooked = waits()
    instrumentation.uninstrument()
    assert without == hooked


def test_waiting_for_data_is_what_the_gpu_waited(run, cuda):
    """A batch that is late while the GPU still works costs the GPU nothing; the same wait on an idle GPU is all its."""
    busy = cuda.randn(8192, 8192, device="cuda")

    def keep_busy(number):
        if number >= 20:
            for _ in range(4):
                busy @ busy  # some 80 ms of work in fp32
        else:
            cuda.cuda.synchronize()

    train(cuda, gpt(cuda), 30, keep_busy, host_wait=lambda number: time.sleep(0.02))
    host = {step.step: step.phase("data_wait").duration_s for step in run.steps}
    waited = {known.step: known.phases["data_wait"] for known in run.gpu if "data_wait" in known.phases}
    idle = [step for step in waited if 8 <= step <= 19]
    working = [step for step in waited if 22 <= step]
    assert idle
    assert working
    assert all(host[step] >= 0.02 for step in idle + working)
    assert all(waited[step] == pytest.approx(host[step], rel=0.05, abs=0.001) for step in idle)
    assert all(waited[step] < 0.002 for step in working)


@pytest.mark.parametrize("how", ["eager", "compiled", "reduce-overhead"])
def test_losses_are_the_same(cuda, how):
    """Bit for bit, with hooks and GPU times and without: eager, compiled, and with CUDA graphs."""

    def losses():
        cuda._dynamo.reset()
        cuda.manual_seed(0)
        model = gpt(cuda)
        if how != "eager":
            model = cuda.compile(model, mode=None if how == "compiled" else how)
        return [float(loss) for loss in train(cuda, model, 20)]

    without = losses()
    instrumentation.instrument()
    with record(overhead_budget="off") as run:
        hooked = losses()
    instrumentation.uninstrument()
    assert without == hooked
    assert 20 == len(run.steps)
    assert len(run.gpu) > 5


def test_graph_captured_by_hand(run, cuda):
    """A whole step captured in a CUDA graph while hooks are in place: captured as ever, and replays are right."""
    model, optimizer = gpt(cuda), None
    optimizer = cuda.optim.SGD(model.parameters(), lr=0.1)
    inputs = cuda.randn(8, 64, 256, device="cuda")

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = model(inputs).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(25):
        step()
    side = cuda.cuda.Stream()
    side.wait_stream(cuda.cuda.current_stream())
    with cuda.cuda.stream(side):
        for _ in range(3):
            step()
    cuda.cuda.current_stream().wait_stream(side)
    graph = cuda.cuda.CUDAGraph()
    with cuda.cuda.graph(graph):
        loss = step()
    twin = copy.deepcopy(model)
    graph.replay()
    cuda.cuda.synchronize()
    captured = float(loss)
    assert captured == pytest.approx(float(twin(inputs).square().mean()), rel=1e-5)
    for _ in range(5):
        step()
    cuda.cuda.synchronize()


def test_deleted_model_frees_gpu_memory(run, cuda):
    """At once, without the garbage collector."""
    model = gpt(cuda)
    train(cuda, model, 25)
    gone = weakref.ref(model)
    before = cuda.cuda.memory_allocated()
    gc.disable()
    try:
        del model
        assert gone() is None
    finally:
        gc.enable()
    assert cuda.cuda.memory_allocated() < before


def test_model_on_another_device_than_the_current(run, cuda):
    """Its own device's stream is timed."""
    if cuda.cuda.device_count() < 2:
        pytest.skip("one device only")
    model = cuda.nn.Linear(4096, 4096).to("cuda:1")
    optimizer = cuda.optim.SGD(model.parameters(), lr=0.1)
    inputs = cuda.randn(8192, 4096, device="cuda:1")
    for _ in range(40):
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
    cuda.cuda.synchronize("cuda:1")
    model(inputs).square().mean().backward()
    optimizer.step()
    assert all(known.phases["forward"] > 1e-3 for known in run.gpu[5:])
    assert len(run.gpu) > 25


def test_steps_of_an_evaluation_have_no_gpu_time(run, cuda):
    """They count from nought again, and take many times as long: no training step of their number is given that."""
    model = gpt(cuda)
    optimizer = cuda.optim.SGD(model.parameters(), lr=0.1)
    small, large = (cuda.randn(batch, 64, 256, device="cuda") for batch in (8, 4096))

    def train_on():
        with otel_train.trace_step():
            with otel_train.trace_phase("forward"):
                loss = model(small).square().mean()
            with otel_train.trace_phase("backward"):
                loss.backward()
            with otel_train.trace_phase("optimizer"):
                optimizer.step()
                optimizer.zero_grad()
            cuda.cuda.synchronize()

    for _ in range(30):
        train_on()
    with otel_train.trace_evaluation("validation"), cuda.no_grad():
        for _ in range(30):
            with otel_train.trace_step(), otel_train.trace_phase("forward"):
                model(large)
                cuda.cuda.synchronize()
    for _ in range(30):
        train_on()
    evaluated = [step.duration_s for step in run.steps if step.evaluation]
    assert 30 == len(evaluated)
    seen = [known.step for known in run.gpu]
    assert sorted(set(seen)) == seen
    assert len([step for step in seen if step >= 32]) > 20
    forward = [known.phases["forward"] for known in run.gpu if known.step >= 5]
    assert max(forward) < min(evaluated)
