"""NVIDIA's GPUs as NVML has them: the real pynvml over a driver made up in ``nvml_driver``."""

import os
import re
import sys
from pathlib import Path

import pynvml
import pytest
from nvml_driver import SECOND, SLICES, TOTAL, USED, UUID, Card, Driver, Slice

from otel_train import samplers
from otel_train.resource_names import attributes_of
from otel_train.samplers.nvidia import HOST_PID_NAMESPACE, NvidiaSampler
from otel_train.samplers.nvidia_energy import NvidiaEnergySampler
from otel_train.samplers.nvidia_gpus import NvidiaGpus
from otel_train.samplers.nvidia_pcie import NvidiaPcieSampler
from otel_train.samplers.nvidia_reader import GONE, NEVER
from otel_train.samplers.nvidia_xid import XidWatcher
from otel_train.samplers.sampler import SamplerUnavailable


@pytest.fixture
def machine(monkeypatch):
    """Makes the GPUs that a process sees on a machine with a driver."""

    def make(driver, whole_host=True, own=None, **environ):
        return NvidiaGpus(whole_host, lambda visible: own, driver.install(monkeypatch), environ)

    return make


@pytest.fixture
def host_proc(tmp_path):
    """A ``/proc`` of a process in the host's own PID namespace."""
    (tmp_path / "self" / "ns").mkdir(parents=True)
    (tmp_path / "self" / "ns" / "pid").symlink_to(HOST_PID_NAMESPACE)
    return tmp_path


def plain(readings, uuid=UUID):
    """A device's readings by metric and the attributes that tell its series apart."""
    common = {"hw.id", "hw.type", "hw.name", "hw.model", "hw.parent", "hw.gpu.task", "otel_train.gpu.own"}
    return {
        (name, *(value for key, value in attributes if key not in common)): number
        for (name, attributes), number in readings.items()
        if dict(attributes)["hw.id"] == uuid
    }


def names(readings, uuid=UUID):
    """The metrics of a device."""
    return {key[0] for key in plain(readings, uuid)}


def test_everything_that_an_h200_has(machine, host_proc):
    """Each value in base units, each series with the GPU's identity."""
    card = Card(processes={4711: 30_000_000_000, 4712: 1_000_000_000})
    readings = NvidiaSampler(machine(Driver(card), own=UUID), host_proc, pid=4711).sample()
    reasons = ("sw_power_cap", "hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown")
    expected = {
        ("hw.gpu.utilization",): 0.87,
        ("otel_train.gpu.memory.bandwidth.utilization",): 0.42,
        ("hw.gpu.memory.usage",): USED,
        ("hw.gpu.memory.limit",): TOTAL,
        ("hw.gpu.memory.utilization",): USED / TOTAL,
        ("hw.temperature", "gpu"): 61,
        ("hw.temperature", "memory"): 68,
        ("hw.temperature.limit", "throttled", "gpu"): 89,
        ("hw.temperature.limit", "critical", "gpu"): 92,
        ("hw.power",): 482.317,
        ("otel_train.gpu.power.limit",): 700,
        ("otel_train.gpu.clock.frequency", "sm"): 1.98e9,
        ("otel_train.gpu.clock.frequency", "memory"): 3.201e9,
        **{("otel_train.gpu.throttled", reason): 0 for reason in (*reasons, "sync_boost")},
        ("otel_train.gpu.throttled", "sw_power_cap"): 1,
        ("hw.errors", "corrected"): 0,
        ("hw.errors", "uncorrected"): 0,
        ("otel_train.gpu.remapped_rows", "corrected"): 1,
        ("otel_train.gpu.remapped_rows", "uncorrected"): 0,
        ("otel_train.gpu.row_remapping", "pending"): 0,
        ("otel_train.gpu.row_remapping", "failure"): 0,
        **{("hw.status", state): 0 for state in ("degraded", "predicted_failure", "failed")},
        ("hw.status", "ok"): 1,
        ("otel_train.gpu.link.io", "transmit"): 0,
        ("otel_train.gpu.link.io", "receive"): 0,
        ("otel_train.gpu.process.count",): 2,
        ("otel_train.gpu.process.memory.usage",): 30_000_000_000,
    }
    assert expected == plain(readings)
    identity = {
        ("hw.id", UUID),
        ("hw.type", "gpu"),
        ("hw.name", "GPU 0"),
        ("hw.model", "NVIDIA H200"),
        ("otel_train.gpu.own", "true"),
    }
    assert all(identity <= set(attributes) for _, attributes in readings)
    assert all(isinstance(value, float) for value in readings.values())
    assert all({name for name, _ in pairs} <= set(attributes_of(metric)) for metric, pairs in readings)


