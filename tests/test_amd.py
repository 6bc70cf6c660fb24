"""AMD's GPUs as amdsmi's documents have them: nothing here was seen on hardware."""

import os
import sys
from enum import IntEnum
from types import SimpleNamespace

import pytest

from otel_train.resource_names import attributes_of
from otel_train.samplers.amd import AmdSampler, visible_amd_devices
from otel_train.samplers.nvidia import HOST_PID_NAMESPACE
from otel_train.samplers.sampler import SamplerUnavailable
from otel_train.samplers.visible_devices import Gpu

SERIALS = ("0x9C2A5E3B7D104F68", "0x1B3D5F7991B3D5F7")
NAMED = ("GPU-9c2a5e3b7d104f68", "GPU-1b3d5f7991b3d5f7")
UUIDS = ("8cff74a1-0000-1000-809c-2a5e3b7d104f", "8cff74a1-0000-1000-801b-3d5f7991b3d5")
NOT_SUPPORTED, NO_PERMISSION, NOT_INIT, DRIVER_NOT_LOADED = 2, 10, 32, 34


class AmdSmiException(Exception):
    """The package's base of exceptions."""


class AmdSmiLibraryException(AmdSmiException):
    """A code of the C library."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code

    def get_error_code(self):
        return self.code


Sensor = IntEnum("Sensor", {"EDGE": 0, "HOTSPOT": 1, "VRAM": 2})
Metric = IntEnum("Metric", {"CURRENT": 0, "CRITICAL": 5, "EMERGENCY": 7})
Clock = IntEnum("Clock", {"SYS": 0, "GFX": 0, "MEM": 4})


class Amdsmi:
    """The package with two MI300X: functions and the shape of what they return as in ROCm's reference."""

    AmdSmiException = AmdSmiException
    AmdSmiLibraryException = AmdSmiLibraryException
    AmdSmiTemperatureType = Sensor
    AmdSmiTemperatureMetric = Metric
    AmdSmiClkType = Clock
    amdsmi_wrapper = SimpleNamespace(
        AMDSMI_STATUS_NOT_INIT=NOT_INIT,
        AMDSMI_STATUS_DRIVER_NOT_LOADED=DRIVER_NOT_LOADED,
    )

    def __init__(self, handles=(0, 1)):
        self.handles = handles
        self.refused = {}
        self.inits = 0
        self.energy = 15_259_000_000
        self.hip_ids = (0, 1)

    def __getattribute__(self, name):
        code = object.__getattribute__(self, "refused").get(name) if name.startswith("amdsmi_get") else None
        if code is None:
            return object.__getattribute__(self, name)

        def refuse(*arguments):
            raise AmdSmiLibraryException(code)

        return refuse

    def amdsmi_init(self):
        if "amdsmi_init" in self.refused:
            raise AmdSmiLibraryException(self.refused["amdsmi_init"])
        self.inits += 1

    def amdsmi_get_processor_handles(self):
        return list(self.handles)

    def amdsmi_get_gpu_asic_info(self, handle):
        return {"market_name": "AMD Instinct MI300X", "vendor_id": "0x1002", "asic_serial": SERIALS[handle]}

    def amdsmi_get_gpu_enumeration_info(self, handle):
        return {"drm_render": 128 + handle, "drm_card": handle, "hsa_id": handle, "hip_id": self.hip_ids[handle]}

    def amdsmi_get_gpu_device_uuid(self, handle):
        return UUIDS[handle]

    def amdsmi_get_gpu_activity(self, handle):
        return {"gfx_activity": 93, "umc_activity": 37, "mm_activity": "N/A"}

    def amdsmi_get_gpu_vram_usage(self, handle):
        return {"vram_total": 196_592, "vram_used": 49_148}

    def amdsmi_get_temp_metric(self, handle, sensor, metric):
        return {
            (Sensor.HOTSPOT, Metric.CURRENT): 71,
            (Sensor.VRAM, Metric.CURRENT): 58,
            (Sensor.HOTSPOT, Metric.CRITICAL): 100,
            (Sensor.HOTSPOT, Metric.EMERGENCY): 105,
        }[sensor, metric]

    def amdsmi_get_power_info(self, handle):
        return {"current_socket_power": 612, "average_socket_power": "N/A", "power_limit": 750}

    def amdsmi_get_power_cap_info(self, handle):
        return {"power_cap": 750_000_000, "default_power_cap": 750_000_000, "dpm_cap": 0}

    def amdsmi_get_energy_count(self, handle):
        return {"energy_accumulator": self.energy, "counter_resolution": 15.259, "timestamp": 1}

    def amdsmi_get_clock_info(self, handle, kind):
        return {"clk": {Clock.GFX: 2_100, Clock.MEM: 1_300}[kind], "min_clk": 500, "max_clk": 2_100}

    def amdsmi_get_gpu_total_ecc_count(self, handle):
        return {"correctable_count": 4, "uncorrectable_count": 0, "deferred_count": 0}

    def amdsmi_get_gpu_process_list(self, handle):
        return [{"name": "python3", "pid": os.getpid(), "mem": 1, "memory_usage": {"vram_mem": 40_000_000_000}}]


