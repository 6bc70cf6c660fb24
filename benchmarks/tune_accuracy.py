"""Does tuning find what a full grid finds, in how much less time, and how far is the model of the queue off?

    python benchmarks/tune_accuracy.py [--case read] [--seconds 3] [--rounds 4]

Four data sets: a slow read (blocked, no CPU), a slow decode (computing), tiny samples, and one slow worker. The grid is
measured in rounds, each setting once a round in an order that changes, for as long as ``tune`` measures one with the
budget that it has by itself; a setting's rate is the median of its rounds.
``tune`` gets 22 % of the time of one round, start of workers included, after each second round. Goals: its
pick's rate in the grid is at least 95 % of the best of the grid, and the gain over ``num_workers=0`` that the model
expected before it was verified is within 20 % of the grid's.
"""

import argparse
import random
import statistics
import tempfile
import time
import warnings

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from otel_train.tuning.grants import read_grants
from otel_train.tuning.loaders import PREFETCH, tune
from otel_train.tuning.measuring import measure
from otel_train.tuning.outcome import LoaderTuning
from otel_train.tuning.search import LONGEST_S, Setting, grid

STEP_S, BATCH = 0.006, 8
GIVEN = 0.22
"""Of the time of a round of the grid: the search may end somewhat late, and has to within a quarter."""

READ_S, DECODE_S, SLOW_S = 0.003, 0.002, 0.012


class Samples(Dataset[torch.Tensor]):
    """Samples of one of the four kinds."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, index: int) -> torch.Tensor:
        worker = get_worker_info()
        if self.kind == "read":
            time.sleep(READ_S)
        elif self.kind == "decode":
            end = time.thread_time() + DECODE_S
            while time.thread_time() < end:
                pass
        elif self.kind == "one slow worker":
            time.sleep(SLOW_S if worker is not None and worker.id == 1 else READ_S)
        return torch.full((16,), float(index))


CASES = ("read", "decode", "tiny", "one slow worker")


def make(kind: str, setting: Setting) -> DataLoader[torch.Tensor]:
    """A loader with these settings."""
    return DataLoader(Samples(kind), BATCH, num_workers=setting.workers, prefetch_factor=setting.prefetch or None)


def step(batch: object) -> None:
    """What a GPU works on a batch, while the host is idle."""
    time.sleep(STEP_S)


def tuned(kind: str, budget_s: float, folder: str) -> LoaderTuning:
    """One search."""
    return tune(
        lambda num_workers, prefetch_factor: make(kind, Setting(num_workers, prefetch_factor or 0)),
        STEP_S,
        budget_s=budget_s,
        pin_memory=(False,),
        fresh=True,
        directory=folder,
    )


def study(kind: str, seconds: float, rounds: int, folder: str) -> None:
    """Grid and tuning in turn; prints a line for each search."""
    settings = grid(read_grants().cpus, None, PREFETCH, (False,))
    rates: dict[Setting, list[float]] = {setting: [] for setting in settings}
    searches, grid_s = [], 0.0
    for turn in range(rounds):
        began = time.perf_counter()
        for setting in random.sample(settings, len(settings)):
            found = measure(make(kind, setting), step, setting.workers, seconds, 60.0)
            rates[setting].append(found.batches_per_s)
        grid_s = time.perf_counter() - began
        if turn % 2:
            began = time.perf_counter()
            searches.append((tuned(kind, GIVEN * grid_s, folder), time.perf_counter() - began, grid_s))
    truth = {setting: statistics.median(each) for setting, each in rates.items()}
    best = max(truth, key=lambda setting: truth[setting])
    alone = truth[Setting(0)]
    print(f"{kind}: best of {len(settings)} settings {best.workers}x{best.prefetch}, {truth[best]:.1f} batches/s; "
          f"num_workers=0 {alone:.1f}; a round of the grid {grid_s:.1f} s")  # fmt: skip
    for found, took, round_s in searches:
        pick = Setting(found.settings["num_workers"], found.settings.get("prefetch_factor", 0))
        gain = truth[pick] / alone
        print(f"  pick {pick.workers}x{pick.prefetch}: {truth[pick] / truth[best] * 100:5.1f} % of the best, in "
              f"{took / round_s * 100:4.1f} % of the time; gain {gain:.2f}, expected {found.predicted_gain:.2f} "
              f"({(found.predicted_gain / gain - 1) * 100:+.0f} %), measured by tune {found.gain:.2f}")  # fmt: skip
    low, high = min(rates[best]), max(rates[best])
    print(f"  the best setting's own rounds: {low:.1f} to {high:.1f} batches/s ({(high / low - 1) * 100:.0f} % apart)")


def main() -> None:
    """Print what came of each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--seconds", type=float, default=LONGEST_S)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "This DataLoader will create")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for kind in (options.case,) if options.case else CASES:
            study(kind, options.seconds, options.rounds, folder)


if __name__ == "__main__":
    main()
