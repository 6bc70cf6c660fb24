"""A variational autoencoder on random pictures, as PyTorch's example trains one: train() and test() each epoch."""

import argparse

import torch
from torch import nn, optim
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--workers", type=int, default=0)
args = parser.parse_args()
torch.manual_seed(1)

pictures = torch.rand(128, 1, 12, 12)
train_loader = DataLoader(TensorDataset(pictures[:96]), batch_size=16, shuffle=True, num_workers=args.workers)
test_loader = DataLoader(TensorDataset(pictures[96:]), batch_size=16, num_workers=args.workers)


class VAE(nn.Module):
    """Encodes to a mean and a variance, and decodes a draw from them."""

    def __init__(self):
        super().__init__()
        self.hidden, self.mean, self.spread = nn.Linear(144, 40), nn.Linear(40, 5), nn.Linear(40, 5)
        self.back, self.out = nn.Linear(5, 40), nn.Linear(40, 144)

    def forward(self, x):
        h = functional.relu(self.hidden(x.view(-1, 144)))
        mu, logvar = self.mean(h), self.spread(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return torch.sigmoid(self.out(functional.relu(self.back(z)))), mu, logvar


def loss_function(recon, x, mu, logvar):
    bce = functional.binary_cross_entropy(recon, x.view(-1, 144), reduction="sum")
    return bce - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


model = VAE()
optimizer = optim.Adam(model.parameters(), lr=1e-3)


def train(epoch):
    model.train()
    for (data,) in train_loader:
        optimizer.zero_grad()
        recon, mu, logvar = model(data)
        loss = loss_function(recon, data, mu, logvar)
        loss.backward()
        optimizer.step()
        print("train", epoch, repr(loss.item()))


def test(epoch):
    model.eval()
    total = 0.0
    with torch.no_grad():
        for (data,) in test_loader:
            recon, mu, logvar = model(data)
            total += loss_function(recon, data, mu, logvar).item()
    print("test", epoch, repr(total))


if __name__ == "__main__":
    for epoch in range(1, args.epochs + 1):
        train(epoch)
        test(epoch)
