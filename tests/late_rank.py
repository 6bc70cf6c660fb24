"""One of two ranks, under gloo or with GPUs under NCCL: the second comes a second late to the gradients of step 25.

With ``COLLECTIVE=large`` neither is late, and both reduce far more than they calculate.
"""

import os
import time

import torch
import torch.distributed as dist

import otel_train

LATE = 25
GIB = 1 << 30


def main() -> None:
    """Train 28 steps."""
    rank, backend = int(os.environ["RANK"]), os.environ.get("BACKEND", "gloo")
    large = os.environ.get("COLLECTIVE") == "large"
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if backend == "nccl":
        torch.cuda.set_device(device)
    store = dist.FileStore(os.environ["STORE"], 2)
    dist.init_process_group(backend, store=store, rank=rank, world_size=2)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(64, 64).to(device))
    gradients = torch.ones(2 * GIB if large else 1, dtype=torch.uint8, device=device)
    with otel_train.init(exit_timeout_s=60):
        for number in range(28):
            with otel_train.trace_step():
                time.sleep(1.0 if rank and number == LATE and not large else 0.0)
                model(torch.randn(8, 64, device=device)).square().mean().backward()
                if large:
                    dist.all_reduce(gradients)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
