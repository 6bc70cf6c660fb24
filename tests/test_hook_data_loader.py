"""Data under zero code: waits, queues, what workers take, and that loaders give what they would have given."""

import gc
import io
import time
from pathlib import Path

import pytest
from log_builder import MS, LogBuilder
from rich.console import Console

torch = pytest.importorskip("torch")
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, get_worker_info  # noqa: E402

from otel_train import instrumentation  # noqa: E402
from otel_train.derive.bottleneck import judge  # noqa: E402
from otel_train.derive.data_loading import DataLoading, reason  # noqa: E402
from otel_train.derive.scan import scan_rank  # noqa: E402
from otel_train.derive.summary import summarize  # noqa: E402
from otel_train.recorder.signals import signals  # noqa: E402
from otel_train.report.as_json import summary_as_dict  # noqa: E402
from otel_train.report.sections import phases  # noqa: E402
from otel_train.runlog.storage import Memory  # noqa: E402
from otel_train.testing import record  # noqa: E402

DATASET_S, COLLATE_S = 0.004, 0.01


class Slow(Dataset):
    """Samples that each take a known time."""

    def __init__(self, size=16, sample_s=DATASET_S):
        self.size, self.sample_s = size, sample_s

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        time.sleep(self.sample_s)
        return torch.tensor([index, torch.initial_seed() % 1000])


class Stream(IterableDataset):
    """The same as a stream, divided among workers."""

    def __iter__(self):
        info = get_worker_info()
        for index in range(0 if info is None else info.id, 16, 1 if info is None else info.num_workers):
            time.sleep(DATASET_S)
            yield torch.tensor([index, 0])


def slow_collate(samples):
    """Takes a known time a batch."""
    time.sleep(COLLATE_S)
    return torch.stack(samples)


def greet(worker_id):
    """A user's worker_init_fn that leaves a trace in the samples' seed."""
    torch.manual_seed(100 + worker_id)


@pytest.fixture
def hooks():
    """Hooks in place."""
    instrumentation.instrument()
    yield
    instrumentation.uninstrument()


@pytest.fixture
def run(hooks):
    """A run in memory that hears them."""
    with record(overhead_budget="off") as recording:
        yield recording


def train(loader, passes=1):
    """A loop that trains on every batch; returns the batches."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    batches = []
    for _ in range(passes):
        for batch in loader:
            (parameter * 2).sum().backward()
            optimizer.step()
            batches.append(batch)
    return batches


def told(run):
    """What the loaders' events say, the newest last."""
    for report in signals.reports:
        report()
    return [event.attributes for event in run.events if event.kind == "data_loader"]


KINDS = {
    "map": lambda **options: DataLoader(Slow(), 4, collate_fn=slow_collate, **options),
    "iterable": lambda **options: DataLoader(Stream(), 4, collate_fn=slow_collate, **options),
}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_workers_tell_what_fetching_takes(run, kind, method, persistent):
    """Under each start method: dataset and collate apart, for two passes over four batches."""
    loader = KINDS[kind](num_workers=2, multiprocessing_context=method, persistent_workers=persistent)
    assert 8 == len(train(loader, passes=2))
    assert loader.worker_init_fn is None
    events = told(run)
    assert 8 == sum(event["dl.data_loader.batch.count"] for event in events)
    dataset_s = sum(event["dl.data_loader.dataset.time"] for event in events) / 8
    collate_s = sum(event["dl.data_loader.collate.time"] for event in events) / 8
    assert dataset_s >= 4 * DATASET_S
    assert collate_s >= COLLATE_S
    assert {(2, method, True)} == {
        (event["dl.data_loader.workers"], event["dl.data_loader.start_method"], event["dl.data_loader.trains"])
        for event in events
    }
    by_worker = [sum(event["dl.data_loader.worker.batch.count"][worker] for event in events) for worker in (0, 1)]
    worker_s = sum(sum(event["dl.data_loader.worker.fetch.time"]) for event in events)
    assert ([4, 4], pytest.approx(8 * (dataset_s + collate_s))) == (by_worker, worker_s)
    starts = [event for event in run.events if event.attributes.get("dl.phase") == "data_loader_start"]
    assert (1 if persistent else 2) == len(starts)


@pytest.mark.parametrize("kind", KINDS)
def test_without_workers_the_training_fetches(run, kind):
    """The same numbers, measured in the process."""
    train(KINDS[kind]())
    (event,) = told(run)
    assert (0, 4) == (event["dl.data_loader.workers"], event["dl.data_loader.batch.count"])
    dataset_s, collate_s = event["dl.data_loader.dataset.time"], event["dl.data_loader.collate.time"]
    assert dataset_s >= 16 * DATASET_S
    assert collate_s >= 4 * COLLATE_S
    waits = [step.phase("data_wait").duration_s for step in run.steps]
    assert all(wait >= 4 * DATASET_S + COLLATE_S for wait in waits)
    assert dataset_s + collate_s <= sum(waits)


