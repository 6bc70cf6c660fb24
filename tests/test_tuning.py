"""tune(): real loaders, in bounded time, and nothing left behind."""

import contextlib
import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info  # noqa: E402

import otel_train  # noqa: E402
from otel_train import instrumentation  # noqa: E402
from otel_train.errors import SettingsError, TuningError  # noqa: E402
from otel_train.testing import record  # noqa: E402
from otel_train.tuning.deadline import Overdue, deadline  # noqa: E402
from otel_train.tuning.grants import Grants, numbers_in, read_grants  # noqa: E402
from otel_train.tuning.measuring import Row, counted, measure, size_of  # noqa: E402
from otel_train.tuning.remembered import FILE, recall, remember  # noqa: E402

TWO_CPUS = Grants(2.0, (0, 1), None, 1, None, None, {0: (0, 1)}, "a CPU")


class Numbers(Dataset):
    """Samples that take some ms, or come from files."""

    def __init__(self, size=400, sample_s=0.002, folder=None, method=None):
        self.size, self.sample_s, self.folder = size, sample_s, folder

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        time.sleep(self.sample_s)
        if self.folder is not None:
            return torch.tensor(list(Path(self.folder, f"{index % 4}.bin").read_bytes()[:8]))
        return torch.tensor([index])


class Stream(IterableDataset):
    """Without a length."""

    def __iter__(self):
        info = get_worker_info()
        for index in range(0 if info is None else info.id, 200, 1 if info is None else info.num_workers):
            time.sleep(0.001)
            yield torch.tensor([index])


class Hangs(Numbers):
    """Gives nothing, ever."""

    def __getitem__(self, index):
        time.sleep(1000)


class HangsInWorkers(Numbers):
    """Gives nothing to workers."""

    def __getitem__(self, index):
        time.sleep(0.001 if get_worker_info() is None else 1000)
        return torch.tensor([index])


class Fails(Numbers):
    """Cannot be read by a worker."""

    def __getitem__(self, index):
        if get_worker_info() is not None:
            raise OSError("no such share")
        time.sleep(self.sample_s)
        return torch.tensor([index])


def factory(dataset, **fixed):
    """A loader factory over a data set."""

    def make(num_workers, prefetch_factor=None):
        return DataLoader(dataset, 4, num_workers=num_workers, prefetch_factor=prefetch_factor, **fixed)

    return make


def tune(make, step=None, **options):
    """A short search."""
    return otel_train.tune(
        make, step, **{"budget_s": 2.0, "max_workers": 2, "prefetch": (2,), "grants": TWO_CPUS} | options
    )


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No process, no alarm, no variable, no thread but those there were."""
    processes, threads = set(multiprocessing.active_children()), set(threading.enumerate())
    alarm, variables = signal.getsignal(signal.SIGALRM), dict(os.environ)
    timed = signal.getitimer(signal.ITIMER_REAL)[0] > 0  # by pytest-timeout
    yield
    assert processes == set(multiprocessing.active_children())
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)  # torch's feeder of a queue that was closed ends by itself
    assert {thread.name for thread in threads} >= {thread.name for thread in threading.enumerate()}
    assert alarm == signal.getsignal(signal.SIGALRM)
    assert timed == (signal.getitimer(signal.ITIMER_REAL)[0] > 0)
    changed = {name for name in {*variables, *os.environ} if variables.get(name) != os.environ.get(name)}
    assert {"PYTEST_CURRENT_TEST"} >= changed


def test_workers_win_where_samples_are_slow_to_read():
    """Blocked for 8 ms a batch, with no work: workers help; each setting has what was expected and measured."""
    found = tune(factory(Numbers()))
    assert found.settings["num_workers"] > 0
    assert found.gain > 1
    assert {0, 1, 2} == {each.num_workers for each in found.tried}
    assert all(each.predicted_per_s is not None for each in found.tried)
    alone = next(each for each in found.tried if each.num_workers == 0)
    assert alone.wait_s >= 4 * 0.002
    assert "to fetch" in str(found)


def test_spawned_workers():
    """The other start method: probes and loaders pickle, and the factory gets only what it takes."""
    found = tune(factory(Numbers(), multiprocessing_context=None), 0.001, max_workers=0)
    assert {"num_workers": 0} == found.settings
    loader = DataLoader(Numbers(), 4, num_workers=1, multiprocessing_context="spawn")
    seen = measure(loader, lambda batch: None, 1, 0.1, 60.0)
    assert seen.batches > 0
    assert seen.reads.fetches >= seen.batches
    assert all(each.wall_s >= 4 * 0.002 for each in seen.fetches[0])
    assert (None, 0) == (loader.worker_init_fn, loader.timeout)


def dies_at_its_end(worker):
    """A worker_init_fn: the worker dies of a signal when its work is over, as some of torch's do when they exit."""
    multiprocessing.util.Finalize(None, os.kill, (os.getpid(), signal.SIGKILL), exitpriority=100)