def test_counters_count_from_the_first_sample(machine):
    """What the driver has counted before the run is not the run's."""
    card = Card(corrected=1000, link_kib=500)
    sampler = NvidiaSampler(machine(Driver(card)))
    sampler.sample()
    card.corrected, card.uncorrected, card.link_kib = 1003, 2, 600
    grown = plain(sampler.sample())
    assert (3, 2) == (grown["hw.errors", "corrected"], grown["hw.errors", "uncorrected"])
    assert 100 * 1024 == grown["otel_train.gpu.link.io", "transmit"]
    assert 200 * 1024 == grown["otel_train.gpu.link.io", "receive"]


def test_a_counter_that_was_set_back_never_falls(machine):
    """A reset of the GPU sets its counts to 0: the run's total stays, and goes on from there."""
    card = Card(corrected=10)
    sampler = NvidiaSampler(machine(Driver(card)))
    totals = []
    for card.corrected in (10, 15, 1, 4):
        totals.append(plain(sampler.sample())["hw.errors", "corrected"])
    assert [0, 5, 5, 8] == totals


def test_a_counter_goes_on_when_the_gpu_turns_out_to_be_the_own_one(monkeypatch):
    """The series gets another attribute then; its total does not begin anew."""
    card, own = Card(corrected=10), []
    gpus = NvidiaGpus(True, lambda visible: own[0] if own else None, Driver(card).install(monkeypatch), {})
    sampler = NvidiaSampler(gpus)
    sampler.sample()
    card.corrected = 14
    own.append(UUID)
    assert 4 == plain(sampler.sample())["hw.errors", "corrected"]


@pytest.mark.parametrize(
    ("card", "state"),
    [
        (Card(), "ok"),
        (Card(uncorrected=1), "degraded"),
        (Card(rows=(0, 1, 1, 0)), "degraded"),
        (Card(rows=(0, 1, 0, 1)), "predicted_failure"),
    ],
)
def test_the_state_follows_from_errors_and_remapping(machine, card, state):
    """Errors and a pending remapping ask for a reset, a failed one for another GPU."""
    readings = plain(NvidiaSampler(machine(Driver(card))).sample())
    assert [state] == [key[1] for key, value in readings.items() if key[0] == "hw.status" and value]


@pytest.mark.parametrize(
    ("function", "gone"),
    [
        (
            "nvmlDeviceGetUtilizationRates",
            {"hw.gpu.utilization", "otel_train.gpu.memory.bandwidth.utilization"},
        ),
        ("nvmlDeviceGetTemperatureThreshold", {"hw.temperature.limit"}),
        ("nvmlDeviceGetPowerUsage", {"hw.power"}),
        ("nvmlDeviceGetEnforcedPowerLimit", {"otel_train.gpu.power.limit"}),
        ("nvmlDeviceGetClockInfo", {"otel_train.gpu.clock.frequency"}),
        ("nvmlDeviceGetTotalEccErrors", {"hw.errors"}),
        ("nvmlDeviceGetRemappedRows", {"otel_train.gpu.remapped_rows", "otel_train.gpu.row_remapping"}),
        ("nvmlDeviceGetFieldValues", {"otel_train.gpu.link.io"}),
        (
            "nvmlDeviceGetComputeRunningProcesses_v3",
            {"otel_train.gpu.process.count", "otel_train.gpu.process.memory.usage"},
        ),
    ],
)
@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION])
def test_what_a_gpu_does_not_have_or_show_is_absent_and_not_asked_for_again(
    machine, host_proc, function, gone, code, caplog
):
    """No value, no zero, no warning; the rest is there."""
    processes = {7: 5_000_000_000}
    whole = names(NvidiaSampler(machine(Driver(Card(processes=processes))), host_proc, pid=7).sample())
    driver = Driver(Card(processes=processes, refused={function: code}))
    sampler = NvidiaSampler(machine(driver), host_proc, pid=7)
    assert gone == whole - names(sampler.sample())
    driver.asked.clear()
    assert gone == whole - names(sampler.sample())
    assert function not in driver.asked
    assert [] == caplog.records


