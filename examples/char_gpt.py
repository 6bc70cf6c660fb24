"""Train a character-level GPT on Python source code: the standard library's own, which every machine has.

The text is the modules at the top of this interpreter's standard library, about four megabytes; every
twentieth module is held out for validation. A small decoder-only transformer learns to predict the next
character. Nothing is downloaded.

    python examples/char_gpt.py                    # half a minute, with otel_train's display on a terminal
    python examples/char_gpt.py --sample           # and print some of the Python that it learned to babble
    python examples/char_gpt.py --slow-dataset 30  # each item takes 30 ms more: the training waits for data
    python examples/char_gpt.py --steps 200 --losses losses.txt    # the same losses each time, bit for bit
    OTEL_TRAIN_ENABLED=0 python examples/char_gpt.py               # the same training without telemetry
    OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 python examples/char_gpt.py   # exported as it trains
"""

import argparse
import os
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, RandomSampler

import otel_train

CHARACTERS = "\N{REPLACEMENT CHARACTER}\n" + "".join(map(chr, range(32, 127)))
"""The vocabulary: newline and printable ASCII. Any other byte is read as number 0."""


@otel_train.timed("read_sources")
def read_sources() -> tuple[Tensor, Tensor]:
    """The text to train on and the text held out, as character numbers: two 1-D uint8 tensors."""
    numbers = bytes(max(CHARACTERS.find(chr(byte)), 0) for byte in range(256))
    training, held_out = bytearray(), bytearray()
    for index, path in enumerate(sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))):
        (held_out if index % 20 == 19 else training).extend(path.read_bytes().translate(numbers))
    return torch.frombuffer(training, dtype=torch.uint8), torch.frombuffer(held_out, dtype=torch.uint8)


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """Each run of ``context`` characters, and of those one further on: two (context,) tensors of int64.

    An item is ``delay_s`` longer in coming than it need be.
    """

    def __init__(self, text: Tensor, context: int, delay_s: float = 0.0) -> None:
        self.text, self.context, self.delay_s = text, context, delay_s

    def __len__(self) -> int:
        return len(self.text) - self.context

    def __getitem__(self, start: int) -> tuple[Tensor, Tensor]:
        if self.delay_s:
            time.sleep(self.delay_s)
        window = self.text[start : start + self.context + 1].long()
        return window[:-1], window[1:]


class CharGPT(nn.Module):
    """Scores of the next character at each position: (B, T) of int64 to (B, T, vocabulary)."""

    mask: Tensor

    def __init__(self, context: int, width: int, layers: int, heads: int = 4) -> None:
        super().__init__()
        self.context = context
        self.characters = nn.Embedding(len(CHARACTERS), width)
        self.positions = nn.Embedding(context, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.scores = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(CHARACTERS)))
        causal = nn.Transformer.generate_square_subsequent_mask(context)
        self.register_buffer("mask", causal, persistent=False)

    def forward(self, text: Tensor) -> Tensor:
        length = text.shape[1]
        mask = self.mask[:length, :length]
        stream = self.characters(text) + self.positions.weight[:length]
        for layer in self.layers:
            stream = layer(stream, src_mask=mask, is_causal=True)
        scores: Tensor = self.scores(stream)
        return scores


def loss_of(model: CharGPT, text: Tensor, following: Tensor) -> Tensor:
    return cross_entropy(model(text).flatten(0, 1), following.flatten())


@torch.no_grad()
def evaluate(model: CharGPT, windows: Windows, device: torch.device) -> Tensor:
    """Mean loss of 256 windows spread over the text, the same ones each time: nats a character."""
    model.eval()
    starts = torch.linspace(0, len(windows) - 1, 256).long().tolist()
    losses = []
    with otel_train.trace_evaluation("validation"):
        for text, following in DataLoader(windows, batch_size=64, sampler=starts):
            with otel_train.trace_step(samples=len(text), tokens=text.numel()):
                losses.append(loss_of(model, text.to(device), following.to(device)))
    model.train()
    return torch.stack(losses).mean()


@otel_train.timed("write_sample")
@torch.no_grad()
def write_sample(model: CharGPT, seed: int, prompt: str = "\ndef ", length: int = 400) -> str:
    """Go on from ``prompt``, a character at a time, each drawn from what the model thinks likely."""
    model.eval()
    device, drawing = next(model.parameters()).device, torch.Generator().manual_seed(seed)
    text = torch.tensor([[CHARACTERS.index(character) for character in prompt]])
    for _ in range(length):
        scores = model(text[:, -model.context :].to(device))[:, -1].cpu()
        text = torch.cat([text, torch.multinomial((scores / 0.8).softmax(-1), 1, generator=drawing)], dim=1)
    return "".join(CHARACTERS[number] for number in text[0].tolist())