def test_workers_that_die_as_they_end():
    """Nothing is raised or left, what was measured stands; whoever listens hears of it, and does so afterwards too."""
    next(iter(DataLoader(Numbers(), 4, num_workers=1)))  # torch has put its handler in place
    torchs, heard = signal.getsignal(signal.SIGCHLD), []

    def handler(number, frame):
        heard.append(number)
        torchs(number, frame)

    signal.signal(signal.SIGCHLD, handler)
    try:
        loader = DataLoader(Numbers(), 4, num_workers=2, worker_init_fn=dies_at_its_end)
        assert measure(loader, lambda batch: None, 2, 0.1, 60.0).batches > 0
        assert handler is signal.getsignal(signal.SIGCHLD)
    finally:
        signal.signal(signal.SIGCHLD, torchs)
    assert signal.SIGCHLD in heard


def test_what_workers_read(tmp_path):
    """Files opened in fetches, by their sizes; bytes read; the rates; and a picture of it."""
    pytest.importorskip("matplotlib")
    for name, size in enumerate((0, 1, 1000, 5000)):
        (tmp_path / f"{name}.bin").write_bytes(bytes(size or 8)[: size or 8])
    loader = DataLoader(Numbers(folder=str(tmp_path)), 4, num_workers=1, collate_fn=len)
    reads = measure(loader, lambda batch: None, 1, 0.2, 60.0).reads
    assert reads.files == 4 * reads.fetches
    assert [reads.fetches] * 4 == [reads.sizes[power] for power in (0, 3, 9, 12)]
    assert (8 + 1 + 1000 + 5000) / 4 == reads.mean_size
    if reads.read_bytes:  # where the kernel tells
        assert {8 + 1 + 1000 + 5000} == set(reads.read_bytes)
    found = tune(factory(Numbers(folder=str(tmp_path)), collate_fn=len))
    found.plot(tmp_path / "tuning.png")
    assert b"\x89PNG" == (tmp_path / "tuning.png").read_bytes()[:4]


def test_a_stream_without_length():
    """An IterableDataset is measured as any."""
    found = tune(factory(Stream()))
    assert found.gain is not None


def test_one_sample():
    """One batch a pass, with the start of the workers in it: measured over passes."""
    found = tune(factory(Numbers(1)), max_workers=1)
    assert found.gain > 0


def test_a_loader_without_batches():
    """Says so."""
    with pytest.raises(TuningError, match="no batch"):
        tune(factory(Numbers(0)))


def test_a_factory_that_raises():
    """Its error is told, and chained."""

    def broken(num_workers):
        raise KeyError("path")

    with pytest.raises(TuningError, match="the loader factory raised KeyError: 'path' for num_workers=0") as caught:
        tune(broken)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_factory_that_takes_no_workers():
    """Is told what it has to take."""
    with pytest.raises(SettingsError, match="has to take num_workers"):
        tune(lambda batch_size: None)


def test_a_step_that_raises():
    """So is a step's error."""

    def step(batch):
        raise RuntimeError("no GPU")

    with pytest.raises(TuningError, match="RuntimeError: no GPU"):
        tune(factory(Numbers()), step)


