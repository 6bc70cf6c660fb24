"""A training that knows nothing of otel_train, and gets no more memory than it is granted: what a sweep is tried on.

On the CPU that is ``--mib`` more than it has begun with; on a GPU all that the device has.
"""

import argparse
import resource
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

MIB = 1 << 20


class Rows(Dataset):
    """Rows of ones."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return torch.ones(8)


def train(batch_size, steps, width, device):
    """A row needs four bytes times the width for each of a few tensors."""
    model = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 1)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for rows in DataLoader(Rows(batch_size * steps), batch_size=batch_size):
        model(rows.to(device)).mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def limit(more_bytes):
    """Let the process map so much more, and no more than that."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + more_bytes, mapped + more_bytes))


def main():
    """Train once in a small size, so that all that torch maps is mapped; then with so much more memory and no more."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--mib", type=int, default=96)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.device == "cpu":
        limit(arguments.mib * MIB)
    train(arguments.batch_size, arguments.steps, arguments.width, arguments.device)


if __name__ == "__main__":
    main()
