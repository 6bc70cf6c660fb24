"""Hooks on real torch: what they see of a training, and that they leave everything else as it was."""

import copy
import gc
import io
import pickle
import subprocess
import sys
import weakref

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch._dynamo.testing import CompileCounter  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from otel_train import instrumentation  # noqa: E402
from otel_train.testing import record  # noqa: E402


@pytest.fixture
def hooks():
    """Hooks in place."""
    instrumentation.instrument()
    yield
    instrumentation.uninstrument()


@pytest.fixture
def run(hooks):
    """A run in memory that hears them."""
    with record() as recording:
        yield recording


class Net(nn.Module):
    """A small model with modules inside."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, inputs):
        return self.layers(inputs)


def batches(steps, size=4):
    """A loader of so many batches."""
    torch.manual_seed(0)
    return DataLoader(TensorDataset(torch.randn(steps * size, 8), torch.randn(steps * size, 1)), batch_size=size)


def train(model, loader, optimizer=None):
    """The plain loop; returns the losses."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def names(step):
    """A step's phases, without ``zero_grad``, which is one where the machine was slow."""
    return [phase.name for phase in step.phases if phase.name != "zero_grad"]


USUAL = ["data_wait", "forward", "backward", "optimizer"]


def test_plain_loop(run):
    """Steps with their phases and samples; the model is found in the second step and timed from the third on."""
    train(Net(), batches(6))
    assert list(range(6)) == [step.step for step in run.steps]
    assert [USUAL] * 4 == [names(step) for step in run.steps[2:]]
    assert {4} == {step.samples for step in run.steps}
    for step in run.steps:
        assert sum(phase.duration_s for phase in step.phases) <= step.duration_s


def test_only_the_outermost_module_is_timed(run):
    """One forward a step, whatever modules a model has inside; a loss module is none."""
    model, criterion = Net(), nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters())
    for inputs, targets in batches(5):
        criterion(model(inputs), targets).backward()
        optimizer.step()
    assert [1, 1, 1] == [names(step).count("forward") for step in run.steps[2:]]


def test_two_models_are_both_found(run):
    """A GAN's discriminator and generator."""
    first, second = Net(), Net()
    optimizers = [torch.optim.SGD(model.parameters()) for model in (first, second)]
    for inputs, _ in batches(5):
        for model, optimizer in zip((first, second), optimizers, strict=True):
            model(inputs).sum().backward()
            optimizer.step()
    assert [["data_wait", *USUAL[1:], *USUAL[1:]]] * 3 == [names(step) for step in run.steps[2:]]


def test_a_later_model_is_found_too(run):
    """A second training in the same process, with another model."""
    train(Net(), batches(5))
    train(Net(), batches(9))
    assert USUAL == names(run.steps[-1])


def test_every_attribute_is_put_back():
    """Taken back, torch and the model have what they had before."""
    from torch.utils.data import dataloader

    model = Net()
    places = [
        (torch.autograd, "backward"),
        (dataloader._BaseDataLoaderIter, "__next__"),
        (torch.amp.GradScaler, "step"),
        (torch.optim.Optimizer, "zero_grad"),
        (nn.utils, "clip_grad_norm_"),
    ]
    before = [owner.__dict__[name] for owner, name in places]
    module = dict(model.__dict__)
    instrumentation.instrument()
    with record() as run:
        train(model, batches(5))
        assert model._compiled_call_impl is not None
        instrumentation.uninstrument()
        train(model, batches(5))
        steps = len(run.steps)
    assert 5 == steps
    assert before == [owner.__dict__[name] for owner, name in places]
    assert module == model.__dict__
    optimizers = sys.modules["torch.optim.optimizer"]
    assert {} == optimizers._global_optimizer_pre_hooks
    assert {} == optimizers._global_optimizer_post_hooks


def test_losses_are_the_same(tmp_path):
    """Bit for bit, hooks on or off."""

    def losses():
        torch.manual_seed(1)
        return train(Net(), DataLoader(batches(20).dataset, batch_size=4, shuffle=True))

    without = losses()
    instrumentation.instrument()
    with record():
        hooked = losses()
    instrumentation.uninstrument()
    assert without == hooked


def test_hooked_model_is_pickled_and_copied_clean(run):
    """Saved, copied or sent elsewhere, a model has nothing of ours in it; the copy is not timed."""
    model = Net()
    train(model, batches(4))
    assert model._compiled_call_impl is not None
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin._compiled_call_impl is None
    file = io.BytesIO()
    torch.save(model, file)
    assert b"otel" not in file.getvalue()


