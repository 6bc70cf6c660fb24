"""Strong and weak scaling of a small DDP training under gloo on this machine, and two runs with an injected fault.

The runs of each round follow each other, so that a machine that is busy for a while is so for all of them. Prints what
``otel-train scaling`` says of each study: weak, strong, one rank that is 20 ms slow, a data set that is 20 ms slow.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

RANK = Path(__file__).parent.parent / "tests" / "scaling_rank.py"
SLOW_MS = "20"


def main() -> None:
    """Run the studies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2], help="world sizes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=64, help="of one rank in weak scaling, of all in strong")
    parser.add_argument("--width", type=int, default=512, help="of the model's layers")
    parser.add_argument("--dir", type=Path, help="where to record; default: a temporary directory")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = given.dir or Path(temporary)
        for number in range(given.rounds):
            for size in given.sizes:
                train(directory, given, f"weak-{size}-{number}", size, given.batch)
                if size > 1:
                    train(directory, given, f"strong-{size}-{number}", size, given.batch // size)
        most = max(given.sizes)
        train(directory, given, "slow-rank", most, given.batch, SLOW_RANK_MS=SLOW_MS)
        train(directory, given, "slow-data", most, given.batch, SLOW_DATA_MS=SLOW_MS)
        report(directory, given)


def train(directory: Path, given: argparse.Namespace, run_id: str, size: int, batch: int, **slow: str) -> None:
    """One run; raises where a rank fails."""
    environment = {
        **os.environ, **slow, "OTEL_TRAIN_DIR": str(directory), "OTEL_TRAIN_RUN_ID": run_id, "WORLD_SIZE": str(size),
        "STORE": str(directory / f"store-{run_id}"), "STEPS": str(given.steps), "BATCH": str(batch),
        "WIDTH": str(given.width),
    }  # fmt: skip
    command = [sys.executable, str(RANK)]
    ranks = [subprocess.Popen(command, env={**environment, "RANK": str(rank)}) for rank in range(size)]
    codes = [rank.wait() for rank in ranks]
    if any(codes):
        raise SystemExit(f"a rank of {run_id} failed")


def report(directory: Path, given: argparse.Namespace) -> None:
    """What otel-train says of the studies."""
    alone = [f"weak-1-{number}" for number in range(given.rounds)]
    for name in ("weak", "strong"):
        runs = [f"{name}-{size}-{number}" for size in given.sizes if size > 1 for number in range(given.rounds)]
        say(directory, name, [*alone, *runs])
    for name in ("slow-rank", "slow-data"):
        say(directory, name, [*alone, name])


def say(directory: Path, title: str, runs: list[str]) -> None:
    """One study."""
    print(f"\n== {title}\n", flush=True)
    subprocess.run(
        [sys.executable, "-m", "otel_train.cli", "scaling", "--dir", str(directory), *runs,
         "-o", str(directory / f"{title}.png")], check=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
