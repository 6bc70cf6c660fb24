"""``otel-train tune``: the search over a command's runs."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from otel_train.tuning import remembered
from otel_train.tuning.commands import Command, arguments_of
from otel_train.tuning.grants import read_grants
from otel_train.tuning.outcome import LoaderTuning, kept, restored, rows
from otel_train.tuning.search import Search, Setting, grid
from otel_train.tuning.wording import evidence

PREFETCH = (2, 4)
RUNS = 10
"""The budget is for about so many runs of the command."""


def tune_command(
    line: Sequence[str],
    *,
    steps: int,
    budget_s: float,
    max_workers: int | None,
    fresh: bool,
    directory: Path,
    folder: str,
) -> LoaderTuning:
    """Measure a command as it is and with settings; or recall what came of it, run in this ``folder``, before.

    Raises ``TuningError`` where it cannot be measured as it is, or without workers.
    """
    granted = read_grants()
    settings = grid(granted.cpus, max_workers, PREFETCH, (False,))
    key = remembered.key_of(cpu=granted.cpu_model, cpus=granted.cpus, settings=settings, line=line, folder=folder)
    if not fresh and (known := remembered.recall(directory, key)) is not None:
        with contextlib.suppress(KeyError, TypeError):  # of another version: measured anew
            return restored(known)
    trials = Command(line, steps)
    as_is = trials.measure(None, 0.0, budget_s / 2)
    search = Search(trials.measure, settings, granted.cpus, budget_s, each_s=budget_s / RUNS, warms_up=False)
    best = search.run()
    chosen, alone = search.trials[best], search.trials[Setting(0)]
    arguments = {name: value for name, value in arguments_of(best).items() if name != "pin_memory"}
    share = chosen.rate / as_is.batches_per_s
    found = LoaderTuning(
        arguments,
        chosen.rate / alone.rate if alone.rate else None,
        search.expected_gain,
        {"num_workers": 0},
        rows(search),
        (
            f"As the command sets its loaders: {as_is.batches_per_s:.4g} batches/s; so this is {share:.2f} x that.",
            *evidence(search, best, granted, arguments),
        ),
        None,
        search.spent_s,
        not search.stopped_early,
    )
    return kept(found, directory, key)