def test_saved_model_loads_without_otel_train(run, tmp_path):
    """In a process that has no otel_train."""
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
    train(model, batches(4))
    torch.save(model, tmp_path / "model.pt")
    code = (
        "import sys; sys.modules['otel_train'] = None\n"
        f"import torch; print(torch.load({str(tmp_path / 'model.pt')!r}, weights_only=False)(torch.zeros(1, 8)).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch.Size([1, 1])" == done.stdout.strip()


def test_deleted_model_frees_its_memory_at_once(run):
    """No cycle through the hook: the model goes with its last reference, without the garbage collector."""
    model = Net()
    train(model, batches(4))
    assert model._compiled_call_impl is not None
    gone = weakref.ref(model)
    gc.disable()
    try:
        del model
        assert gone() is None
    finally:
        gc.enable()


def test_users_own_profiler_is_left_alone(run):
    """A profile function that somebody has set stays; the forward then goes unseen, the rest does not."""
    calls = []

    def profiler(frame, event, argument):
        calls.append(event)

    sys.setprofile(profiler)
    try:
        train(Net(), batches(5))
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(None)
    assert [["data_wait", "backward", "optimizer"]] * 3 == [names(step) for step in run.steps[2:]]


def test_users_module_hooks_still_fire(run):
    """Once a forward, in their order."""
    fired = []
    model = Net()
    model.register_forward_pre_hook(lambda *_: fired.append("before"))
    model.register_forward_hook(lambda *_: fired.append("after"))
    train(model, batches(4))
    assert ["before", "after"] * 4 == fired


def test_exception_in_a_forward_goes_on_up(run):
    """As it was raised; the step after it is whole."""
    model = Net()
    loader = batches(8)
    optimizer = torch.optim.SGD(model.parameters())
    for number, (inputs, targets) in enumerate(loader):
        if number == 4:
            with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
                model(inputs[:, :3])
            continue
        outputs = model(inputs)
        nn.functional.mse_loss(outputs, targets).backward()
        optimizer.step()
    assert USUAL == names(run.steps[-1])


COMPILED = {
    "torch.compile": lambda model, backend: torch.compile(model, backend=backend),
    "fullgraph": lambda model, backend: torch.compile(model, backend=backend, fullgraph=True),
    "model.compile": lambda model, backend: (model.compile(backend=backend), model)[1],
}


@pytest.mark.parametrize("how", COMPILED)
def test_compiled_models_have_the_same_graphs(how):
    """As many graphs as without hooks, no recompile, and the forward is timed."""

    def graphs():
        torch._dynamo.reset()
        counter = CompileCounter()
        losses = train(COMPILED[how](Net(), counter), batches(7))
        return counter.frame_count, counter.op_count, losses

    torch.manual_seed(3)
    without = graphs()
    instrumentation.instrument()
    with record() as run:
        torch.manual_seed(3)
        hooked = graphs()
    instrumentation.uninstrument()
    assert without == hooked
    assert USUAL == names(run.steps[-1])


def test_whole_step_compiled():
    """Forward, loss and backward in one compiled function: the same graphs, and steps all the same."""

    def graphs():
        torch._dynamo.reset()
        torch.manual_seed(3)
        counter = CompileCounter()
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        @torch.compile(backend=counter)
        def step(inputs, targets):
            loss = nn.functional.mse_loss(model(inputs), targets)
            loss.backward()
            return loss

        losses = []
        for inputs, targets in batches(7):
            optimizer.zero_grad()
            losses.append(step(inputs, targets).item())
            optimizer.step()
        return counter.frame_count, counter.op_count, losses

    without = graphs()
    instrumentation.instrument()
    with record() as run:
        hooked = graphs()
    instrumentation.uninstrument()
    assert without == hooked
    assert 7 == len(run.steps)
    assert ["data_wait", "backward", "optimizer"] == names(run.steps[-1])


def test_compiled_optimizer():
    """``torch.compile(optimizer.step)``: the same graphs."""

    def graphs():
        torch._dynamo.reset()
        counter = CompileCounter()
        torch.manual_seed(3)
        model = Net()
        optimizer = torch.optim.Adam(model.parameters(), foreach=True)
        step = torch.compile(optimizer.step, backend=counter)
        for inputs, targets in batches(6):
            nn.functional.mse_loss(model(inputs), targets).backward()
            step()
        return counter.frame_count, counter.op_count

    without = graphs()
    instrumentation.instrument()
    with record() as run:
        hooked = graphs()
    instrumentation.uninstrument()
    assert without == hooked
    assert 6 == len(run.steps)


def test_lbfgs(run):
    """Its closure's forwards and backwards are phases, and one optimizer step is a step."""
    model = Net()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    for inputs, targets in batches(5):

        def closure(inputs=inputs, targets=targets):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(inputs), targets)
            loss.backward()
            return loss

        optimizer.step(closure)
    assert 5 == len(run.steps)
    assert {"data_wait", "forward", "backward", "optimizer"} == set(names(run.steps[-1]))


