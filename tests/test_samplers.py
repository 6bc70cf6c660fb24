"""What the host's samplers read: canned ``/proc`` and ``/sys``, recorded counters, and the machine itself."""

import os
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from otel_train import resource_names as names
from otel_train.samplers.allocator import AllocatorSampler
from otel_train.samplers.cgroup import CgroupSampler
from otel_train.samplers.cpu import CpuSampler
from otel_train.samplers.disk import DiskSampler
from otel_train.samplers.filesystem import FilesystemSampler
from otel_train.samplers.host_memory import HostMemorySampler
from otel_train.samplers.infiniband import InfinibandSampler
from otel_train.samplers.network import NetworkSampler
from otel_train.samplers.pressure import PressureSampler
from otel_train.samplers.process import ProcessSampler
from otel_train.samplers.sampler import SamplerUnavailable

CpuTimes = namedtuple("CpuTimes", "user nice system idle iowait irq softirq steal guest guest_nice")


def tree(root, files):
    """Make files with their content; returns the root."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def value(readings, name, **attributes):
    """The one series of a metric that has these attributes."""
    wanted = {key.replace("__", ".") for key in attributes}
    found = [
        amount
        for (metric, pairs), amount in readings.items()
        if metric == name and {key for key, _ in pairs} >= wanted
        and all(dict(pairs)[key.replace("__", ".")] == text for key, text in attributes.items())
    ]  # fmt: skip
    assert len(found) == 1, (name, attributes, readings)
    return found[0]


def test_every_metric_is_declared(tmp_path):
    """Whatever a sampler of this machine reads is in the table of resource metrics, with its attributes."""
    makes = [CpuSampler, HostMemorySampler, ProcessSampler, DiskSampler, NetworkSampler, CgroupSampler, PressureSampler,
             lambda: FilesystemSampler(lambda: [tmp_path])]  # fmt: skip
    seen = set()
    for make in makes:
        try:
            sampler = make()
        except SamplerUnavailable:
            continue
        read = {**sampler.sample(), **sampler.sample()}
        seen |= {metric for metric, _ in read}
        assert [] == [key for key in read if not {name for name, _ in key[1]} <= set(names.attributes_of(key[0]))]
    assert {names.CPU_TIME, names.MEMORY_USAGE, names.PROCESS_CPU_TIME, names.FILESYSTEM_USAGE} <= seen
    assert seen <= set(names.RESOURCES)


class Cpus:
    """psutil of a machine with two CPUs, whose times move when told to."""

    def __init__(self):
        self.times = [CpuTimes(10, 0, 5, 100, 1, 0, 0, 0, 0, 0), CpuTimes(20, 0, 5, 90, 1, 0, 0, 0, 0, 0)]

    def cpu_times(self, percpu=False):
        return self.times if percpu else CpuTimes(*map(sum, zip(*self.times, strict=True)))

    def getloadavg(self):
        return (1.5, 1.0, 0.5)


def test_cpu_times_and_utilization():
    """Totals count from the first sample; utilizations are of the time since the last one."""
    cpus = Cpus()
    sampler = CpuSampler(cpus)
    first = sampler.sample()
    assert 0 == value(first, names.CPU_TIME, cpu__mode="user")
    assert not any(metric == names.CPU_UTILIZATION for metric, _ in first)
    cpus.times = [CpuTimes(16, 0, 7, 101, 2, 0, 0, 0, 0, 0), CpuTimes(20, 0, 5, 100, 1, 0, 0, 0, 0, 0)]
    second = sampler.sample()
    assert 6 == value(second, names.CPU_TIME, cpu__mode="user")
    assert pytest.approx(6 / 20) == value(second, names.CPU_UTILIZATION, cpu__mode="user")
    assert pytest.approx(1 / 20) == value(second, names.CPU_UTILIZATION, cpu__mode="iowait")
    assert pytest.approx(0.8) == value(second, names.CPU_UTILIZATION, cpu__logical_number="0")
    assert 0 == value(second, names.CPU_UTILIZATION, cpu__logical_number="1")
    assert 1.5 == value(second, names.CPU_LOAD, otel_train__window="1m")


def test_platforms_without_some_fields():
    """macOS has neither iowait nor interrupts, and Windows no load: those are absent, the rest is there."""
    few = SimpleNamespace(
        cpu_times=lambda percpu=False: [SimpleNamespace(user=1, system=1, idle=1)] if percpu else
        SimpleNamespace(user=1, system=1, idle=1)
    )  # fmt: skip
    readings = CpuSampler(few).sample()
    assert {"user", "system", "idle"} == {dict(pairs)["cpu.mode"] for name, pairs in readings if name == names.CPU_TIME}
    assert not any(metric == names.CPU_LOAD for metric, _ in readings)


def test_memory_without_swap_figures():
    """A container without ``/proc/vmstat``: memory is there, swap is absent."""

    def refuse():
        raise OSError("no /proc/vmstat")

    memory = SimpleNamespace(total=100, available=25, used=70, free=5)
    sampler = HostMemorySampler(SimpleNamespace(virtual_memory=lambda: memory, swap_memory=refuse))
    readings = sampler.sample()
    assert 0.75 == value(readings, names.MEMORY_UTILIZATION)
    assert 70 == value(readings, names.MEMORY_USAGE, system__memory__state="used")
    assert not any("paging" in metric for metric, _ in readings)


V2 = {
    "proc/self/cgroup": "0::/kubepods/pod7/main\n",
    "cgroup/cgroup.controllers": "cpu memory\n",
    "cgroup/kubepods/memory.max": "max\n",
    "cgroup/kubepods/memory.current": "900\n",
    "cgroup/kubepods/pod7/memory.max": "1000\n",
    "cgroup/kubepods/pod7/memory.current": "800\n",
    "cgroup/kubepods/pod7/cpu.max": "150000 100000\n",
    "cgroup/kubepods/pod7/main/memory.max": "4000\n",
    "cgroup/kubepods/pod7/main/memory.current": "700\n",
    "cgroup/kubepods/pod7/main/memory.stat": "anon 400\ninactive_file 100\nactive_file 200\n",
    "cgroup/kubepods/pod7/main/memory.events": "low 0\nhigh 0\nmax 2\noom 1\noom_kill 1\n",
    "cgroup/kubepods/pod7/main/cpu.stat": "usage_usec 2000000\nthrottled_usec 500000\n",
    "cgroup/kubepods/pod7/main/cpu.max": "max 100000\n",
}


def test_cgroup_version_2(tmp_path):
    """The group nearest to its limit counts, with its neighbours' memory; totals from the start."""
    root = tree(tmp_path, V2)
    sampler = CgroupSampler(root / "proc", root / "cgroup")
    first = sampler.sample()
    assert 800 == value(first, names.CGROUP_MEMORY_USAGE)
    assert 1000 == value(first, names.CGROUP_MEMORY_LIMIT)
    assert 0.8 == value(first, names.CGROUP_MEMORY_UTILIZATION)
    assert 1.5 == value(first, names.CGROUP_CPU_LIMIT)
    assert 0 == value(first, names.CGROUP_OOM_KILLS)
    group = root / "cgroup/kubepods/pod7/main"
    (group / "memory.events").write_text("oom_kill 3\n")
    (group / "cpu.stat").write_text("usage_usec 5000000\nthrottled_usec 750000\n")
    second = sampler.sample()
    assert 2 == value(second, names.CGROUP_OOM_KILLS)
    assert 3.0 == value(second, names.CGROUP_CPU_TIME)
    assert 0.25 == value(second, names.CGROUP_CPU_THROTTLED)


