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
netG = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
netD = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
criterion = nn.BCEWithLogitsLoss()
optimizerD = torch.optim.Adam(netD.parameters(), lr=2e-4, betas=(0.5, 0.999))
optimizerG = torch.optim.Adam(netG.parameters(), lr=2e-4, betas=(0.5, 0.999))

for epoch in range(2):
    for i, real in enumerate(dataloader):
        netD.zero_grad()
        errD_real = criterion(netD(real), torch.ones(len(real), 1))
        errD_real.backward()
        fake = netG(torch.randn(len(real), 4))
        errD_fake = criterion(netD(fake.detach()), torch.zeros(len(real), 1))
        errD_fake.backward()
        optimizerD.step()
        netG.zero_grad()
        errG = criterion(netD(fake), torch.ones(len(real), 1))
        errG.backward()
        optimizerG.step()
        print(f"[{epoch}][{i}]", repr((errD_real + errD_fake).item()), repr(errG.item()))