def test_optimizer_in_backward(run):
    """Optimizers in post-accumulate hooks: their steps are part of the backward."""
    model = Net()
    optimizers = {parameter: torch.optim.SGD([parameter], lr=0.1) for parameter in model.parameters()}
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(lambda parameter: optimizers[parameter].step())
    for inputs, targets in batches(6):
        nn.functional.mse_loss(model(inputs), targets).backward()
    assert 6 == len(run.steps)
    assert ["data_wait", "forward", "backward"] == names(run.steps[-1])


def test_gradient_scaler_skips(run):
    """A step whose gradients were infinite is a step without the optimizer's, marked skipped."""
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for number, (inputs, targets) in enumerate(batches(6)):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        scaler.scale(loss * (float("inf") if number == 3 else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
    assert [3] == [step.step for step in run.steps if step.skipped]
    assert USUAL == names(run.steps[3])


def test_evaluation_loop(run):
    """Between two epochs: an event with its batches, no step."""
    model = Net()
    train(model, batches(6))
    with torch.no_grad():
        for inputs, _ in batches(3):
            model(inputs)
    train(model, batches(6))
    assert 12 == len(run.steps)
    assert [3] == [event.attributes["dl.step.count"] for event in run.events if event.kind == "evaluation"]


def test_evaluation_is_found_by_inference_mode(run):
    """Also when the loader is asked outside of it."""
    model = Net()
    train(model, batches(6))
    for inputs, _ in batches(3):
        with torch.inference_mode():
            model(inputs)
    train(model, batches(3))
    assert [3] == [event.attributes["dl.step.count"] for event in run.events if event.kind == "evaluation"]


def test_gradient_clipping(run):
    """Both ways of it are a phase of their own."""
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for inputs, targets in batches(4):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        nn.utils.clip_grad_value_(model.parameters(), 1.0)
        optimizer.step()
    assert [*USUAL[:3], "gradient_clipping", "gradient_clipping", "optimizer"] == names(run.steps[-1])


def test_gradient_clipping_compiled():
    """In a compiled function it is part of the same graph."""

    def graphs():
        torch._dynamo.reset()
        counter = CompileCounter()
        model = Net()
        model(torch.ones(2, 8)).sum().backward()

        @torch.compile(backend=counter, fullgraph=True)
        def clip():
            return nn.utils.clip_grad_norm_(model.parameters(), 1.0)

        clip()
        return counter.frame_count, counter.op_count

    without = graphs()
    instrumentation.instrument()
    with record():
        hooked = graphs()
    instrumentation.uninstrument()
    assert without == hooked


def test_zero_grad_where_it_matters(run, monkeypatch):
    """Setting gradients to None is nothing; filling large ones with zeros is a phase."""
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    large = nn.Parameter(torch.zeros(20_000_000))
    for number, (inputs, targets) in enumerate(batches(6)):
        optimizer.zero_grad()
        if number > 3:
            large.grad = torch.ones_like(large)
            torch.optim.SGD([large]).zero_grad(set_to_none=False)
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()
    assert USUAL == names(run.steps[3])
    assert ["data_wait", "zero_grad", *USUAL[1:]] == [phase.name for phase in run.steps[5].phases]


def test_teacher_inside_a_step(run):
    """A frozen model's forward without gradients is no evaluation."""
    model, teacher = Net(), Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for inputs, _ in batches(6):
        with torch.no_grad():
            wanted = teacher(inputs)
        nn.functional.mse_loss(model(inputs), wanted).backward()
        optimizer.step()
    assert 6 == len(run.steps)
    assert [] == [event for event in run.events if event.kind == "evaluation"]


def test_copies_to_a_device_leave_compiled_code_alone():
    """``Tensor.to`` in a compiled function: the same graph; and the class is as it was afterwards."""
    from otel_train.hooks import host_to_device

    def graphs():
        torch._dynamo.reset()
        counter = CompileCounter()

        @torch.compile(backend=counter, fullgraph=True)
        def convert(tensor):
            return tensor.to(torch.float64).to("cpu") + 1

        convert(torch.ones(3))
        return counter.frame_count, counter.op_count

    without, before = graphs(), dict(vars(torch.Tensor))
    undo = host_to_device.install(torch)
    try:
        assert torch.float64 == torch.ones(2).to(torch.float64).dtype
        hooked = graphs()
    finally:
        undo()
    assert without == hooked
    assert before == dict(vars(torch.Tensor))
