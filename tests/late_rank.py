"""One of two ranks under gloo; the second comes a second late to the reduction of gradients in step 25."""

import os
import time

import torch
import torch.distributed as dist

import otel_train


def main() -> None:
    """Train 28 steps."""
    rank = int(os.environ["RANK"])
    store = dist.FileStore(os.environ["STORE"], 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(64, 64))
    with otel_train.init(exit_timeout_s=60):
        for number in range(28):
            with otel_train.trace_step():
                time.sleep(1.0 if rank and number == 25 else 0.0)
                model(torch.randn(8, 64)).square().mean().backward()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