def test_without_error_counts_and_remapping_the_state_is_not_known(machine):
    """A GPU without ECC is not called healthy."""
    unsupported = pynvml.NVML_ERROR_NOT_SUPPORTED
    refused = {"nvmlDeviceGetTotalEccErrors": unsupported, "nvmlDeviceGetRemappedRows": unsupported}
    assert "hw.status" not in names(NvidiaSampler(machine(Driver(Card(refused=refused)))).sample())


def test_a_value_that_fails_now_is_asked_for_again(machine):
    """A passing failure leaves out one value of one sample."""
    card = Card(refused={"nvmlDeviceGetPowerUsage": pynvml.NVML_ERROR_TIMEOUT})
    sampler = NvidiaSampler(machine(Driver(card)))
    assert "hw.power" not in names(sampler.sample())
    card.refused.clear()
    assert "hw.power" in names(sampler.sample())


def test_memory_is_what_nvidia_smi_calls_used(machine):
    """Without the driver's own part, which version 1 of the call counts: that is for drivers too old for version 2."""
    assert USED == plain(NvidiaSampler(machine(Driver(Card()))).sample())["hw.gpu.memory.usage",]
    old = Driver(Card(), missing=("nvmlDeviceGetMemoryInfo_v2",))
    assert USED < plain(NvidiaSampler(machine(old)).sample())["hw.gpu.memory.usage",]


def test_a_passing_failure_does_not_change_what_memory_means(machine):
    """Version 1 stands in where version 2 is not there, not where it failed once."""
    card = Card(refused={"nvmlDeviceGetMemoryInfo_v2": pynvml.NVML_ERROR_TIMEOUT})
    assert "hw.gpu.memory.usage" not in names(NvidiaSampler(machine(Driver(card))).sample())


def test_old_and_new_drivers_have_other_names_for_the_same(machine):
    """Throttling before driver 535, temperature from the call that replaces the deprecated one."""
    old = Driver(Card(), missing=("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetTemperatureV"))
    new = Driver(Card(), missing=("nvmlDeviceGetTemperature",))
    for driver in (old, new):
        readings = plain(NvidiaSampler(machine(driver)).sample())
        assert 61 == readings["hw.temperature", "gpu"]
        assert 1 == readings["otel_train.gpu.throttled", "sw_power_cap"]


def test_nvlink_link_by_link_where_the_driver_gives_no_sum(machine):
    """The links that there are, added up; and NVLink 5's own counters, in bytes."""
    fields = pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX
    bytes_of = pynvml.NVML_FI_DEV_NVLINK_COUNT_XMIT_BYTES, pynvml.NVML_FI_DEV_NVLINK_COUNT_RCV_BYTES
    refuse = pynvml.NVML_ERROR_NOT_SUPPORTED
    no_sum = {(field, 0xFFFFFFFF): refuse for field in (*fields, *bytes_of)}
    absent = {(field, link): refuse for field in fields for link in range(4, pynvml.NVML_NVLINK_MAX_LINKS)}
    for refused, times in (({**no_sum, **absent}, 4), (dict.fromkeys(fields, refuse), 1)):
        card = Card(link_kib=0, refused=refused)
        sampler = NvidiaSampler(machine(Driver(card)))
        sampler.sample()
        card.link_kib = 10
        assert times * 10 * 1024 == plain(sampler.sample())["otel_train.gpu.link.io", "transmit"]


def test_no_nvlink(machine):
    """A GPU without links has no such series."""
    every = dict.fromkeys((138, 139, 202, 204), pynvml.NVML_ERROR_NOT_SUPPORTED)
    driver = Driver(Card(refused=every))
    sampler = NvidiaSampler(machine(driver))
    assert "otel_train.gpu.link.io" not in names(sampler.sample())
    driver.asked.clear()
    sampler.sample()
    assert 1 == driver.asked.count("nvmlDeviceGetFieldValues")  # the memory's temperature


def test_processes_cannot_be_counted_from_a_container(machine, tmp_path):
    """There the driver lists nothing, or not all: no count, and the own memory only where it is listed."""
    for processes, expected in (({}, set()), ({7: 5, 8: 6}, {"otel_train.gpu.process.memory.usage"})):
        sampler = NvidiaSampler(machine(Driver(Card(processes=processes))), tmp_path, pid=7)
        assert expected == {name for name in names(sampler.sample()) if ".process." in name}


