"""One rank of a small data-parallel training under gloo; alone where the world size is 1.

Environment: ``RANK``, ``WORLD_SIZE``, ``STORE`` (a file), ``STEPS``, ``BATCH`` (of this rank), ``WIDTH`` (of the
model); ``SLOW_RANK_MS`` more in each forward of the last rank, ``SLOW_DATA_MS`` more for each batch of every rank.
"""

import os
import time

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import otel_train

RANK, WORLD_SIZE = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
STEPS, BATCH, WIDTH = (int(os.environ[name]) for name in ("STEPS", "BATCH", "WIDTH"))
SLOW_RANK_S, SLOW_DATA_S = (float(os.environ.get(name, 0)) / 1e3 for name in ("SLOW_RANK_MS", "SLOW_DATA_MS"))


class Batches(Dataset[Tensor]):
    """Whole batches, each made when it is asked for."""

    def __len__(self) -> int:
        return STEPS

    def __getitem__(self, index: int) -> Tensor:
        time.sleep(SLOW_DATA_S)
        return torch.ones(BATCH, WIDTH)


class Model(nn.Module):
    """Three layers; the last rank's is slow."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(3)))

    def forward(self, batch: Tensor) -> Tensor:
        """One number."""
        if RANK == WORLD_SIZE - 1:
            time.sleep(SLOW_RANK_S)
        return self.layers(batch).square().mean()


def main() -> None:
    """Train, with every phase on record."""
    torch.set_num_threads(1)
    if WORLD_SIZE > 1:
        store = dist.FileStore(os.environ["STORE"], WORLD_SIZE)
        dist.init_process_group("gloo", store=store, rank=RANK, world_size=WORLD_SIZE)
    with otel_train.init(instrument=True, overhead_budget="off", exit_timeout_s=60):
        train()
    if WORLD_SIZE > 1:
        dist.destroy_process_group()


def train() -> None:
    """All steps."""
    model: nn.Module = Model()
    if WORLD_SIZE > 1:
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    for batch in otel_train.trace_dataloader(DataLoader(Batches(), batch_size=None)):
        with otel_train.trace_step(samples=BATCH):
            optimizer.zero_grad()
            with otel_train.trace_phase("forward"):
                loss = model(batch)
            loss.backward()
            optimizer.step()


if __name__ == "__main__":
    main()
