"""On a real GPU: nothing synchronises, values arrive, the machine and its memory are described."""

import json
import math
import subprocess
import time

import pytest

import otel_train
from otel_train.runlog.ranklog import RankLog


@pytest.fixture
def run(tmp_path):
    """A run recorded on disk."""
    with otel_train.init(dir=tmp_path, service_name="gpu") as handle:
        yield handle


def logged(run, name):
    """The (step, value) pairs recorded under a name."""
    log = RankLog.open(run.path)
    identity = {known: number for number, known in log.names("scalar").items()}[name]
    records = [record for _, part in log.scalars.read() for record in part if record["name"] == identity]
    return [(int(record["step"]), float(record["value"])) for record in records]


def train(torch, steps, dtype=None, mode="default"):
    """A small training loop on the GPU, under a mode of torch for synchronisations; returns its losses as tensors."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(256, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 10)).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    inputs, labels = torch.randn(64, 256, device="cuda"), torch.randint(10, (64,), device="cuda")
    losses = []
    torch.cuda.set_sync_debug_mode(mode)
    for _ in range(steps):
        with otel_train.trace_step(samples=64):
            with otel_train.trace_phase("forward"):
                loss = torch.nn.functional.cross_entropy(model(inputs), labels)
            with otel_train.trace_phase("backward"):
                loss.backward()
            with otel_train.trace_phase("optimizer"):
                optimizer.step()
                optimizer.zero_grad()
            otel_train.log(loss=loss if dtype is None else loss.to(dtype), learning_rate=0.01)
        losses.append(loss.detach())
    torch.cuda.set_sync_debug_mode("default")
    return losses


def test_nothing_synchronises(run, cuda):
    """A step with phases and a logged CUDA loss passes where torch makes every synchronisation an error."""
    train(cuda, 3)
    losses = train(cuda, 50, mode="error")
    run.shutdown()
    assert [float(loss) for loss in losses] == [value for _, value in logged(run, "loss")][3:]


def test_every_value_arrives_at_its_step(run, cuda):
    """Each step's loss is recorded once, under its step, in order, also in bfloat16."""
    losses = train(cuda, 20, cuda.bfloat16)
    run.shutdown()
    assert [(step, float(loss.bfloat16())) for step, loss in enumerate(losses)] == logged(run, "loss")


def test_values_arrive_while_the_run_goes_on(run, cuda):
    """A value is read at the first step's end after it arrived; nobody waits for it and nobody needs to log again."""
    train(cuda, 5)
    cuda.cuda.synchronize()
    with otel_train.trace_step():
        pass
    assert 5 == len(logged(run, "loss"))


def test_nonfinite_on_the_device_is_found(run, cuda):
    """A diverged loss on the GPU becomes an event."""
    with otel_train.trace_step():
        otel_train.log(loss=cuda.tensor(math.nan, device="cuda"))
    run.shutdown()
    assert ["nonfinite"] == [event.kind for event, _ in RankLog.open(run.path).events() if event.kind == "nonfinite"]


def test_graph_capture_is_left_alone(run, cuda):
    """During CUDA graph capture nothing is copied or queried; the capture succeeds and replays."""
    values, total = cuda.ones(1000, device="cuda"), cuda.zeros((), device="cuda")
    stream = cuda.cuda.Stream()
    with cuda.cuda.stream(stream):
        total.copy_(values.sum())
    cuda.cuda.synchronize()
    graph = cuda.cuda.CUDAGraph()
    with otel_train.trace_step(), cuda.cuda.graph(graph):
        total.copy_(values.sum())
        otel_train.log(loss=total)
    graph.replay()
    assert 1000.0 == total.item()


def test_a_token_count_on_the_device_is_not_read(run, cuda):
    """A count that is a CUDA tensor would have to be waited for: it is missing, and a warning says so."""
    tokens = cuda.tensor(5, device="cuda")
    cuda.cuda.set_sync_debug_mode("error")
    try:
        with otel_train.trace_step(tokens=tokens):
            pass
    finally:
        cuda.cuda.set_sync_debug_mode("default")
    run.shutdown()
    (_, steps), *_ = RankLog.open(run.path).steps.read()
    assert [0xFFFFFFFF] == steps["tokens"].tolist()


def test_machine_is_described(run, cuda):
    """run.json names the GPUs as nvidia-smi does; resources.csv has the allocator's figures."""
    kept = cuda.zeros(1 << 20, device="cuda")
    deadline = time.monotonic() + 20
    while "hardware" not in (identity := json.loads((run.path / "run.json").read_text())):
        assert time.monotonic() < deadline, "the hardware was not described within 20 s"
    run.shutdown()
    listed = subprocess.run(
        ["nvidia-smi", "--query-gpu=name,uuid,driver_version", "--format=csv,noheader"], capture_output=True, text=True
    ).stdout.splitlines()
    gpus = [(gpu["model"], gpu["uuid"], identity["hardware"]["driver"]) for gpu in identity["hardware"]["gpus"]]
    print(identity["hardware"], identity["software"])
    assert [tuple(line.split(", ")) for line in listed] == gpus
    rows = [row for _, row, _ in RankLog.open(run.path).resources()]
    print(rows[-1])
    assert kept.nbytes <= rows[-1]["torch.cuda.memory.allocated", ()]