def test_a_list_without_this_process_may_leave_out_others(machine, host_proc):
    """Containers may claim to be the host. What was once complete stays so: no processes are 0 then."""
    card = Card()
    sampler = NvidiaSampler(machine(Driver(card)), host_proc, pid=7)
    counts = []
    for card.processes in ({}, {8: 5}, {7: 5, 8: 6}, {8: 6}, {}):
        counts.append(plain(sampler.sample()).get(("otel_train.gpu.process.count",)))
    assert [None, None, 2, 1, 0] == counts


# Which GPUs


def two(**options):
    """A machine with two GPUs."""
    return Driver(Card(**options), Card(SECOND, gpu=3))


def test_the_only_process_of_a_host_reads_all_visible_gpus(machine):
    """Each once, its own marked."""
    readings = NvidiaSampler(machine(two(), own=SECOND)).sample()
    assert (0.87, 0.03) == tuple(plain(readings, uuid)["hw.gpu.utilization",] for uuid in (UUID, SECOND))
    own = {dict(attributes)["hw.id"] for _, attributes in readings if ("otel_train.gpu.own", "true") in attributes}
    assert {SECOND} == own


def test_one_rank_of_several_reads_its_own_gpu(machine):
    """And nothing while it is not known which that is."""
    assert {SECOND} == {dict(key[1])["hw.id"] for key in NvidiaSampler(machine(two(), False, SECOND)).sample()}
    assert {} == NvidiaSampler(machine(two(), False, None)).sample()


@pytest.mark.parametrize(
    ("value", "expected"), [("1", {SECOND}), ("1,0", {UUID, SECOND}), ("", set()), (UUID, {UUID}), ("GPU-1c", {SECOND})]
)
def test_gpus_that_are_not_visible_are_not_read(machine, value, expected):
    """They may be somebody else's."""
    readings = NvidiaSampler(machine(two(), CUDA_VISIBLE_DEVICES=value)).sample()
    assert expected == {dict(attributes)["hw.id"] for _, attributes in readings}


def test_mig_instances_are_devices_of_their_own(machine):
    """With their UUID, their GPU's as parent, and their memory; utilization is not to be had; the GPU has the rest."""
    card = Card(slices=[Slice(SLICES[0], 1), Slice(SLICES[1], 9, used=7_000_000_000)])
    readings = NvidiaSampler(machine(Driver(card), own=SLICES[1])).sample()
    memory = {"hw.gpu.memory.usage", "hw.gpu.memory.limit", "hw.gpu.memory.utilization"}
    assert memory == names(readings, SLICES[0]) == names(readings, SLICES[1])
    assert 7_000_000_000 == plain(readings, SLICES[1])["hw.gpu.memory.usage",]
    assert "hw.gpu.utilization" not in names(readings)
    assert 482.317 == plain(readings)["hw.power",]
    parents = {dict(at).get("hw.parent") for _, at in readings if dict(at)["hw.id"] in SLICES}
    assert {UUID} == parents
    own = {dict(at)["hw.id"] for _, at in readings if "otel_train.gpu.own" in dict(at)}
    assert {SLICES[1]} == own


def test_ranks_on_instances_of_one_gpu_leave_the_gpu_to_the_host(machine):
    """Otherwise its power would be there once a rank."""
    card = Card(slices=[Slice(SLICES[0], 1), Slice(SLICES[1], 9)])
    readings = NvidiaSampler(machine(Driver(card), whole_host=False, own=SLICES[0])).sample()
    assert {SLICES[0]} == {dict(attributes)["hw.id"] for _, attributes in readings}


# Drivers that are not there, or go


