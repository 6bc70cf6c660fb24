"""Train a small convolutional network to read handwritten digits, the 1797 that come with scikit-learn.

70 % of the images are trained on, 15 % choose the best epoch, 15 % are for the final test. An image has 8 by
8 pixels. Nothing is downloaded.

    python examples/digits.py                      # 20 epochs, some seconds, about 97 % right
    python examples/digits.py --workers 2          # two processes load the data
    python examples/digits.py --slow-dataset 1     # each image takes 1 ms more: the training waits for data
    python examples/digits.py --steps 100 --losses losses.txt      # the same losses each time, bit for bit
    OTEL_TRAIN_ENABLED=0 python examples/digits.py                 # the same training without telemetry
    OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 python examples/digits.py     # exported as it trains
"""

import argparse
import math
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, RandomSampler

import otel_train


class Digits(Dataset[tuple[Tensor, Tensor]]):
    """Images, (1, 8, 8) of float32 from 0 to 1, each with the digit it shows.

    An item is ``delay_s`` longer in coming than it need be.
    """

    def __init__(self, images: Tensor, labels: Tensor, delay_s: float = 0.0) -> None:
        self.images, self.labels, self.delay_s = images, labels, delay_s

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if self.delay_s:
            time.sleep(self.delay_s)
        return self.images[index], self.labels[index]


@otel_train.timed("prepare_digits")
def prepare_digits(seed: int, delay_s: float) -> tuple[Digits, Digits, Digits]:
    """To train on, to choose by, to test with; the same share of each digit in all. The first is slow."""
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(digits.target)
    training, rest = train_test_split(range(len(labels)), test_size=0.3, stratify=labels, random_state=seed)
    validation, test = train_test_split(rest, test_size=0.5, stratify=labels[rest], random_state=seed)
    return (
        Digits(images[training], labels[training], delay_s),
        Digits(images[validation], labels[validation]),
        Digits(images[test], labels[test]),
    )


def build_model() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(64 * 4 * 4, 10),
    )


@torch.no_grad()
def evaluate(name: str, model: nn.Module, digits: Digits, device: torch.device) -> float:
    """The share of digits that the model reads right."""
    model.eval()
    right = torch.zeros((), dtype=torch.int64, device=device)
    with otel_train.trace_evaluation(name):
        for images, labels in otel_train.trace_dataloader(DataLoader(digits, batch_size=128)):
            with otel_train.trace_step():
                right += (model(images.to(device)).argmax(dim=1) == labels.to(device)).sum()
    model.train()
    return right.item() / len(digits)


def train(arguments: argparse.Namespace, output: Path, quiet: bool) -> tuple[Tensor, float]:
    """The training loss of every step as a (steps,) tensor, and the best epoch's accuracy in the test."""
    torch.manual_seed(arguments.seed)
    device = torch.device(arguments.device)
    training, validation, test = prepare_digits(arguments.seed, arguments.slow_dataset / 1000)
    shuffled = RandomSampler(training, generator=torch.Generator().manual_seed(arguments.seed))
    # The loader draws its workers' seeds from a generator of its own: dropout's draws do not depend on it.
    worker_seeds = torch.Generator().manual_seed(arguments.seed)
    loader = otel_train.trace_dataloader(
        DataLoader(
            training,
            arguments.batch_size,
            sampler=shuffled,
            num_workers=arguments.workers,
            generator=worker_seeds,
            persistent_workers=arguments.workers > 0,
            pin_memory=device.type == "cuda",
            drop_last=True,
        )
    )
    total_steps = arguments.steps or arguments.epochs * len(loader)
    model = build_model().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total_steps)
    checkpoint, best = output / "digits.pt", -1.0
    losses: list[Tensor] = []
    stop_at = time.monotonic() + arguments.seconds
    last = False

    for epoch in range(1, math.ceil(total_steps / len(loader)) + 1):
        with otel_train.trace_epoch(epoch):
            for images, labels in loader:
                with otel_train.trace_step():
                    images = images.to(device, non_blocking=True)
                    labels = labels.to(device, non_blocking=True)
                    with otel_train.trace_phase("forward"):
                        loss = cross_entropy(model(images), labels)
                    with otel_train.trace_phase("backward"):
                        loss.backward()
                    with otel_train.trace_phase("optimizer"):
                        optimizer.step()
                        optimizer.zero_grad()
                    losses.append(loss.detach())
                    otel_train.log(loss=losses[-1], learning_rate=schedule.get_last_lr()[0])
                    schedule.step()
                last = len(losses) == total_steps or time.monotonic() >= stop_at
                if last:
                    break
            accuracy = evaluate("validation", model, validation, device)
            otel_train.log(validation_accuracy=accuracy)
        if accuracy > best:
            best = accuracy
            with otel_train.trace_checkpoint(checkpoint):
                torch.save(model.state_dict(), checkpoint)
        if not quiet:
            print(f"epoch {epoch}: loss {losses[-1]:.3f}, validation {accuracy:.1%} right", flush=True)
        if last:
            break

    with otel_train.trace_checkpoint(checkpoint, kind="load"):
        model.load_state_dict(torch.load(checkpoint, map_location=device, weights_only=True))
    return torch.stack(losses), evaluate("test", model, test, device)


def parse_arguments() -> argparse.Namespace:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--steps", type=int, help="stop after so many steps, however many epochs they are")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so many seconds")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=0, help="processes that load data, or 0")
    parser.add_argument("--slow-dataset", type=float, default=0.0, metavar="MS", help="sleep for each item")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, help="folder for the best model; else it is not kept")
    parser.add_argument("--losses", type=Path, metavar="FILE", help="write every step's loss, float.hex()")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=sys.stderr.isatty())
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(max(1, min(4, torch.get_num_threads() - 1)))  # a core is left for the workers
    if arguments.losses and arguments.device != "cpu":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    with tempfile.TemporaryDirectory() as temporary:
        output = arguments.output or Path(temporary)
        output.mkdir(parents=True, exist_ok=True)
        progress, total_steps = arguments.progress, arguments.steps
        with otel_train.init(service_name="digits", progress=progress, total_steps=total_steps) as run:
            displayed = run.settings is not None and run.settings.progress
            started = time.monotonic()
            step_losses, accuracy = train(arguments, output, quiet=displayed)
            losses = step_losses.tolist()
            elapsed = time.monotonic() - started

    print(f"{len(losses)} steps in {elapsed:.1f} s, {len(losses) / elapsed:.1f} a second", end=": ")
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}, {accuracy:.1%} of the test digits right")
    if run.path:
        print(f"Recorded in {run.path}")
    if arguments.losses:
        arguments.losses.write_text("".join(f"{loss.hex()}\n" for loss in losses))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
