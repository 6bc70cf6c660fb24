"""The GPU that a rank trains on is found from torch, and torch is not made to do anything for it."""

import sys
from types import SimpleNamespace

import pytest

from otel_train.samplers.own_gpu import own_gpu
from otel_train.samplers.visible_devices import Gpu, Visible

UUIDS = ("GPU-c08d91cb-e324-655c-71ba-7570956445bc", "GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77")
BOTH = Visible(tuple(Gpu(uuid, "NVIDIA H200") for uuid in UUIDS))
MIXED_ORDER = Visible(BOTH.devices, ordered=False)


class Cuda:
    """``torch.cuda`` of a process with two devices. Whatever would start CUDA fails."""

    def __init__(self, reserved=(0, 0), uuids=None, initialized=True, statistics=True):
        self.reserved = reserved
        self.uuids = uuids
        self.initialized = initialized
        self.statistics = statistics

    def is_initialized(self):
        return self.initialized

    def device_count(self):
        assert self.initialized
        return len(self.reserved)

    def memory_stats_as_nested_dict(self, device):
        assert self.initialized
        if not self.statistics:
            raise RuntimeError("CUDAPluggableAllocator does not yet support getDeviceStats")
        return {"reserved_bytes": {"all": {"current": self.reserved[device]}}} if self.reserved[device] else {}

    def get_device_properties(self, device):
        assert self.initialized
        return SimpleNamespace(uuid=self.uuids[device]) if self.uuids else SimpleNamespace()


@pytest.fixture
def torch(monkeypatch):
    """Puts a CUDA in torch's place."""

    def put(*arguments, **options):
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=Cuda(*arguments, **options)))

    return put


def test_not_known_without_torch(monkeypatch):
    """A process that has not imported torch is not made to."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert own_gpu(BOTH, {}) is None
    assert "torch" not in sys.modules


def test_not_known_before_cuda_is_in_use(torch):
    """CUDA is not started to find out: not even counted."""
    torch(initialized=False)
    assert own_gpu(BOTH, {"LOCAL_RANK": "1"}) is None


def test_not_known_with_torch_on_the_cpu():
    """The real torch, on a machine or in a run without a GPU."""
    cuda = pytest.importorskip("torch").cuda
    if cuda.is_initialized():
        pytest.skip("CUDA is in use")
    assert own_gpu(BOTH, {}) is None
    assert not cuda.is_initialized()


def test_the_device_that_holds_memory_by_the_uuid_that_torch_has_for_it(torch):
    """CUDA's numbers may be in another order than the driver's: the UUID decides."""
    reversed_order = [uuid.removeprefix("GPU-") for uuid in reversed(UUIDS)]
    torch((0, 2**30), reversed_order)
    assert UUIDS[0] == own_gpu(BOTH, {"LOCAL_RANK": "0"})


def test_the_device_that_holds_most(torch):
    """A rank that also left a context on the first GPU trains on the other."""
    torch((2**20, 2**30))
    assert UUIDS[1] == own_gpu(BOTH, {})


def test_without_uuids_by_the_order_of_the_visible_devices(torch):
    """torch before 2.4 has none: cuda:1 is the second, unless that order is not known."""
    torch((0, 2**30))
    assert UUIDS[1] == own_gpu(BOTH, {})
    assert own_gpu(MIXED_ORDER, {}) is None


@pytest.mark.parametrize("statistics", [True, False], ids=["nothing allocated", "an allocator without statistics"])
def test_the_local_rank_where_memory_tells_nothing(torch, statistics):
    """The launcher's word; without it one device is the own one, and of two none."""
    torch((0, 0), statistics=statistics)
    assert UUIDS[1] == own_gpu(BOTH, {"LOCAL_RANK": "1"})
    assert own_gpu(BOTH, {}) is None
    assert own_gpu(BOTH, {"LOCAL_RANK": "2"}) is None
    torch((0,), statistics=statistics)
    assert UUIDS[0] == own_gpu(BOTH, {})


def test_torch_half_way_through_its_import(monkeypatch):
    """Another thread is importing torch: not known yet."""
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())
    assert own_gpu(BOTH, {}) is None