def test_cgroup_mounted_as_the_root(tmp_path):
    """In a container the group's own path is not to be seen: it is the mounted root."""
    files = {name.replace("cgroup/kubepods/pod7/main/", "cgroup/"): text for name, text in V2.items()}
    root = tree(tmp_path, {name: text for name, text in files.items() if "kubepods" not in name})
    readings = CgroupSampler(root / "proc", root / "cgroup").sample()
    assert 400 == value(readings, names.CGROUP_MEMORY_USAGE)
    assert 4000 == value(readings, names.CGROUP_MEMORY_LIMIT)


def test_cgroup_version_1(tmp_path):
    """Controllers apart, an absent limit as a huge number, CPU in nanoseconds."""
    root = tree(tmp_path, {
        "proc/self/cgroup": "9:memory:/docker/c1\n5:cpu,cpuacct:/docker/c1\n1:name=systemd:/x\n",
        "cgroup/memory/docker/c1/memory.usage_in_bytes": "3000",
        "cgroup/memory/docker/c1/memory.limit_in_bytes": "4000",
        "cgroup/memory/docker/c1/memory.stat": "cache 900\ntotal_inactive_file 400\ntotal_active_file 600\n",
        "cgroup/memory/docker/c1/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
        "cgroup/memory/memory.usage_in_bytes": "9000",
        "cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "cgroup/cpu,cpuacct/docker/c1/cpuacct.usage": "2500000000",
        "cgroup/cpu,cpuacct/docker/c1/cpu.stat": "nr_periods 1\nthrottled_time 4000000000\n",
        "cgroup/cpu,cpuacct/docker/c1/cpu.cfs_quota_us": "200000",
        "cgroup/cpu,cpuacct/docker/c1/cpu.cfs_period_us": "100000",
    })  # fmt: skip
    readings = CgroupSampler(root / "proc", root / "cgroup").sample()
    assert 2000 == value(readings, names.CGROUP_MEMORY_USAGE)
    assert 0.5 == value(readings, names.CGROUP_MEMORY_UTILIZATION)
    assert 2.0 == value(readings, names.CGROUP_CPU_LIMIT)
    assert 0 == value(readings, names.CGROUP_CPU_TIME)
    assert 0 == value(readings, names.CGROUP_CPU_THROTTLED)