@pytest.mark.parametrize("workers", [0, 2])
def test_stateful_data_loader(run, workers):
    """torchdata's loader, with its state, is the same."""
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    loader = stateful.StatefulDataLoader(Slow(), 4, num_workers=workers, collate_fn=slow_collate)
    assert 4 == len(train(loader))
    assert loader.state_dict()
    (event,) = told(run)
    assert (workers, 4) == (event["dl.data_loader.workers"], event["dl.data_loader.batch.count"])
    assert event["dl.data_loader.dataset.time"] >= 16 * DATASET_S
    assert 4 == len(run.steps)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_batches_and_seeds_are_the_same(hooks, method):
    """Shuffling, workers' seeds, and the user's worker_init_fn: to the last number."""

    def numbers(worker_init_fn):
        torch.manual_seed(5)
        loader = DataLoader(
            Slow(sample_s=0),
            4,
            shuffle=True,
            num_workers=2,
            worker_init_fn=worker_init_fn,
            multiprocessing_context=method,
        )
        batches = [batch.tolist() for batch in loader]
        assert loader.worker_init_fn is worker_init_fn
        return batches

    hooked = [numbers(None), numbers(greet)]
    instrumentation.uninstrument()
    assert hooked == [numbers(None), numbers(greet)]
    instrumentation.instrument()


def test_a_starved_queue_is_empty_and_a_full_one_full(run):
    """What was ready when a step asked: nothing where workers are slow; prefetch_factor x workers where they wait."""
    train(DataLoader(Slow(24, 0.02), 4, num_workers=1))
    assert {0} == {step.queue for step in run.steps[1:]}
    before = len(run.steps)
    loader = DataLoader(Slow(64, 0), 4, num_workers=2)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    iterator = iter(loader)
    for batch in iterator:
        (parameter * batch.sum()).sum().backward()
        deadline = time.monotonic() + 10
        while iterator._data_queue.qsize() < min(4, iterator._tasks_outstanding) and time.monotonic() < deadline:
            time.sleep(0.001)  # a training that is slower than its workers
        optimizer.step()
    queues = {step.queue for step in run.steps[before + 1 : before + 8]}
    assert 4 in queues  # not in all: a batch that came out of turn waits beside the queue


@pytest.mark.parametrize("persistent", [False, True])
def test_loop_left_early(run, persistent):
    """A break with batches in flight: no stray wait in the next loop's first step."""
    loader = DataLoader(Slow(sample_s=0), 4, num_workers=1, persistent_workers=persistent)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    for _ in range(2):
        for number, _ in enumerate(loader):
            if number == 2:
                break
            (parameter * 2).sum().backward()
            optimizer.step()
    assert 4 == len(run.steps)
    assert {1} == {[phase.name for phase in step.phases].count("data_wait") for step in run.steps}


class Broken(Slow):
    """Its fifth sample cannot be read."""

    def __getitem__(self, index):
        if index == 5:
            raise OSError("unreadable")
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 1])
def test_error_in_the_dataset_goes_up(run, workers):
    """As it was raised."""
    with pytest.raises(OSError, match="unreadable"):
        train(DataLoader(Broken(sample_s=0), 4, num_workers=workers))


def test_everything_is_put_back():
    """Classes and loaders, as they were."""
    from torch.utils.data import dataloader

    names = ("_BaseDataLoaderIter", "_SingleProcessDataLoaderIter", "_MultiProcessingDataLoaderIter", "DataLoader")
    before = {name: dict(vars(getattr(dataloader, name))) for name in names}
    instrumentation.instrument()
    assert before["_MultiProcessingDataLoaderIter"] != dict(vars(dataloader._MultiProcessingDataLoaderIter))
    instrumentation.uninstrument()
    assert before == {name: dict(vars(getattr(dataloader, name))) for name in names}
    assert [] == signals.reports


def test_iterator_is_freed_at_once(hooks):
    """With its last reference, as without hooks: its workers end then."""
    gc.disable()
    try:
        iterator = iter(DataLoader(Slow(sample_s=0), 4, num_workers=1))
        next(iterator)
        (worker,) = iterator._workers
        del iterator
        worker.join(10)
        assert not worker.is_alive()
    finally:
        gc.enable()


class Closing(IterableDataset):
    """A stream that says when it is closed."""

    def __init__(self):
        self.closed = 0

    def __iter__(self):
        try:
            yield from torch.zeros(16, 1)
        finally:
            self.closed += 1


def test_stream_is_closed_at_once(hooks):
    """A loop over a generator that is left early closes it there, as without hooks: it may hold files."""
    dataset = Closing()
    gc.disable()
    try:
        for _ in DataLoader(dataset, 4):
            break
        assert 1 == dataset.closed
    finally:
        gc.enable()


