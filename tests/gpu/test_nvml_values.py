"""On a real GPU: the samplers' values beside those of ``nvidia-smi`` read at the same time, and what sampling costs.

Each comparison prints both sides: ``pytest tests/gpu/test_nvml_values.py -rA``. What a GPU lacks is skipped by name.
"""

import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import pytest

from otel_train import resource_names as names
from otel_train.samplers.nvidia import NvidiaSampler
from otel_train.samplers.nvidia_energy import NvidiaEnergySampler
from otel_train.samplers.nvidia_gpus import NvidiaGpus
from otel_train.samplers.nvidia_pcie import NvidiaPcieSampler
from otel_train.samplers.nvidia_xid import XidWatcher

LOOKS = 8
MEGABYTE = 2**20


@dataclass(frozen=True)
class Compared:
    """A value of ours and its field of nvidia-smi: their units' ratio, and how far apart they may be."""

    name: str
    attributes: dict[str, str]
    field: str
    unit: float
    apart: Callable[[float], float]


COMPARED = [
    Compared(names.GPU_UTILIZATION, {}, "utilization.gpu", 0.01, lambda value: 0.05),
    Compared(names.GPU_MEMORY_BANDWIDTH_UTILIZATION, {}, "utilization.memory", 0.01, lambda value: 0.05),
    Compared(names.GPU_MEMORY_USAGE, {}, "memory.used", MEGABYTE, lambda value: 0.01 * value + MEGABYTE),
    Compared(names.GPU_MEMORY_LIMIT, {}, "memory.total", MEGABYTE, lambda value: 0.01 * value),
    Compared(names.HW_TEMPERATURE, {"hw.sensor_location": "gpu"}, "temperature.gpu", 1, lambda value: 1),
    Compared(names.HW_TEMPERATURE, {"hw.sensor_location": "memory"}, "temperature.memory", 1, lambda value: 1),
    Compared(names.HW_POWER, {}, "power.draw", 1, lambda value: 0.05 * value),
    Compared(names.GPU_POWER_LIMIT, {}, "enforced.power.limit", 1, lambda value: 0.5),
    Compared(names.GPU_CLOCK, {"otel_train.gpu.clock": "sm"}, "clocks.sm", 1e6, lambda value: 0.05 * value),
    Compared(names.GPU_CLOCK, {"otel_train.gpu.clock": "memory"}, "clocks.mem", 1e6, lambda value: 0.05 * value),
]


@pytest.fixture
def gpus(cuda):
    """The GPU that this process uses, found through torch, which therefore has to use it first."""
    held = torch_load(cuda)
    connection = NvidiaGpus(whole_host=False)
    assert connection.sampled(), "the own GPU was not found"
    yield connection
    connection.disconnect()
    del held


def torch_load(torch):
    """4 GiB on the GPU and two matrices to multiply."""
    return [torch.empty(2**30, device="cuda"), *(torch.randn(8192, 8192, device="cuda").bfloat16() for _ in range(2))]


