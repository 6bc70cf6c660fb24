"""A run with everything in it, for the tests of the report and the command line."""

from pathlib import Path

from log_builder import MS, SECOND, LogBuilder

from otel_train import names
from otel_train.runlog.layout import FAILED

RUN_ID = "20250101-000000-a1b2c3"


def build_run(directory: Path, ranks: int = 2, steps: int = 40) -> Path:
    """Write it; returns the run's folder."""
    for rank in range(ranks):
        builder = LogBuilder(
            directory, RUN_ID, rank, monotonic_ns=rank * 10**13, service_name="char_gpt", world_size=ranks,
            hardware={
                "cpu": {"model": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "count": 26},
                "memory_bytes": 234 << 30,
                "gpus": [{"model": "NVIDIA H200", "memory_bytes": 139 << 30, "uuid": "GPU-1"}], "driver": "580.65",
            },
            software={"python": "3.12.3", "torch": "2.11.0"}, git={"commit": "0123456789abcdef", "dirty": True},
            end={"unix_ns": 1_735_689_660 * SECOND},
        )  # fmt: skip
        for number in range(steps):
            phases = [
                ("data_wait", 0, 6 * MS), ("attention", 6 * MS, MS, 1), ("forward", 6 * MS, 2 * MS),
                ("backward", 8 * MS, MS),
            ]  # fmt: skip
            duration = (10 + rank) * MS
            flags = FAILED if number == 7 and rank == 0 else 0
            builder.step(number, duration, phases, samples=32, tokens=320, padded_tokens=32, epoch=0, flags=flags)
            builder.scalar(number, 4.0 - number / 20)
        end = builder.end_ns
        attributes = {names.CHECKPOINT_KIND: "save", names.CHECKPOINT_PATH: "/c/last.pt"}
        attributes |= {names.CHECKPOINT_SIZE: 1 << 20}
        builder.event(names.CHECKPOINT, end, SECOND, step=39, attributes=attributes)
        builder.event(names.EVALUATION_KIND, end, SECOND, attributes={names.EVALUATION_NAME: "validation"})
        if rank == 0:
            error = {"type": "torch.OutOfMemoryError", "message": "CUDA out of memory. " * 20}
            builder.event(names.ERROR, end, step=7, error=error)
        builder.event(names.HEALTH, end, attributes={names.OVERHEAD_TRAINING: 0.0001, names.RECORDS_DROPPED: 0})
        resources = b"unix_s,process.memory.usage,process.memory.peak\n1735689600.2,1048576,2097152\n"
        builder.storage.replace("resources.csv", resources)
    return directory / RUN_ID
