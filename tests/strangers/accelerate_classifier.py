"""A classifier with Accelerate: prepare, accumulate, an evaluation each epoch, a scheduler."""

import argparse

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--with_tracking", action="store_true")
    args = parser.parse_args()
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    if args.with_tracking:
        accelerator.init_trackers("classifier", config={"lr": 0.01, "workers": args.workers})
    set_seed(42)
    x = torch.randn(128, 20)
    data = TensorDataset(x, (x.sum(1) > 0).long())
    train_loader = DataLoader(data, batch_size=16, shuffle=True, num_workers=args.workers)
    eval_loader = DataLoader(data, batch_size=32, num_workers=args.workers)
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 4)
    model, optimizer, train_loader, eval_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, eval_loader, scheduler
    )
    for epoch in range(3):
        model.train()
        for inputs, targets in train_loader:
            with accelerator.accumulate(model):
                loss = nn.functional.cross_entropy(model(inputs), targets)
                accelerator.backward(loss)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            accelerator.print(epoch, repr(loss.item()))
        model.eval()
        right = 0
        for inputs, targets in eval_loader:
            with torch.no_grad():
                predictions = model(inputs).argmax(-1)
            right += accelerator.gather_for_metrics(predictions == targets).sum().item()
        accelerator.print("accuracy", right / len(data))
        if args.with_tracking:
            accelerator.log({"accuracy": right / len(data), "train_loss": loss.item()}, step=epoch)
    accelerator.end_training()


if __name__ == "__main__":
    main()
