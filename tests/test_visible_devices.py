"""CUDA_VISIBLE_DEVICES is read as CUDA reads it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_train.samplers.visible_devices import Gpu, Instance, named, visible_devices

UUIDS = (
    "GPU-c08d91cb-e324-655c-71ba-7570956445bc",
    "GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77",
    "GPU-5d5b1111-f627-af3f-1a0d-4e1fd92fd7b0",
    "GPU-08279800-1cbe-a71d-f3e6-8f67e15ae54a",
)
FOUR = [Gpu(uuid, "NVIDIA H200") for uuid in UUIDS]
MIXED = [Gpu(UUIDS[0], "NVIDIA A100-SXM4-40GB"), Gpu(UUIDS[1], "NVIDIA H200"), Gpu(UUIDS[2], "NVIDIA H200")]

# As `nvidia-smi -L` of the MIG User Guide has it: GPU 0 with two compute instances in one GPU instance, and one more.
SLICES = (
    Instance("MIG-c788539f-c1ea-5a36-8b4d-9b07d024b1bb", UUIDS[0], 1, 0),
    Instance("MIG-405bbda1-6b05-535f-9702-f95e8cd170ce", UUIDS[0], 1, 1),
    Instance("MIG-b4b2228d-6933-5839-bc0e-41ab9edb61c6", UUIDS[0], 9, 0),
)
SLICED = [Gpu(UUIDS[0], "NVIDIA H200", SLICES), Gpu(UUIDS[1], "NVIDIA H200"), Gpu(UUIDS[2], "NVIDIA H200", ())]


def places(value, gpus=FOUR):
    """The visible GPUs' positions in the driver's order."""
    environ = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    return [gpus.index(device) for device in visible_devices(gpus, environ).devices]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(None, [0, 1, 2, 3], id="unset: all"),
        pytest.param("", [], id="empty: none"),
        pytest.param("-1", [], id="-1: none"),
        pytest.param("NoDevFiles", [], id="what SLURM sets: none"),
        pytest.param("2", [2], id="one"),
        pytest.param("2,1", [2, 1], id="in the order of the list"),
        pytest.param("0,2,-1,1", [0, 2], id="up to the first invalid one"),
        pytest.param("1,4,0", [1], id="one too high is invalid"),
        pytest.param("1,,0", [1], id="an empty entry is invalid"),
        pytest.param("1,1", [], id="named twice: none"),
        pytest.param(" 1, 3", [1, 3], id="blanks"),
        pytest.param("1gpu2,2ampere", [1, 2], id="a number ends where its digits end"),
        pytest.param("+1", [1], id="a sign"),
        pytest.param(UUIDS[3], [3], id="a UUID"),
        pytest.param(f"{UUIDS[3]},{UUIDS[0]}", [3, 0], id="UUIDs"),
        pytest.param("GPU-08,GPU-c", [3, 0], id="abbreviated UUIDs"),
        pytest.param("GPU-08,GPU-5d5b,GPU-c", [3], id="an ambiguous one is invalid"),
        pytest.param("GPU-08,GPU-ffff,GPU-c", [3], id="an unknown one is invalid"),
        pytest.param("GPU-08,1", [3], id="a number among UUIDs is invalid"),
        pytest.param("1,GPU-08", [1], id="a UUID among numbers is invalid"),
        pytest.param(f"GPU-08,{UUIDS[3]}", [], id="the same one by two names: none"),
        pytest.param("MIG-c788539f-c1ea-5a36-8b4d-9b07d024b1bb", [], id="an instance where there is none"),
    ],
)
def test_gpus(value, expected):
    """Every form in which GPUs are named."""
    assert expected == places(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(None, [SLICES[0], SLICES[2], SLICED[1]], id="unset: one of each GPU instance, and whole GPUs"),
        pytest.param("0", [SLICES[0], SLICES[2]], id="a GPU with MIG is its instances"),
        pytest.param("1", [SLICED[1]], id="a GPU without MIG"),
        pytest.param("2", [], id="MIG without instances"),
        pytest.param(SLICES[1].uuid, [SLICES[1]], id="an instance"),
        pytest.param("MIG-b4b2,MIG-c7", [SLICES[2], SLICES[0]], id="abbreviated"),
        pytest.param(f"{SLICES[1].uuid},{SLICES[0].uuid}", [SLICES[1]], id="two of one GPU instance: the first"),
        pytest.param(f"MIG-{UUIDS[0]}/9/0", [SLICES[2]], id="by numbers, as drivers before 470 name them"),
        pytest.param(f"MIG-{UUIDS[0]}/1/1", [SLICES[1]], id="by numbers, the second compute instance"),
        pytest.param(f"MIG-{UUIDS[0]}/3/0", [], id="by numbers, none such"),
        pytest.param(f"MIG-{UUIDS[1]}/9/0", [], id="by numbers, of another GPU"),
        pytest.param(f"MIG-{UUIDS[0]}", [], id="without numbers"),
    ],
)
def test_instances(value, expected):
    """Every form in which MIG instances are named."""
    environ = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    assert tuple(expected) == visible_devices(SLICED, environ, "580.82.07").devices


def test_before_driver_570_a_process_has_one_instance():
    """And no GPU beside it, whatever is visible; with an unknown driver today's rule holds."""
    assert (SLICES[0],) == visible_devices(SLICED, {}, "550.90.07").devices
    assert 3 == len(visible_devices(SLICED, {}, "").devices)
    assert (SLICED[1],) == visible_devices(SLICED, {"CUDA_VISIBLE_DEVICES": "1"}, "550.90.07").devices


