"""Fits a polynomial, as PyTorch's first example does: new random data each step, and an update by hand."""

import argparse

import torch
from torch.nn import functional

argparse.ArgumentParser().parse_known_args()
torch.manual_seed(0)
W_target, b_target = torch.randn(4, 1) * 5, torch.randn(1) * 5
fc = torch.nn.Linear(4, 1)


def get_batch(batch_size=32):
    x = torch.cat([torch.randn(batch_size, 1) ** i for i in range(1, 5)], 1)
    return x, x.mm(W_target) + b_target


for _ in range(30):
    batch_x, batch_y = get_batch()
    fc.zero_grad()
    output = functional.smooth_l1_loss(fc(batch_x), batch_y)
    output.backward()
    for param in fc.parameters():
        param.data.add_(-0.1 * param.grad)
    print(repr(output.item()))
