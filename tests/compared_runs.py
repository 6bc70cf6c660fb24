"""Runs to compare: steps of known phases on a machine whose pace varies, written with the real writers."""

from pathlib import Path
from typing import Any

import numpy as np
from log_builder import MS, LogBuilder

STEP_MS = {"data_wait": 0.5, "forward": 3.0, "backward": 5.0, "optimizer": 1.5}
HARDWARE = {"cpu": {"model": "A CPU", "count": 8}, "memory_bytes": 16 << 30}


def write_run(
    directory: Path, run_id: str, seed: int, steps: int = 200, pace: float = 1.0, varies: float = 0.15,
    hardware: Any = None, **extra_ms: float,
) -> Path:  # fmt: skip
    """A run whose machine takes ``pace`` times as long, and up to ``varies`` more now and then; a phase that is named
    takes so many ms more. Every phase has half a percent of noise of its own."""
    generator = np.random.default_rng(seed)
    builder = LogBuilder(
        directory, run_id, service_name="gpt", world_size=1, hardware=hardware or HARDWARE, software={"torch": "2.9.0"},
        git={"commit": "abc"}, settings={"level": "phases"}, end={"unix_ns": 1},
    )  # fmt: skip
    busy = 1 + varies * np.repeat(generator.random(steps // 10 + 1) < 0.5, 10)[:steps]
    for number in range(steps):
        at, phases = 0.0, []
        for name, usual in STEP_MS.items():
            noise = abs(generator.normal(0, 0.005)) + generator.exponential(0.02) * (generator.random() < 0.3)
            took = (usual + extra_ms.get(name, 0.0)) * pace * busy[number] * (1 + noise) * MS
            phases.append((name, at, took))
            at += took
        builder.step(number, int(at + 0.1 * pace * busy[number] * MS), phases, samples=16, tokens=512)
    return directory / run_id


ON_GPU_MS = {"data_wait": 0.003, "forward": 6.0, "backward": 12.8, "optimizer": 0.4}


def write_gpu_run(
    directory: Path, run_id: str, seed: int, steps: int = 200, pace: float = 1.0, every: int = 2, **extra_ms: float
) -> Path:
    """A run whose host is ahead of its GPU: in which phase it waits for that changes from stretch to stretch. A phase
    that is named takes so many ms more on the GPU; one step in ``every`` is timed there. Now and then the host is
    late, and the GPU's forward takes longer."""
    generator = np.random.default_rng(seed)
    builder = LogBuilder(
        directory, run_id, service_name="gpt", world_size=1, hardware=HARDWARE, software={}, git={}, settings={},
        end={"unix_ns": 1},
    )  # fmt: skip
    waits = np.repeat(generator.dirichlet([0.5, 4, 1], steps // 20 + 1), 20, axis=0)[:steps]
    for number in range(steps):
        late = generator.exponential(2.0) * (generator.random() < 0.3)
        took = {name: (usual + extra_ms.get(name, 0.0)) * pace * (1 + abs(generator.normal(0, 0.001)))
                for name, usual in ON_GPU_MS.items()}  # fmt: skip
        took["forward"] += late
        total, at, phases = sum(took.values()) * generator.normal(1, 0.03), 0.1, [("data_wait", 0.0, 0.1 * MS)]
        for name, share in zip(("forward", "backward", "optimizer"), waits[number], strict=True):
            phases.append((name, at * MS, share * (total - 0.3) * MS))
            at += share * (total - 0.3)
        builder.step(number, int(total * MS), phases, samples=16)
        if number % every == 0:
            builder.gpu(number, {name: round(ms * MS) for name, ms in took.items()})
    return directory / run_id