def train(arguments: argparse.Namespace, output: Path, quiet: bool) -> tuple[CharGPT, Tensor]:
    """The trained model, and the training loss of every step as a (steps,) tensor."""
    torch.manual_seed(arguments.seed)
    device = torch.device(arguments.device)
    training_text, held_out_text = read_sources()
    windows = Windows(training_text, arguments.context, arguments.slow_dataset / 1000)
    held_out = Windows(held_out_text, arguments.context)
    random_starts = RandomSampler(  # its own generator makes the batches the same for any number of workers
        windows,
        replacement=True,
        num_samples=(arguments.steps or 10**9) * arguments.batch_size,
        generator=torch.Generator().manual_seed(arguments.seed),
    )
    loader = DataLoader(
        windows,
        arguments.batch_size,
        sampler=random_starts,
        num_workers=arguments.workers,
        pin_memory=device.type == "cuda",
    )
    model = CharGPT(arguments.context, arguments.width, arguments.layers).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3, betas=(0.9, 0.95))
    warm_up = 50  # steps; after it the rate falls with the root of the step, for which no end need be known
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm_up, (warm_up / (step + 1)) ** 0.5)
    )
    checkpoint = output / "char_gpt.pt"
    losses = []
    stop_at = time.monotonic() + (arguments.seconds or float("inf"))

    for step, (text, following) in enumerate(otel_train.trace_dataloader(loader), start=1):
        with otel_train.trace_step():
            text = text.to(device, non_blocking=True)
            following = following.to(device, non_blocking=True)
            with otel_train.trace_phase("forward"):
                loss = loss_of(model, text, following)
            with otel_train.trace_phase("backward"):
                loss.backward()
            with otel_train.trace_phase("optimizer"):
                grad_norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.detach())
            otel_train.log(loss=losses[-1], grad_norm=grad_norm, learning_rate=schedule.get_last_lr()[0])
            schedule.step()

        last = step == arguments.steps or time.monotonic() >= stop_at
        if last or step % arguments.evaluate_every == 0:
            validation_loss = evaluate(model, held_out, device)
            otel_train.log(validation_loss=validation_loss)
            with otel_train.trace_checkpoint(checkpoint):
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
                torch.save(state, checkpoint)
            if not quiet:
                print(f"step {step}: loss {losses[-1]:.3f}, validation {validation_loss:.3f}", flush=True)
        if last:
            break
    return model, torch.stack(losses)


def parse_arguments() -> argparse.Namespace:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("--steps", type=int, help="stop after so many steps")
    parser.add_argument("--seconds", type=float, help="stop after so many seconds (30 unless --steps)")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--context", type=int, default=64, help="characters that the model sees at once")
    parser.add_argument("--width", type=int, default=96, help="size of the model's vectors; a multiple of 4")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--evaluate-every", type=int, default=100, metavar="STEPS", help="and save")
    parser.add_argument("--workers", type=int, default=2, help="processes that load data, or 0")
    parser.add_argument("--slow-dataset", type=float, default=0.0, metavar="MS", help="sleep for each item")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, help="folder for the checkpoint; else it is not kept")
    parser.add_argument("--losses", type=Path, metavar="FILE", help="write every step's loss, float.hex()")
    parser.add_argument("--sample", action="store_true", help="print text that the trained model writes")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=sys.stderr.isatty())
    arguments = parser.parse_args()
    if not arguments.steps and not arguments.seconds:
        arguments.seconds = 30.0
    return arguments


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
        with otel_train.init(service_name="char_gpt", progress=progress, total_steps=total_steps) as run:
            displayed = run.settings is not None and run.settings.progress
            started = time.monotonic()
            model, step_losses = train(arguments, output, quiet=displayed)
            losses = step_losses.tolist()
            elapsed = time.monotonic() - started
            sample = write_sample(model, arguments.seed) if arguments.sample else ""

    count, ends = len(losses), min(10, len(losses))
    first, final = sum(losses[:ends]) / ends, sum(losses[-ends:]) / ends
    print(f"{count} steps in {elapsed:.1f} s, {count / elapsed:.1f} a second", end=": ")
    print(f"loss {first:.3f} -> {final:.3f}")
    if run.path:
        print(f"Recorded in {run.path}")
    if sample:
        print(sample)
    if arguments.losses:
        arguments.losses.write_text("".join(f"{loss.hex()}\n" for loss in losses))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