def test_this_machine_without_a_driver():
    """The real thing: pynvml finds no library."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        with pytest.raises(SamplerUnavailable, match="no NVIDIA GPU"):
            NvidiaGpus(True)
    else:
        pynvml.nvmlShutdown()
        pytest.skip("this machine has a driver")


@pytest.mark.parametrize(
    "code", [pynvml.NVML_ERROR_DRIVER_NOT_LOADED, pynvml.NVML_ERROR_NO_PERMISSION, pynvml.NVML_ERROR_UNKNOWN]
)
def test_a_driver_that_cannot_be_reached(machine, code):
    """Not loaded, not permitted, or a container whose rights were taken away: there is no such source."""
    driver = Driver(Card())
    driver.refuses_init = code
    with pytest.raises(SamplerUnavailable):
        machine(driver)


def test_a_driver_without_gpus_and_one_whose_gpus_may_not_be_used(machine):
    """The library is there; the devices are not, or not for us. Nothing stays open."""
    refused = {"nvmlDeviceGetHandleByIndex_v2": pynvml.NVML_ERROR_NO_PERMISSION}
    for driver in (Driver(), Driver(Card(refused=refused))):
        with pytest.raises(SamplerUnavailable):
            machine(driver)
        assert 0 == driver.users


def test_without_the_bindings(monkeypatch):
    """nvidia-ml-py may have been left out."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(SamplerUnavailable, match="nvidia-ml-py"):
        NvidiaGpus(True)


def test_a_gpu_that_cannot_be_opened_does_not_hide_the_others(machine):
    """CUDA does not count it either."""
    refused = {"nvmlDeviceGetHandleByIndex_v2": pynvml.NVML_ERROR_GPU_IS_LOST}
    readings = NvidiaSampler(machine(Driver(Card(refused=refused), Card(SECOND)))).sample()
    assert {SECOND} == {dict(attributes)["hw.id"] for _, attributes in readings}


def test_a_lost_gpu_is_an_error_and_comes_back_with_a_new_connection(machine):
    """Counters go on where they were."""
    card = Card(corrected=5)
    driver = Driver(card)
    sampler = NvidiaSampler(machine(driver))
    sampler.sample()
    card.lost = True
    for _ in range(2):
        with pytest.raises(pynvml.NVMLError_GpuIsLost):
            sampler.sample()
    card.lost, card.corrected = False, 9
    assert 4 == plain(sampler.sample())["hw.errors", "corrected"]
    assert (3, 1) == (driver.inits, driver.users)


def test_one_lost_gpu_of_two_has_failed_and_the_other_is_read(machine):
    """Seven healthy GPUs go on being watched when the eighth falls off the bus."""
    driver = two()
    sampler = NvidiaSampler(machine(driver))
    sampler.sample()
    driver.cards[0].lost = True
    readings = sampler.sample()
    assert {"hw.status"} == names(readings)
    assert 1 == plain(readings)["hw.status", "failed"]
    assert 0.03 == plain(readings, SECOND)["hw.gpu.utilization",]


def test_a_driver_that_goes_away_and_comes_back(machine):
    """Every call says Uninitialized, then the init fails; when it is back, values are."""
    driver = Driver(Card())
    sampler = NvidiaSampler(machine(driver))
    driver.users, driver.refuses_init = 0, pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        sampler.sample()
    with pytest.raises(pynvml.NVMLError_DriverNotLoaded):
        sampler.sample()
    driver.refuses_init = 0
    assert "hw.power" in names(sampler.sample())


def test_a_gpu_that_answers_nothing_is_an_error(machine):
    """Not an empty sample for ever: failures that are not the device's nature are told."""
    functions = [name for name in dir(Driver) if name.startswith("nvmlDeviceGet")]
    card = Card()
    sampler = NvidiaSampler(machine(Driver(card)))
    sampler.sample()
    card.refused = dict.fromkeys(functions, pynvml.NVML_ERROR_UNKNOWN)
    del card.refused["nvmlDeviceGetHandleByIndex_v2"]
    with pytest.raises(pynvml.NVMLError_Unknown):
        sampler.sample()


# Energy, PCIe, Xid


def test_energy_is_of_this_run(machine):
    """Joules since the first sample; absent where the GPU does not count them."""
    card = Card(millijoules=91_234_567_890)
    sampler = NvidiaEnergySampler(machine(Driver(card)))
    assert {("hw.energy",): 0} == plain(sampler.sample())
    card.millijoules += 3_500_000
    assert {("hw.energy",): 3500} == plain(sampler.sample())
    card.refused = {"nvmlDeviceGetTotalEnergyConsumption": pynvml.NVML_ERROR_NOT_SUPPORTED}
    assert {} == sampler.sample()