def test_cgroup_without_a_limit(tmp_path):
    """No limit, no utilization: not a share of nothing."""
    root = tree(
        tmp_path, {**V2, "cgroup/kubepods/pod7/memory.max": "max", "cgroup/kubepods/pod7/main/memory.max": "max"}
    )
    readings = CgroupSampler(root / "proc", root / "cgroup").sample()
    assert {names.CGROUP_MEMORY_LIMIT, names.CGROUP_MEMORY_UTILIZATION} & {metric for metric, _ in readings} == set()


def test_no_cgroup(tmp_path):
    """Another system, or none that can be seen: unavailable, which is no failure."""
    for root in (tmp_path, tree(tmp_path / "empty", {"proc/self/cgroup": "0::/\n"})):
        with pytest.raises(SamplerUnavailable):
            CgroupSampler(root / "proc", root / "cgroup")


def test_pressure(tmp_path):
    """Shares of ten seconds, and totals in seconds from the first sample; a CPU line without ``full`` (before 5.13)."""
    root = tree(tmp_path, {
        "cpu": "some avg10=12.50 avg60=3.00 avg300=1.00 total=1000000\n",
        "io": "some avg10=1.00 avg60=0.00 avg300=0.00 total=10\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=5\n",
    })  # fmt: skip
    sampler = PressureSampler(root)
    sampler.sample()
    (root / "cpu").write_text("some avg10=20.00 avg60=3.00 avg300=1.00 total=3500000\n")
    readings = sampler.sample()
    which = {"otel_train__pressure__resource": "cpu", "otel_train__pressure__kind": "some"}
    assert 0.2 == value(readings, names.PRESSURE, **which)
    assert 2.5 == value(readings, names.PRESSURE_TIME, **which)
    assert 3 == sum(metric == names.PRESSURE for metric, _ in readings)


def test_no_pressure(tmp_path):
    """A kernel without it, or one that does not show it."""
    with pytest.raises(SamplerUnavailable):
        PressureSampler(tmp_path)


Disk = namedtuple("Disk", "read_count write_count read_bytes write_bytes busy_time")


def test_disks_are_whole(tmp_path):
    """A partition is part of its disk, and a loop device is a file on one."""
    tree(tmp_path, {"block/sda/x": "", "block/nvme0n1/x": "", "block/loop0/x": ""})
    counters = {name: Disk(1, 2, 100, 200, 3000) for name in ("sda", "sda1", "nvme0n1", "nvme0n1p2", "loop0")}
    sampler = DiskSampler(SimpleNamespace(disk_io_counters=lambda **_: counters), tmp_path)
    sampler.sample()
    counters["sda"] = Disk(2, 5, 150, 1200, 4500)
    readings = sampler.sample()
    assert {"sda", "nvme0n1"} == {dict(pairs)["system.device"] for _, pairs in readings}
    assert 1000 == value(readings, names.DISK_IO, system__device="sda", disk__io__direction="write")
    assert 3 == value(readings, names.DISK_OPERATIONS, system__device="sda", disk__io__direction="write")
    assert 1.5 == value(readings, names.DISK_IO_TIME, system__device="sda")


