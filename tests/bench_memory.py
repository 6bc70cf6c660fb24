"""A training that knows nothing of otel_train, and gets no more memory than it is granted: what a sweep is tried on."""

import argparse
import resource
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

MIB = 1 << 20
WIDTH = 4096


class Rows(Dataset):
    """Rows of ones."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return torch.ones(8)


def train(batch_size, steps):
    """A row needs 16 KiB for each of a few tensors."""
    model = nn.Sequential(nn.Linear(8, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for rows in DataLoader(Rows(batch_size * steps), batch_size=batch_size):
        model(rows).mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def main():
    """Train once in a small size, so that all that torch maps is mapped; then with so much more memory and no more."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--mib", type=int, default=96)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = mapped + arguments.mib * MIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    train(arguments.batch_size, arguments.steps)


if __name__ == "__main__":
    main()
