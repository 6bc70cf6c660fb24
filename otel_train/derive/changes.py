"""What else is different between two sides of runs: hardware, versions, commit, settings, work a step, resources."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from otel_train.derive.fingerprint import Fingerprint

NOTABLE = 0.1
"""Resources that differ by less than a tenth are not told."""
SAME_WORK = 0.001
WORK, RESOURCES = "work", "resources"
OF_THE_RUN = frozenset({"dir", "run_id"})
"""Settings that name a run, and say nothing of how it ran."""


@dataclass(frozen=True)
class Change:
    """``part`` is ``work``, ``hardware``, ``software``, ``git``, ``settings`` or ``resources``. Values are text, those
    of work and resources numbers; None where a side does not have it."""

    part: str
    name: str
    before: str | float | None
    after: str | float | None


def changes(first: Sequence[Fingerprint], second: Sequence[Fingerprint]) -> Iterator[Change]:
    """The work a step first, because with it nothing else compares; resources last, the largest change first."""
    for name in ("samples_a_step", "tokens_a_step"):
        before, after = _mean([getattr(run, name) for run in first]), _mean([getattr(run, name) for run in second])
        if before != after and not (before and after and abs(after / before - 1) < SAME_WORK):
            yield Change(WORK, name.replace("_", " "), before, after)
    for part in ("hardware", "software", "git", "settings"):
        yield from _facts(part, first, second)
    yield from _resources(first, second)


def _facts(part: str, first: Sequence[Fingerprint], second: Sequence[Fingerprint]) -> Iterator[Change]:
    names = dict.fromkeys(name for run in (*first, *second) for name in run.facts.get(part, {}))
    for name in names:
        before, after = (_said(side, part, name) for side in (first, second))
        if before != after and name not in OF_THE_RUN:
            yield Change(part, name, before, after)


def _said(side: Sequence[Fingerprint], part: str, name: str) -> str | None:
    said = dict.fromkeys(run.facts.get(part, {}).get(name) for run in side)
    return ", ".join("-" if value is None else value for value in said) if any(said) else None


def _resources(first: Sequence[Fingerprint], second: Sequence[Fingerprint]) -> Iterator[Change]:
    found = []
    for name in dict.fromkeys(name for run in (*first, *second) for name in run.resources):
        before, after = (_mean([run.resources.get(name) for run in side]) for side in (first, second))
        if before and after and before > 0 and after > 0 and abs(math.log(after / before)) > math.log1p(NOTABLE):
            found.append((abs(math.log(after / before)), Change(RESOURCES, name, before, after)))
    yield from (change for _, change in sorted(found, key=lambda each: -each[0]))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
