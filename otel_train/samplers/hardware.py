"""What the machine is: CPU, memory, GPUs. Read once a run; what cannot be read is left out."""

import platform
from pathlib import Path
from typing import Any

from otel_train import guard


def describe_hardware(proc: Path = Path("/proc")) -> dict[str, Any]:
    """Keys ``cpu``, ``memory_bytes``, ``gpus``, ``driver``, ``cuda_driver``: those that could be read."""
    described: dict[str, Any] = {}
    with guard.guarded("cpu identity"):
        described["cpu"] = _cpu(proc)
        described["memory_bytes"] = _memory_bytes()
    with guard.guarded("gpu identity"):
        described |= _gpus()
    return described


def _cpu(proc: Path) -> dict[str, Any]:
    import psutil

    counts = {"count": psutil.cpu_count(), "physical_count": psutil.cpu_count(logical=False)}
    described: dict[str, Any] = {name: count for name, count in counts.items() if count is not None}
    model = cpu_model(proc) or platform.processor() or platform.machine()
    return {"model": model, **described} if model else described


def cpu_model(proc: Path = Path("/proc")) -> str | None:
    """As ``cpuinfo`` has it; None where it does not say."""
    try:
        lines = (proc / "cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _memory_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().total)


def _gpus() -> dict[str, Any]:
    """NVIDIA's GPUs through NVML, which starts no CUDA context. Nothing where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver, no permission: nothing to tell
        return {}
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        described: dict[str, Any] = {
            "gpus": [
                {
                    "model": _text(pynvml.nvmlDeviceGetName(handle)),
                    "memory_bytes": int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
                    "uuid": _text(pynvml.nvmlDeviceGetUUID(handle)),
                }
                for handle in handles
            ],
            "driver": _text(pynvml.nvmlSystemGetDriverVersion()),
        }
        version = pynvml.nvmlSystemGetCudaDriverVersion_v2()
        return {**described, "cuda_driver": f"{version // 1000}.{version % 1000 // 10}"}
    finally:
        pynvml.nvmlShutdown()


def _text(value: "str | bytes") -> str:
    return value.decode() if isinstance(value, bytes) else value
