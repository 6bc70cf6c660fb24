"""The GPUs and hosts of a run."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from otel_train import resource_names as rn
from stack.dashboards.panels import chart, page
from stack.dashboards.series import RANK, rate, resource

GPU = "{{host_name}} {{hw_id}}"
HOST = "{{host_name}}"
NO_GPU = "no GPU was sampled"


def build() -> Dashboard:
    """GPUs first."""
    gpus = [
        chart("GPU utilization", "percentunit", (resource(rn.GPU_UTILIZATION), GPU), top=1.0, none=NO_GPU,
              says="Part of the time in which any kernel ran: 100 % does not mean that it is used well."),
        chart("GPU memory", "bytes", (resource(rn.GPU_MEMORY_USAGE), GPU), none=NO_GPU, says="Of all processes."),
        chart("Power", "watt", (resource(rn.HW_POWER), GPU), none=NO_GPU, says="Far below its limit, a GPU waits."),
        chart("Temperature", "celsius", (resource(rn.HW_TEMPERATURE), GPU + " {{hw_sensor_location}}"), none=NO_GPU,
              says="Clocks are held down from the throttling limit on."),
        chart("Clocks", "hertz", (resource(rn.GPU_CLOCK), GPU + " {{otel_train_gpu_clock}}"), none=NO_GPU,
              says="Clocks that sink under load are held down: by heat, or by the power limit."),
        chart("Throttled", "percentunit",
              (resource(rn.GPU_THROTTLED), GPU + " {{otel_train_gpu_throttle_reason}}"), none=NO_GPU, top=1.0,
              says="1 while clocks are held down, by the reason."),
    ]  # fmt: skip
    host = [
        chart("CPU", "percentunit", (f'sum by (host_name, cpu_mode) ({resource(rn.CPU_UTILIZATION, _has("cpu_mode"))})',
                                     HOST + " {{cpu_mode}}"), stacked=True, top=1.0,
              says="iowait: CPUs have nothing to do but to wait for disks."),
        chart("Memory", "percentunit", (resource(rn.MEMORY_UTILIZATION), HOST), top=1.0,
              says="Of the host. A container's own limit is beside it, where it has one."),
        chart("Disks", "Bps", (rate(rn.DISK_IO), HOST + " {{system_device}} {{disk_io_direction}}"),
              says="Bytes a second. Data sets that do not fit into memory are read here again in each epoch."),
        chart("Network", "Bps", (rate(rn.NETWORK_IO), HOST + " {{network_interface_name}} {{network_io_direction}}"),
              says="Bytes a second; InfiniBand is counted apart."),
        chart("File systems", "percentunit",
              (resource(rn.FILESYSTEM_UTILIZATION), HOST + " {{system_filesystem_mountpoint}}"), top=1.0,
              says="Checkpoints fill them."),
        chart("Memory of the ranks", "bytes", (resource(rn.PROCESS_MEMORY_USAGE), f"rank {{{{{RANK}}}}}"),
              says="Of the rank's own process; what only ever rises is a leak."),
    ]  # fmt: skip
    return page("machine", "GPU and host", "What the machines of a run were doing.", [("GPUs", gpus), ("Hosts", host)])


def _has(label: str) -> str:
    return f'{label}!=""'
