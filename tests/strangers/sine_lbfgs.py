"""Predicts sine waves with two LSTM cells and LBFGS, as PyTorch's time-sequence example does: no loader at all."""

import argparse

import torch
from torch import nn


class Sequence(nn.Module):
    """Two cells, one number in and one out for each moment."""

    def __init__(self):
        super().__init__()
        self.first = nn.LSTMCell(1, 12)
        self.second = nn.LSTMCell(12, 12)
        self.out = nn.Linear(12, 1)

    def forward(self, waves):
        state1 = state2 = None
        outputs = []
        for moment in waves.split(1, dim=1):
            state1 = self.first(moment, state1)
            state2 = self.second(state1[0], state2)
            outputs.append(self.out(state2[0]))
        return torch.cat(outputs, dim=1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--workers", type=int)
    opt = parser.parse_args()
    torch.manual_seed(0)
    data = torch.sin(torch.arange(40)[None] / 5 + torch.rand(16, 1) * 6).double()
    seq = Sequence().double()
    criterion = nn.MSELoss()
    optimizer = torch.optim.LBFGS(seq.parameters(), lr=0.8, max_iter=4)
    for _ in range(opt.steps):

        def closure():
            optimizer.zero_grad()
            loss = criterion(seq(data[3:, :-1]), data[3:, 1:])
            print("loss:", repr(loss.item()))
            loss.backward()
            return loss

        optimizer.step(closure)
        with torch.no_grad():
            print("test loss:", repr(criterion(seq(data[:3, :-1]), data[:3, 1:]).item()))