@pytest.mark.parametrize("shown", [None, {}])
def test_no_disks(shown):
    """psutil shows none in some containers, by None or by nothing."""
    with pytest.raises(SamplerUnavailable):
        DiskSampler(SimpleNamespace(disk_io_counters=lambda **_: shown))


Nic = namedtuple("Nic", "bytes_sent bytes_recv errin errout dropin dropout")


def test_network_leaves_virtual_interfaces_out():
    """What passes loopback, bridges and pairs passes a real interface too, or none; a counter set back adds nothing."""
    counters = {"lo": Nic(9, 9, 0, 0, 0, 0), "docker0": Nic(9, 9, 0, 0, 0, 0), "eth0": Nic(100, 50, 0, 0, 1, 0),
                "down0": Nic(0, 0, 0, 0, 0, 0)}  # fmt: skip
    sampler = NetworkSampler(SimpleNamespace(net_io_counters=lambda **_: counters))
    sampler.sample()
    counters["eth0"] = Nic(400, 50, 2, 0, 1, 0)
    readings = sampler.sample()
    which = {"network__interface__name": "eth0"}
    assert 300 == value(readings, names.NETWORK_IO, network__io__direction="transmit", **which)
    assert 2 == value(readings, names.NETWORK_ERRORS, network__io__direction="receive", **which)
    assert {"eth0"} == {dict(pairs)["network.interface.name"] for _, pairs in readings}
    counters["eth0"] = Nic(10, 50, 2, 0, 1, 0)
    assert 300 == value(sampler.sample(), names.NETWORK_IO, network__io__direction="transmit", **which)


def test_infiniband(tmp_path):
    """Data is counted in words of four bytes; a counter that a port does not have is absent."""
    root = tree(tmp_path, {
        "mlx5_0/ports/1/counters/port_rcv_data": "1000\n",
        "mlx5_0/ports/1/counters/port_xmit_data": "N/A (no PMA)\n",
        "mlx5_0/ports/1/counters/link_downed": "1\n",
    })  # fmt: skip
    sampler = InfinibandSampler(root)
    sampler.sample()
    (root / "mlx5_0/ports/1/counters/port_rcv_data").write_text("1500\n")
    readings = sampler.sample()
    port = {"otel_train__infiniband__port": "mlx5_0:1"}
    assert 2000 == value(readings, names.INFINIBAND_IO, network__io__direction="receive", **port)
    assert 0 == value(readings, names.INFINIBAND_ERRORS, error__type="link_downed", **port)
    assert 2 == len(readings)


def test_filesystems_agree_with_the_system(tmp_path):
    """What ``df`` says, once for each file system; a path that is gone is left out."""
    sampler = FilesystemSampler(lambda: [tmp_path, tmp_path / "gone", tmp_path.parent], tmp_path / "no shm")
    readings = sampler.sample()
    shown = subprocess.run(
        ["df", "-B1", "--output=used,avail,target", str(tmp_path)], capture_output=True, text=True, check=True
    )
    used, available, at = shown.stdout.splitlines()[1].split()
    assert 3 == len(readings)
    usage = value(readings, names.FILESYSTEM_USAGE, system__filesystem__mountpoint=at)
    assert pytest.approx(int(used), rel=0.02) == usage
    assert pytest.approx(int(used) + int(available), rel=0.02) == value(readings, names.FILESYSTEM_LIMIT)


def test_memory_agrees_with_proc():
    """What ``/proc/meminfo`` says."""
    lines = [line.split() for line in Path("/proc/meminfo").read_text().splitlines()]
    kib = {line[0].rstrip(":"): int(line[1]) for line in lines}
    readings = HostMemorySampler().sample()
    assert kib["MemTotal"] * 1024 == value(readings, names.MEMORY_LIMIT)
    assert pytest.approx(kib["MemAvailable"] * 1024, rel=0.05) == value(readings, names.MEMORY_AVAILABLE)