@pytest.mark.parametrize("options", [{"budget_s": 0}, {"max_workers": -1}, {"prefetch": ()}, {"prefetch": (0,)}])
def test_wrong_arguments(options):
    """What is allowed is said."""
    with pytest.raises(SettingsError, match="allowed are"):
        tune(factory(Numbers()), **options)


def test_a_data_set_that_hangs():
    """Ends with an error when the budget is over."""
    with pytest.raises(TuningError, match="no end after"):
        tune(factory(Hangs()), budget_s=0.5)


def test_workers_that_hang():
    """Are killed, with no setting of theirs taken."""
    found = tune(factory(HangsInWorkers()), max_workers=1, budget_s=1.0)
    assert {"num_workers": 0} == found.settings
    assert [True] == ["no end after" in each.note for each in found.tried if each.num_workers == 1]


def test_workers_that_fail():
    """A data set that only this process can read: their settings are out, with the reason."""
    found = tune(factory(Fails()), max_workers=1)
    assert {"num_workers": 0} == found.settings
    assert [True] == ["no such share" in each.note for each in found.tried if each.num_workers == 1]


def test_in_another_thread():
    """Where no alarm can be set."""
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(tune(factory(Numbers()), max_workers=1)))
    thread.start()
    thread.join(60)
    assert outcome[0].gain is not None


def test_random_states_stay():
    """A training after tune() draws the numbers that it would have drawn."""
    torch.manual_seed(3)
    random.seed(3)
    expected = torch.rand(2).tolist(), random.random()
    torch.manual_seed(3)
    random.seed(3)
    tune(factory(Numbers(), shuffle=True), max_workers=1, budget_s=0.5)
    assert expected == (torch.rand(2).tolist(), random.random())


def test_no_run_begins_and_none_is_disturbed():
    """Under zero code a measured step is no training; while a run records, tune() refuses."""
    begun = []
    instrumentation.instrument(lambda: begun.append(1))
    try:
        parameter = torch.nn.Parameter(torch.zeros(1))
        tune(factory(Numbers()), lambda batch: (parameter * 2).sum().backward(), max_workers=0, budget_s=0.5)
    finally:
        instrumentation.uninstrument()
    assert [] == begun
    with record(), pytest.raises(TuningError, match="before init"):
        tune(factory(Numbers()))


def test_the_outcome_is_remembered(tmp_path):
    """For the same machine, data set and search; fresh=True and another data set measure again."""
    first = tune(factory(Numbers()), directory=tmp_path, max_workers=1, budget_s=0.5)
    again = tune(factory(Numbers()), directory=tmp_path, max_workers=1, budget_s=0.5)
    assert (False, True) == (first.remembered, again.remembered)
    assert first.settings == again.settings
    assert first.tried == again.tried
    assert first.reads == again.reads
    assert not tune(factory(Numbers(8)), directory=tmp_path, max_workers=1, budget_s=0.5).remembered
    assert not tune(factory(Numbers()), directory=tmp_path, max_workers=1, budget_s=0.5, fresh=True).remembered


@pytest.mark.parametrize("content", ["", "[]", '{"format": 9}', '{"format": 1, "results": 3}'])
def test_a_spoiled_memory_is_none(tmp_path, content):
    """What cannot be read is written anew."""
    (tmp_path / FILE).write_text(content)
    assert recall(tmp_path, "key") is None
    remember(tmp_path, "key", {"a": 1})
    assert {"a": 1} == recall(tmp_path, "key")


def test_settings_without_memory_are_left_out():
    """/dev/shm of a container with 64 bytes: no batch fits, and the note says so."""
    grants = Grants(2.0, (0, 1), None, 1, None, 64, {}, None)
    found = tune(factory(Numbers()), grants=grants, prefetch=(2, 8))
    assert {"num_workers": 0} == found.settings
    assert [True] * 4 == ["/dev/shm" in each.note for each in found.tried if each.num_workers]
    assert [None] * 4 == [each.measured_per_s for each in found.tried if each.num_workers]