@pytest.fixture
def host_proc(tmp_path):
    """A ``/proc`` of a process in the host's own PID namespace."""
    (tmp_path / "self" / "ns").mkdir(parents=True)
    (tmp_path / "self" / "ns" / "pid").symlink_to(HOST_PID_NAMESPACE)
    return tmp_path


def plain(readings, uuid=UUIDS[0]):
    """A device's readings by metric and the attributes that tell its series apart."""
    common = {"hw.id", "hw.type", "hw.name", "hw.model", "hw.gpu.task", "otel_train.gpu.own"}
    return {
        (name, *(value for key, value in attributes if key not in common)): number
        for (name, attributes), number in readings.items()
        if dict(attributes)["hw.id"] == uuid
    }


def test_everything_that_the_documents_have(host_proc):
    """Base units, and the same series as for NVIDIA's."""
    sampler = AmdSampler(True, lambda visible: NAMED[0], Amdsmi(), {}, host_proc)
    expected = {
        ("hw.gpu.utilization",): 0.93,
        ("otel_train.gpu.memory.bandwidth.utilization",): 0.37,
        ("hw.gpu.memory.usage",): 49_148 * 2**20,
        ("hw.gpu.memory.limit",): 196_592 * 2**20,
        ("hw.gpu.memory.utilization",): 0.25,
        ("hw.temperature", "gpu"): 71,
        ("hw.temperature", "memory"): 58,
        ("hw.temperature.limit", "throttled", "gpu"): 100,
        ("hw.temperature.limit", "critical", "gpu"): 105,
        ("hw.power",): 612,
        ("otel_train.gpu.power.limit",): 750,
        ("hw.energy",): 0,
        ("otel_train.gpu.clock.frequency", "sm"): 2.1e9,
        ("otel_train.gpu.clock.frequency", "memory"): 1.3e9,
        ("hw.errors", "corrected"): 0,
        ("hw.errors", "uncorrected"): 0,
        ("otel_train.gpu.process.count",): 1,
        ("otel_train.gpu.process.memory.usage",): 40_000_000_000,
    }
    readings = sampler.sample()
    assert expected == plain(readings)
    own = {dict(attributes)["hw.id"] for _, attributes in readings if ("otel_train.gpu.own", "true") in attributes}
    assert {UUIDS[0]} == own
    assert all({name for name, _ in pairs} <= set(attributes_of(metric)) for metric, pairs in readings)


def test_energy_is_of_this_run():
    """Micro-joules are the count times its resolution."""
    library = Amdsmi()
    sampler = AmdSampler(True, lambda visible: None, library, {})
    sampler.sample()
    library.energy += 1_000_000
    assert pytest.approx(15.259) == plain(sampler.sample())["hw.energy",]