SPIN = """
import time
end = time.process_time() + 0.3
while time.process_time() < end:
    pass
print("spun", flush=True)
input()
"""


def test_a_dead_child_is_none():
    """Killed, and not waited for yet: it is no worker any more."""
    children = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    try:
        sampler = ProcessSampler()
        before = sampler.sample()[names.CHILDREN_COUNT, ()]
        children[0].kill()
        os.waitid(os.P_PID, children[0].pid, os.WEXITED | os.WNOWAIT)
        assert before - 1 == sampler.sample()[names.CHILDREN_COUNT, ()]
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_children_count_on_when_they_are_gone():
    """A worker's CPU time is the children's, and stays so after it has ended."""
    sampler = ProcessSampler()
    before = sampler.sample()
    worker = subprocess.Popen([sys.executable, "-c", SPIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert "spun\n" == worker.stdout.readline()
    during = sampler.sample()
    worker.communicate("\n")
    after = sampler.sample()
    count = [value(readings, names.CHILDREN_COUNT) for readings in (before, during, after)]
    assert [count[0], count[0] + 1, count[0]] == count
    assert value(during, names.CHILDREN_CPU_TIME) >= 0.25
    assert value(after, names.CHILDREN_CPU_TIME) >= value(during, names.CHILDREN_CPU_TIME)
    assert value(during, names.CHILDREN_MEMORY_USAGE) > value(after, names.CHILDREN_MEMORY_USAGE)


def test_process_agrees_with_proc():
    """Memory, threads and files as ``/proc/self`` has them; CPU time that was spent."""
    sampler = ProcessSampler()
    sampler.sample()
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    readings = sampler.sample()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    assert pytest.approx(int(status["VmRSS"].split()[0]) * 1024, rel=0.05) == value(
        readings, names.PROCESS_MEMORY_USAGE
    )
    assert int(status["Threads"]) == value(readings, names.PROCESS_THREADS)
    assert pytest.approx(len(os.listdir("/proc/self/fd")), abs=2) == value(readings, names.PROCESS_FILES)
    assert sum(value(readings, names.PROCESS_CPU_TIME, cpu__mode=mode) for mode in ("user", "system")) >= 0.08


def test_process_where_the_platform_says_little(monkeypatch):
    """macOS has no I/O counters, and a hardened kernel denies them: those are absent, the rest is there."""

    class Reserved(psutil.Process):
        def io_counters(self):
            raise psutil.AccessDenied(self.pid)

        def num_fds(self):
            raise NotImplementedError

    known = SimpleNamespace(Process=Reserved, Error=psutil.Error, STATUS_ZOMBIE=psutil.STATUS_ZOMBIE)
    readings = ProcessSampler(known).sample()
    metrics = {metric for metric, _ in readings}
    assert names.PROCESS_MEMORY_USAGE in metrics
    assert not {names.PROCESS_DISK_IO, names.PROCESS_FILES} & metrics


def test_allocator_before_cuda(monkeypatch):
    """Nothing is asked of a torch that has not used CUDA, or is not there."""
    assert {} == AllocatorSampler().sample()
    monkeypatch.setitem(sys.modules, "torch", None)
    assert {} == AllocatorSampler().sample()


def test_allocator(monkeypatch):
    """The sum over devices; retries count from the first sample."""
    retries = [3]

    def statistics(device):
        sizes = {"current": 100 * (device + 1), "peak": 500}
        return {"allocated_bytes": {"all": sizes}, "reserved_bytes": {"all": sizes}, "num_alloc_retries": retries[0],
                "num_ooms": 0}  # fmt: skip

    cuda = SimpleNamespace(
        is_initialized=lambda: True, device_count=lambda: 2, memory_stats_as_nested_dict=statistics
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    sampler = AllocatorSampler()
    assert 0 == value(sampler.sample(), names.ALLOCATOR_RETRIES)
    retries[0] = 5
    readings = sampler.sample()
    assert 300 == value(readings, names.ALLOCATOR_ALLOCATED)
    assert 1000 == value(readings, names.ALLOCATOR_PEAK)
    assert 4 == value(readings, names.ALLOCATOR_RETRIES)
