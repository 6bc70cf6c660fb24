"""One of two ranks: FSDP2 steps with a collective of the script's own, and some outside of steps."""

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import isend
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import otel_train

otel_train.init(instrument=True, overhead_budget="off")
dist.init_process_group("gloo")
for _ in range(3):
    dist.all_reduce(torch.ones(2))
alone = dist.new_group([dist.get_rank()], use_local_synchronization=True)
dist.all_reduce(torch.ones(3), dist.ReduceOp.SUM, alone)
assert dist.P2POp(isend, torch.ones(1), 1 - dist.get_rank()).op is isend  # imported before the hooks
mesh = init_device_mesh("cpu", (2,))
model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 1))
for layer in model:
    fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(10):
    optimizer.zero_grad()
    loss = model(torch.ones(4, 16)).square().mean()
    loss.backward()
    dist.all_reduce(torch.ones(100))
    dist.barrier()
    optimizer.step()
ddp = nn.parallel.DistributedDataParallel(nn.Linear(16, 1))
updater = torch.optim.SGD(ddp.parameters(), lr=0.01)
for _ in range(14):
    updater.zero_grad()
    ddp(torch.ones(4, 16)).square().mean().backward()
    updater.step()
otel_train.shutdown()
dist.barrier()
dist.destroy_process_group()