def test_one_rank_of_several_reads_its_own():
    """And nothing while that is not known."""
    assert {UUIDS[1]} == {
        dict(attributes)["hw.id"]
        for _, attributes in AmdSampler(False, lambda visible: NAMED[1], Amdsmi(), {}).sample()
    }
    assert {} == AmdSampler(False, lambda visible: None, Amdsmi(), {}).sample()


def test_what_is_not_supported_or_not_available_is_absent():
    """N/A is amdsmi's word for a number that there is not; older cards have the average power instead."""
    library = Amdsmi()
    library.refused = {"amdsmi_get_gpu_total_ecc_count": NOT_SUPPORTED, "amdsmi_get_temp_metric": NO_PERMISSION}
    library.amdsmi_get_gpu_activity = lambda handle: {"gfx_activity": "N/A", "umc_activity": "N/A"}
    library.amdsmi_get_power_info = lambda handle: {"current_socket_power": "N/A", "average_socket_power": 300}
    readings = plain(AmdSampler(True, lambda visible: None, library, {}).sample())
    missing = ("hw.errors", "hw.temperature", "hw.gpu.utilization", "otel_train.gpu.memory.bandwidth.utilization")
    assert set() == {key[0] for key in readings} & set(missing)
    assert 300 == readings["hw.power",]


def test_the_power_cap_of_a_newer_package():
    """After ROCm 7.0 the function takes the sensor as well."""
    library = Amdsmi()
    library.amdsmi_get_power_cap_info = lambda handle, sensor: {"power_cap": 1_000_000_000}
    sampler = AmdSampler(True, lambda visible: None, library, {})
    assert 1000 == plain(sampler.sample())["otel_train.gpu.power.limit",]


def test_a_driver_that_goes_and_comes_back():
    """The sample fails; the next one starts the library anew."""
    library = Amdsmi()
    sampler = AmdSampler(True, lambda visible: None, library, {})
    library.refused = {"amdsmi_get_gpu_activity": DRIVER_NOT_LOADED}
    with pytest.raises(AmdSmiLibraryException):
        sampler.sample()
    library.refused = {}
    assert ("hw.power",) in plain(sampler.sample())
    assert 2 == library.inits


def test_where_there_is_none(monkeypatch):
    """No package, no driver, no GPU: no such source."""
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    with pytest.raises(SamplerUnavailable, match="amdsmi"):
        AmdSampler(True)
    broken = Amdsmi()
    broken.refused = {"amdsmi_init": DRIVER_NOT_LOADED}
    for library in (broken, Amdsmi(handles=())):
        with pytest.raises(SamplerUnavailable):
            AmdSampler(True, library=library)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, [0, 1, 2]),
        ({"HIP_VISIBLE_DEVICES": "2,0"}, [2, 0]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, [1]),
        ({"HIP_VISIBLE_DEVICES": "2", "CUDA_VISIBLE_DEVICES": "1"}, [2]),
        ({"ROCR_VISIBLE_DEVICES": "1,2"}, [1, 2]),
        ({"ROCR_VISIBLE_DEVICES": "1,2", "HIP_VISIBLE_DEVICES": "1"}, [2]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-c"}, [2]),
        ({"HIP_VISIBLE_DEVICES": ""}, []),
    ],
)
def test_visible_devices(environ, expected):
    """ROCr leaves some, and HIP numbers those anew."""
    gpus = [Gpu(f"GPU-{letter}0") for letter in "abc"]
    assert [gpus[place] for place in expected] == list(visible_amd_devices(gpus, environ).devices)


def test_hip_has_an_order_of_its_own():
    """From ROCm 6.4 on amdsmi knows it."""
    library = Amdsmi()
    library.hip_ids = (1, 0)
    readings = AmdSampler(True, lambda visible: None, library, {"HIP_VISIBLE_DEVICES": "0"}).sample()
    assert {UUIDS[1]} == {dict(attributes)["hw.id"] for _, attributes in readings}
