"""Uses torch, a loader with workers and a model, and trains nothing."""

import torch
from torch.utils.data import DataLoader, TensorDataset

if __name__ == "__main__":
    model = torch.nn.Linear(8, 1)
    with torch.no_grad():
        for (inputs,) in DataLoader(TensorDataset(torch.randn(8, 8)), batch_size=4, num_workers=2):
            model(inputs)
    print("done")
