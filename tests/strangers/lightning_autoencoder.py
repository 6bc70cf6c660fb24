"""An autoencoder with Lightning: encoder and decoder in one module, validation, a test, Lightning's checkpoints."""

import argparse
import tempfile

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class LitAutoEncoder(LightningModule):
    """Learns to give back what it got."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3))
        self.decoder = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 64))

    def training_step(self, batch, batch_idx):
        (x,) = batch
        loss = nn.functional.mse_loss(self.decoder(self.encoder(x)), x)
        self.log("train_loss", loss, prog_bar=True)
        self.print("step", self.global_step, repr(loss.item()))
        return loss

    def validation_step(self, batch, batch_idx):
        (x,) = batch
        self.log("val_loss", nn.functional.mse_loss(self.decoder(self.encoder(x)), x))

    def test_step(self, batch, batch_idx):
        (x,) = batch
        self.log("test_loss", nn.functional.mse_loss(self.decoder(self.encoder(x)), x))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--root", default=None)
    parser.add_argument("--resume", default=None)
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()
    seed_everything(7)
    data = TensorDataset(torch.rand(128, 64))
    loaders = {"batch_size": 16, "num_workers": args.workers}
    trainer = Trainer(
        max_epochs=args.epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=args.root or tempfile.mkdtemp(),
        accumulate_grad_batches=args.accumulate,
        limit_val_batches=3,
        devices=args.devices,
        strategy="ddp" if args.devices > 1 else "auto",
    )
    model = LitAutoEncoder()
    trainer.fit(model, DataLoader(data, shuffle=True, **loaders), DataLoader(data, **loaders), ckpt_path=args.resume)
    trainer.test(model, DataLoader(data, **loaders), verbose=False)
    print({name: repr(value.item()) for name, value in trainer.callback_metrics.items()})


if __name__ == "__main__":
    main()
