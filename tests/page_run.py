"""A run that has everything a page shows, under the most hostile names that a record can have."""

import math
from pathlib import Path

from log_builder import MS, SECOND, LogBuilder

from otel_train import names
from otel_train import resource_names as rn
from otel_train.resource_names import series
from otel_train.runlog.layout import FAILED

RUN_ID = "hostile"
EVIL = (
    "</script><script>document.evil=1</script><img src=x onerror=document.evil=2>$$\\evil$$ @{x} '\"| `x` @someone #12"
)
"""Ends a script, starts one, asks a network, is TeX, is a template of Bokeh's, ends a Markdown cell, calls a person."""

SECRET = "hunter2-secret"
SPIKE_MS = 4000


def build(directory: Path, ranks: int = 2, steps: int = 400, evil: str = EVIL) -> Path:
    """Write it; returns the run's folder. Step 123 of rank 0 takes ``SPIKE_MS``."""
    for rank in range(ranks):
        builder = LogBuilder(
            directory, RUN_ID, rank, service_name=evil, world_size=ranks,
            process={"pid": 1, "host": evil, "start_ticks": None, "directory": evil,
                     "command": ["python", "train.py", evil, "--api-token", SECRET, f"--password={SECRET}",
                                 f"https://me:{SECRET}@example.org/x"]},
            settings={"endpoint": f"http://user:{SECRET}@collector:4318", "level": evil,
                      "resource_attributes": {"auth.token": SECRET, "team": evil}},
            hardware={"cpu": {"model": evil, "count": 8}, "memory_bytes": 64 << 30,
                      "gpus": [{"model": evil, "memory_bytes": 80 << 30, "uuid": "GPU-1"}], "driver": evil},
            software={"python": "3.12", evil: evil}, git={"commit": evil, "dirty": True},
            end={"unix_ns": 1_735_689_660 * SECOND},
        )  # fmt: skip
        for number in range(steps):
            own = SPIKE_MS * MS if (number, rank) == (123, 0) else (100 + rank) * MS
            phases = [("data_wait", 0, 30 * MS), ("forward", 30 * MS, 20 * MS), (evil, 50 * MS, 40 * MS)]
            flags = FAILED if number == 7 else 0
            builder.step(number, own, phases, samples=32, tokens=512, padded_tokens=64, epoch=0, flags=flags)
            builder.scalar(number, 4.0 - number / steps)
            builder.scalar(number, math.nan if number > steps // 2 else 1.0, evil)
            if number % 20 == 0:
                _sample(builder, number, evil)
        _events(builder, evil)
    return directory / RUN_ID


def _sample(builder: LogBuilder, number: int, evil: str) -> None:
    gpu = {"hw__id": "GPU-1", "hw__type": "gpu", "hw__model": evil}
    builder.resources(builder.end_ns, {
        series(rn.GPU_UTILIZATION, **gpu): 0.8, series(rn.GPU_MEMORY_UTILIZATION, **gpu): 0.5,
        series(rn.HW_POWER, **gpu): 500.0, series(rn.HW_TEMPERATURE, **gpu, hw__sensor_location="gpu"): 60.0,
        series(rn.CPU_UTILIZATION, cpu__mode="user"): 0.4, series(rn.PROCESS_MEMORY_USAGE): 2.0**31,
        series(rn.DISK_IO, system__device=evil, disk__io__direction="read"): number * 1e6,
        series(rn.DISK_IO, system__device="sdb", disk__io__direction="read"): number * 2e6,
    })  # fmt: skip


def _events(builder: LogBuilder, evil: str) -> None:
    saved = {names.CHECKPOINT_KIND: "save", names.CHECKPOINT_PATH: f"/{evil}", names.CHECKPOINT_SIZE: 1 << 30}
    builder.event(names.CHECKPOINT, 20 * SECOND, SECOND, step=150, attributes=saved)
    builder.event(names.EVALUATION_KIND, 30 * SECOND, SECOND, attributes={names.EVALUATION_NAME: evil})
    builder.event(names.ERROR, SECOND, step=7, error={"type": evil, "message": evil})
    fired = {
        names.ALERT_RULE: evil, names.ALERT_STATE: names.FIRING, names.ALERT_SEVERITY: "critical",
        names.ALERT_SUMMARY: evil,
    }  # fmt: skip
    builder.event(names.ALERT, 25 * SECOND, attributes=fired)
    builder.event(names.TIMED, 26 * SECOND, SECOND, attributes={names.TIMED_NAME: evil})
    builder.event(evil, 27 * SECOND)
    profile = {
        names.PROFILE_REASON: "asked", names.PROFILE_BOUND: evil, names.PROFILE_SHARES: {evil: 0.6},
        names.PROFILE_OPERATORS: [[evil, 1.0]],
    }  # fmt: skip
    builder.event(names.PROFILE, 28 * SECOND, step=9, attributes=profile)