def test_numbers_of_unequal_gpus_mean_nothing_until_the_order_is_set():
    """CUDA puts the fastest first by a rule of its own: which is 0 cannot be known, so all may be meant."""
    one = {"CUDA_VISIBLE_DEVICES": "0"}
    unknown = visible_devices(MIXED, one)
    assert (tuple(MIXED), False) == (unknown.devices, unknown.ordered)
    assert not visible_devices(MIXED, {}).ordered
    ordered = visible_devices(MIXED, {**one, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    assert ((MIXED[0],), True) == (ordered.devices, ordered.ordered)
    by_uuid = visible_devices(MIXED, {"CUDA_VISIBLE_DEVICES": UUIDS[1]})
    assert ((MIXED[1],), True) == (by_uuid.devices, by_uuid.ordered)
    assert () == visible_devices(MIXED, {"CUDA_VISIBLE_DEVICES": ""}).devices


def test_a_device_is_found_by_the_uuid_that_torch_gives():
    """torch leaves out what stands before the UUID proper."""
    assert FOUR[1] == named(FOUR, "5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77")
    assert SLICES[2] == named(SLICES, "b4b2228d-6933-5839-bc0e-41ab9edb61c6")
    assert FOUR[1] == named(FOUR, UUIDS[1])
    assert named(FOUR, "5d5ba0d6") is None


ENTRY = st.one_of(
    st.integers(-2, 6).map(str),
    st.sampled_from([*UUIDS, "GPU-", "GPU-5d5b", "MIG-", "", " 2", "x", "1x", "٣"]),
)


@given(st.lists(ENTRY, max_size=6).map(",".join))
def test_whatever_is_set_some_of_the_gpus_are_visible_each_once(value):
    """No text breaks it, and none makes more of the GPUs than there are."""
    found = places(value)
    assert len(set(found)) == len(found)


@given(st.permutations(range(4)), st.integers(0, 4), st.lists(ENTRY, max_size=3))
def test_numbers_and_uuids_name_the_same(order, count, rest):
    """A valid list gives its GPUs in its order, in either form; what follows an invalid entry changes nothing."""
    chosen = order[:count]
    numbers = ",".join([str(place) for place in chosen] + ["-1", *rest])
    uuids = ",".join([UUIDS[place] for place in chosen] + ["GPU-none", *rest])
    assert chosen == places(numbers)
    assert chosen == places(uuids)


@settings(max_examples=300, deadline=None)  # the first example imports torch
@given(st.lists(st.one_of(st.integers(-2, 3).map(str), st.sampled_from(UUIDS)), min_size=1, max_size=5))
def test_torch_reads_it_alike(entries):
    """torch, which has to agree with CUDA to count devices before CUDA is started, finds the same ones."""
    cuda = pytest.importorskip("torch.cuda")
    if not hasattr(cuda, "_parse_visible_devices") or not hasattr(cuda, "_transform_uuid_to_ordinals"):
        pytest.skip("this torch has no such functions")
    value = ",".join(entries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", value)
        parsed = cuda._parse_visible_devices()
    if parsed and isinstance(parsed[0], str):
        parsed = cuda._transform_uuid_to_ordinals(parsed, list(UUIDS))
    assert list(parsed) == places(value)