def keep_busy(torch, matrices, seconds):
    """Multiply matrices for so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        multiply(torch, matrices)


def keep_busy_until(torch, matrices, enough):
    """Multiply matrices without a pause, so that utilization and power stand still while they are compared."""
    while not enough.is_set():
        multiply(torch, matrices)


def multiply(torch, matrices):
    """Some 30 ms of work on an H200, and the wait for it."""
    for _ in range(20):
        torch.matmul(*matrices)
    torch.cuda.synchronize()


def smi(uuid, fields):
    """nvidia-smi's values of a GPU by field; None for what it has not, such as ``[N/A]``."""
    command = ["nvidia-smi", f"--id={uuid}", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    line = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    return {field: number(text) for field, text in zip(fields, line.split(", "), strict=True)}


def number(text):
    """A figure of nvidia-smi; None where it prints words."""
    try:
        return float(text)
    except ValueError:
        return None


def value(readings, compared):
    """Our value of a comparison; None where there is none."""
    found = [
        reading
        for (name, attributes), reading in readings.items()
        if name == compared.name and compared.attributes.items() <= dict(attributes).items()
    ]
    assert len(found) <= 1
    return found[0] if found else None


def look(uuid, sampler):
    """Both sides once: ours before and after, in whose middle nvidia-smi reads."""
    before = sampler.sample()
    theirs = smi(uuid, [compared.field for compared in COMPARED])
    return before, theirs, sampler.sample()


def test_values_agree_with_nvidia_smi(gpus, cuda):
    """Utilization within 5 points, memory 1 %, temperature 1 °C, power 5 %: the medians of several looks under load."""
    if shutil.which("nvidia-smi") is None:
        pytest.skip("no nvidia-smi")
    uuid = gpus.sampled()[0].device.uuid
    if uuid.startswith("MIG-"):
        pytest.skip("nvidia-smi has no such values of MIG instances")
    sampler = NvidiaSampler(gpus)
    matrices = torch_load(cuda)[1:]
    looks = busy_looks(cuda, matrices, lambda: look(uuid, sampler))
    print(f"\n{'':55} {'otel_train':>16} {'nvidia-smi':>16} {'apart':>12} {'allowed':>12}")
    wrong = [compared.field for compared in COMPARED if not agrees(compared, looks)]
    assert [] == wrong


def busy_looks(torch, matrices, take):
    """Look several times while a thread keeps the GPU busy, however long nvidia-smi takes."""
    enough = threading.Event()
    busy = threading.Thread(target=keep_busy_until, args=(torch, matrices, enough))
    busy.start()
    try:
        enough.wait(3)  # utilization is of the last second, power an average over one
        return [take() for _ in range(LOOKS)]
    finally:
        enough.set()
        busy.join()


def agrees(compared, looks):
    """Print both sides of a comparison, and whether they are near enough. What neither has is near enough."""
    ours = [reading for before, _, after in looks for reading in (value(before, compared), value(after, compared))]
    theirs = [field[compared.field] for _, field, _ in looks]
    if None in ours or None in theirs:
        print(f"{compared.name:55} {ours[0]!s:>16} {theirs[0]!s:>16}")
        return (None in ours) == (None in theirs)
    mine, smis = median(ours), median(theirs) * compared.unit
    apart, allowed = abs(mine - smis), compared.apart(smis)
    label = " ".join([compared.name, *compared.attributes.values()])
    print(f"{label:55} {mine:16.6g} {smis:16.6g} {apart:12.4g} {allowed:12.4g}")
    return apart <= allowed


def test_identity_is_nvidia_smis(gpus):
    """``hw.id`` is the UUID that nvidia-smi shows for the GPU that torch uses."""
    if shutil.which("nvidia-smi") is None:
        pytest.skip("no nvidia-smi")
    uuid = gpus.sampled()[0].device.uuid
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert uuid in listed
    readings = NvidiaSampler(gpus).sample()
    assert all(dict(attributes)["hw.id"] == uuid for _, attributes in readings)
    assert all(("otel_train.gpu.own", "true") in attributes for _, attributes in readings)
    for series, reading in readings.items():
        print(names.column(series), reading)


def test_energy_is_power_over_time(gpus, cuda):
    """Under load the joules of four seconds are the watts of them, within a fifth."""
    sampler, power = NvidiaEnergySampler(gpus), NvidiaSampler(gpus)
    matrices = torch_load(cuda)[1:]
    keep_busy(cuda, matrices, 2)
    if not sampler.sample():
        pytest.skip("this GPU does not count energy")
    begin, watts = time.monotonic(), []
    for _ in range(8):
        keep_busy(cuda, matrices, 0.5)
        watts += [reading for (name, _), reading in power.sample().items() if name == names.HW_POWER]
    (joules,) = sampler.sample().values()
    seconds = time.monotonic() - begin
    print(f"\n{joules:.0f} J in {seconds:.2f} s are {joules / seconds:.0f} W; power was {median(watts):.0f} W")
    assert pytest.approx(median(watts), rel=0.2) == joules / seconds


def test_what_a_sample_costs(gpus):
    """Printed, with a limit far above what was measured: the common sample stays below 5 ms a GPU."""
    for sampler in (NvidiaSampler(gpus), NvidiaEnergySampler(gpus), NvidiaPcieSampler(gpus), XidWatcher(gpus)):
        sampler.sample()
        times = []
        for _ in range(20):
            begin = time.perf_counter()
            sampler.sample()
            times.append(time.perf_counter() - begin)
        print(f"\n{type(sampler).__name__:20} median {median(times) * 1e3:.3f} ms, at most {max(times) * 1e3:.3f}")
        if isinstance(sampler, NvidiaSampler):
            assert median(times) < 0.005
