"""A generator and a discriminator of points on a circle: two optimizers a batch, two backwards of one of them."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

parser = argparse.ArgumentParser()
parser.add_argument("--workers", type=int, default=0)
opt = parser.parse_args()
torch.manual_seed(999)


class Circle(Dataset):
    """Points on the unit circle."""

    def __len__(self):
        return 80

    def __getitem__(self, index):
        angle = torch.tensor(index / 80 * 6.2832)
        return torch.stack([angle.sin(), angle.cos()])


dataloader = DataLoader(Circle(), batch_size=8, shuffle=True, num_workers=opt.workers)
net_g = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
net_d = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
criterion = nn.BCEWithLogitsLoss()
optimizer_d = torch.optim.Adam(net_d.parameters(), lr=2e-4, betas=(0.5, 0.999))
optimizer_g = torch.optim.Adam(net_g.parameters(), lr=2e-4, betas=(0.5, 0.999))

for epoch in range(2):
    for i, real in enumerate(dataloader):
        net_d.zero_grad()
        err_d_real = criterion(net_d(real), torch.ones(len(real), 1))
        err_d_real.backward()
        fake = net_g(torch.randn(len(real), 4))
        err_d_fake = criterion(net_d(fake.detach()), torch.zeros(len(real), 1))
        err_d_fake.backward()
        optimizer_d.step()
        net_g.zero_grad()
        err_g = criterion(net_d(fake), torch.ones(len(real), 1))
        err_g.backward()
        optimizer_g.step()
        print(f"[{epoch}][{i}]", repr((err_d_real + err_d_fake).item()), repr(err_g.item()))