def grant(folder, files):
    """A system of files, and what it grants."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return lambda **options: read_grants(folder / "proc", folder / "sys", folder, **{"environ": {}} | options)


SYSTEM = {
    "proc/self/cgroup": "0::/pod\n",
    "proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n",
    "proc/cpuinfo": "processor: 0\nmodel name\t: Good CPU\n",
    "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
    "sys/fs/cgroup/pod/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/pod/cpu.stat": "usage_usec 5\n",
    "sys/fs/cgroup/pod/memory.current": "1048576\n",
    "sys/fs/cgroup/pod/memory.max": "4194304\n",
    "sys/devices/system/node/node0/cpulist": "0-3\n",
    "sys/devices/system/node/node1/cpulist": "4-7\n",
    "sys/devices/system/node/node2/cpulist": "\n",
}


def test_a_control_group_of_one_and_a_half_cpus(tmp_path):
    """The fewest of affinity and quota; memory up to the group's limit; the nodes of the CPUs allowed."""
    found = grant(tmp_path, SYSTEM)(allowed=(2, 3, 4))
    assert (1.5, 1.5, 3 << 20) == (found.cpus, found.quota, found.memory_bytes)
    assert {0: (2, 3), 1: (4,)} == found.nodes
    assert "Good CPU" == found.cpu_model
    assert "1.5 CPUs (3 allowed, 1.5 by the control group), on 2 NUMA nodes" == found.told()
    assert [0, 1, 2, 3, 4, 6, 8] == sorted({each.workers for each in _grid(found.cpus)})


def _grid(cpus):
    from otel_train.tuning.search import grid

    return grid(cpus, None, (2,), (False,))


def test_ranks_of_a_host_share_its_cpus(tmp_path):
    """As the launcher says how many they are."""
    found = grant(tmp_path, SYSTEM)(allowed=tuple(range(8)), environ={"LOCAL_WORLD_SIZE": "3"})
    assert 0.5 == found.cpus


def test_without_a_control_group(tmp_path):
    """Only the affinity counts; what is not told is None."""
    found = grant(tmp_path, {})(allowed=(0,))
    assert (1.0, None, None, {}, None) == (found.cpus, found.quota, found.memory_bytes, found.nodes, found.cpu_model)


def test_sets_of_cpus():
    """As the kernel writes them."""
    assert [0, 1, 2, 8] == numbers_in("0-2,8\n")
    assert [] == numbers_in("\n")


def test_what_is_counted():
    """Whole rounds of the workers, without their first and those that fill the queue; all where nothing is left."""
    rows = [Row(float(at), 0.0, 0.0, 0.0, 0.0, 0.0, None) for at in range(12)]
    assert [5.0, 6.0, 7.0, 8.0, 9.0] == [row.wait_s for row in counted(rows, 5)]
    assert [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0] == [row.wait_s for row in counted(rows, 2, 2)]
    assert [6.0, 7.0, 8.0, 9.0, 10.0, 11.0] == [row.wait_s for row in counted(rows, 2, 8)]
    assert list(map(float, range(1, 12))) == [row.wait_s for row in counted(rows, 0)]
    assert rows[:3] == counted(rows[:3], 5)


def test_bytes_of_a_batch():
    """Tensors and arrays in whatever holds them; None where nothing tells."""
    batch = {"a": torch.zeros(4), "b": [torch.zeros(2, dtype=torch.int64), "text"]}
    assert 16 + 16 == size_of(batch)
    assert size_of("text") is None


def test_the_alarm_gives_way_to_the_one_before():
    """A program's own alarm is set again, and its handler is back."""
    heard = []
    before = signal.signal(signal.SIGALRM, lambda *_: heard.append(1))
    timer = signal.setitimer(signal.ITIMER_REAL, 1000)
    try:
        with contextlib.suppress(Overdue), deadline(0.01):
            threading.Event().wait(30)
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 900
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)
    assert [] == heard