def test_pcie_both_ways(machine):
    """Bytes a second."""
    expected = {("otel_train.gpu.pcie.rate", "transmit"): 12.5e6, ("otel_train.gpu.pcie.rate", "receive"): 845e6}
    assert expected == plain(NvidiaPcieSampler(machine(Driver(Card()))).sample())


def test_the_expensive_calls_are_not_in_the_common_sample(machine):
    """3 and 21 ms a call have samplers of their own."""
    driver = Driver(Card())
    NvidiaSampler(machine(driver)).sample()
    assert not {"nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPcieThroughput"} & set(driver.asked)


def test_xid_events_are_counted_by_code(machine):
    """Those of each sample are added to what came before; no event, no series."""
    driver = two()
    watcher = XidWatcher(machine(driver))
    assert {} == watcher.sample()
    driver.cards[0].xids = [94, 94, 63]
    assert {("otel_train.gpu.xid", "94"): 2, ("otel_train.gpu.xid", "63"): 1} == plain(watcher.sample())
    driver.cards[1].xids = [94]
    readings = watcher.sample()
    assert {("otel_train.gpu.xid", "94"): 1} == plain(readings, SECOND)
    assert {("otel_train.gpu.xid", "94"): 2, ("otel_train.gpu.xid", "63"): 1} == plain(readings)


def test_the_event_that_tells_of_a_lost_gpu_is_kept(machine):
    """79 comes with the loss; after it the GPU cannot be asked, and after a new connection the count is still there."""
    driver = Driver(Card())
    gpus = machine(driver)
    watcher, sampler = XidWatcher(gpus), NvidiaSampler(gpus)
    watcher.sample()
    driver.cards[0].xids, driver.cards[0].lost = [79], True
    assert {("otel_train.gpu.xid", "79"): 1} == plain(watcher.sample())
    for source in (watcher, sampler):
        with pytest.raises(pynvml.NVMLError_GpuIsLost):
            source.sample()
    driver.cards[0].lost = False
    assert {("otel_train.gpu.xid", "79"): 1} == plain(watcher.sample())
    driver.cards[0].xids = [79]
    assert {("otel_train.gpu.xid", "79"): 2} == plain(watcher.sample())


def test_a_gpu_that_cannot_be_watched_now_is_tried_again(machine):
    """Nothing stays open after the failure."""
    card = Card(refused={"nvmlDeviceRegisterEvents": pynvml.NVML_ERROR_UNKNOWN})
    driver = Driver(card)
    watcher = XidWatcher(machine(driver))
    with pytest.raises(pynvml.NVMLError_Unknown):
        watcher.sample()
    assert {} == driver.sets
    card.refused, card.xids = {}, [31]
    assert {("otel_train.gpu.xid", "31"): 1} == plain(watcher.sample())


def test_gpus_without_events(machine):
    """Virtual GPUs and MIG instances cannot be watched: no series, no error, no set left open."""
    virtual = Driver(Card(refused={"nvmlDeviceRegisterEvents": pynvml.NVML_ERROR_NOT_SUPPORTED}))
    instance = Driver(Card(slices=[Slice(SLICES[0], 1)]))
    for driver, whole_host, own in ((virtual, True, None), (instance, False, SLICES[0])):
        assert {} == XidWatcher(machine(driver, whole_host, own)).sample()
        assert {} == driver.sets


def test_every_name_of_nvml_is_one():
    """What the samplers ask for by name is in nvidia-ml-py: a slip would look like hardware that lacks the value."""
    sources = [path.read_text() for path in Path(samplers.__file__).parent.glob("nvidia*.py")]
    asked = {name for source in sources for name in re.findall(r'(?:library\.|")((?:nvml|NVML)\w+)', source)}
    whole = {name for name in asked if not name.endswith("_")}  # the others are beginnings, put together in the code
    built = {f"NVML_ERROR_{name}" for name in (*GONE, *NEVER)}
    assert {"NVML_TEMPERATURE_THRESHOLD_", "NVML_ERROR_"} == asked - whole
    assert len(whole) > 40
    assert [] == sorted(name for name in whole | built if not hasattr(pynvml, name))


def test_own_process_is_this_one(machine, tmp_path):
    """Unless told otherwise."""
    sampler = NvidiaSampler(machine(Driver(Card(processes={os.getpid(): 5}))), tmp_path)
    assert 5 == plain(sampler.sample())["otel_train.gpu.process.memory.usage",]
