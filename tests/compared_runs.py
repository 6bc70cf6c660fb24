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
        builder.step(number, int(at + 0.1 * MS), phases, samples=16, tokens=512)
    return directory / run_id