def test_without_a_run_nothing_is_kept(hooks):
    """A process that only predicts may pass over loaders for ever."""
    passes = next(report for report in signals.reports if "_Passes" in report.__qualname__).__self__
    for _ in range(20):
        list(DataLoader(Slow(4, 0), 4))
    assert 1 == len(passes._passes)


@pytest.mark.parametrize("persistent", [False, True])
def test_each_pass_ends_once(hooks, monkeypatch, persistent):
    """Whether it came to its end or was left, and whenever its iterator goes."""
    gc.collect()  # other tests' iterators
    ended = []
    monkeypatch.setattr(signals, "loader_ended", ended.append)
    loader = DataLoader(Slow(8, 0), 4, num_workers=1, persistent_workers=persistent)
    for _ in loader:
        break
    for _ in range(2):
        list(loader)
    del loader
    gc.collect()
    assert 3 == len(ended)


def test_iterator_that_goes_in_another_loaders_step(run):
    """Neither one that is exhausted nor one that is left makes the step an evaluation."""
    loader, model = DataLoader(TensorDataset(torch.zeros(16, 1)), 2), torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    exhausted, left = iter(loader), iter(loader)
    list(exhausted)
    next(left)
    for number, (inputs,) in enumerate(loader):
        loss = model(inputs).sum()
        if number == 4:
            exhausted = None
        if number == 5:
            left = None
        if number == 6:
            loss = loss + model(next(iter(loader))[0]).sum()
        loss.backward()
        optimizer.step()
    assert exhausted is left is None
    assert [] == [event for event in run.events if event.kind == "evaluation"]
    assert [{"data_wait", "forward", "backward", "optimizer"}] * 4 == [
        {phase.name for phase in step.phases} for step in run.steps[4:]
    ]


def test_why_it_is_input_bound(run):
    """The sentence says what takes the time, and how many workers would do."""
    train(DataLoader(Slow(120, 0.002), 4, collate_fn=slow_collate))
    told(run)
    verdict = judge([scan_rank(run.log)])
    assert "input" == verdict.verdict
    assert "The training fetches its batches itself (num_workers=0), " in verdict.sentence
    assert "would keep up" in verdict.sentence
    summary = summarize([scan_rank(run.log)])
    told_of = summary_as_dict(summary)["data_loading"]
    assert (30, 0, "Slow") == (told_of["batches"], told_of["workers"], told_of["dataset"])
    assert told_of["fetch_s"] >= 4 * 0.002 + COLLATE_S
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(phases(summary, 10))
    assert "; by the training itself, without workers" in console.export_text()


REASONS = [
    (
        DataLoading(10, 0.8, 0.1, workers=2), 0.02,
        "A batch takes 90 ms to fetch (80 ms in the dataset, 10 ms in collate), on 2 workers. 5 workers would keep up, "
        "or make the dataset faster.",
    ),
    (
        DataLoading(10, 0.1, 0.9, workers=1), 0.06,
        "A batch takes 100 ms to fetch (10 ms in the dataset, 90 ms in collate), on 1 worker. 2 workers would keep up, "
        "or make collate_fn faster.",
    ),
    (
        DataLoading(10, 0.1, 0.0, workers=4), 0.02,
        "4 workers have a batch every 2.5 ms (10 ms in the dataset, 0 ms in collate), which is fast enough: handing it "
        "over takes the time. Look at pin_memory, the size of a batch, persistent_workers.",
    ),
    (
        DataLoading(10, 0.1, 0.1, longest_s=0.6, workers=4), 0.02,
        "4 workers fetch a batch in 20 ms on average (10 ms in the dataset, 10 ms in collate), but single ones take up "
        "to 600 ms and hold up the others. Look for slow samples, or raise prefetch_factor.",
    ),
    (
        DataLoading(10, 10, 0.0, workers=0), 0.0001,
        "The training fetches its batches itself (num_workers=0), 1 s each: 1 s in the dataset, 0 ms in collate. Make "
        "the dataset faster: no number of workers would keep up.",
    ),
]  # fmt: skip


def test_batches_of_an_accumulated_step_share_its_work():
    """Four batches a step of 10 ms of work: each is worked on for a quarter of it, and so many workers are needed."""
    builder = LogBuilder(Path(), storage=Memory())
    for number in range(30):
        waits = [("data_wait", at * 20 * MS, 20 * MS) for at in range(4)]
        builder.step(number, 90 * MS, [*waits, ("backward", 80 * MS, 10 * MS)])
    attributes = {"dl.data_loader.trains": True, "dl.data_loader.workers": 1, "dl.data_loader.batch.count": 120}
    builder.event("data_loader", 0, attributes={**attributes, "dl.data_loader.dataset.time": 120 * 0.02})
    assert "8 workers would keep up" in judge([scan_rank(builder.log)]).sentence


@pytest.mark.parametrize(("loading", "work_s", "expected"), REASONS)
def test_reasons(loading, work_s, expected):
    """By what a batch takes, how many work on it, and what a step takes without its wait."""
    assert expected == reason(loading, work_s)
