"""``otel_train.tune_workers``: the number of workers at which a parallel job stops getting faster."""

import math
import multiprocessing
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from otel_train.errors import SettingsError, TuningError
from otel_train.tuning.crew import CREWS, Crew
from otel_train.tuning.grants import Grants, read_grants

T = TypeVar("T")

MOST_ITEMS = 10_000
"""Of a longer job, so many of its first items stand for all."""

SCALING = 0.05
"""Less than this part more of items a second, twice in a row, is no scaling any more."""

AS_GOOD = 0.95
"""The fewest workers that are as fast as this part of the fastest are taken."""

MOST_PARTS = 12
SHORTEST_S, LONGEST_S = 0.2, 3.0
MORE_THAN_CPUS = {"processes": 4, "threads": 16}
"""Workers a CPU that are tried at most, by themselves: those that wait for a network need no CPU."""


@dataclass(frozen=True)
class WorkerRate:
    """What so many workers did. ``speedup`` is over one worker, ``efficiency`` that for each worker."""

    workers: int
    items_per_s: float
    speedup: float
    efficiency: float


@dataclass(frozen=True)
class JobTuning:
    """The outcome of ``tune_workers()``: the number to use, and the curve that it was read from."""

    workers: int
    kind: str
    """``processes`` or ``threads``."""
    gain: float
    """Items a second over those of one worker."""
    curve: tuple[WorkerRate, ...]
    evidence: tuple[str, ...]
    spent_s: float
    complete: bool
    """Whether the budget was enough to see where it stops scaling."""

    def __str__(self) -> str:
        lines = [f"{self.workers} {self.kind}: {self.gain:.2f} x one worker (measured in {self.spent_s:.1f} s)"]
        lines += [f"  {line}" for line in self.evidence]
        lines.append(f"  {'workers':>7}{'items/s':>11}{'speedup':>9}{'efficiency':>12}")
        for each in self.curve:
            rate, efficiency = f"{each.items_per_s:.4g}", f"{each.efficiency * 100:.0f} %"
            lines.append(f"  {each.workers:>7}{rate:>11}{each.speedup:>9.2f}{efficiency:>12}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def plot(self, path: str | Path) -> None:
        """Draw the curve to .png, .svg or .pdf. Extra ``plot``."""
        from otel_train.report.plot_tuning import draw_job

        draw_job(self, Path(path))


def tune_workers(
    function: Callable[[T], object],
    items: Iterable[T],
    *,
    kind: str = "processes",
    max_workers: int | None = None,
    budget_s: float = 30.0,
    start_method: str | None = None,
    grants: Grants | None = None,
) -> JobTuning:
    """Find how many workers call ``function`` on ``items`` fastest: 1, 2, 4, … until more do not help, then in between.

    Calls it again and again on the first 10,000 items, so it must bear that. ``kind`` is processes (started by
    ``start_method``, by itself the platform's) or threads; up to ``max_workers``, by itself 4 processes or 16 threads
    for each CPU granted. Takes about ``budget_s`` at most; a process that hangs is killed, a thread that hangs cannot
    be, and stays as a daemon. Raises ``TuningError`` where the function raises or no item is done in time, and
    ``SettingsError`` for a wrong argument.
    """
    if kind not in CREWS:
        raise SettingsError(f"kind is {kind!r}; allowed are {' and '.join(CREWS)}")
    if not budget_s > 0:
        raise SettingsError(f"budget_s is {budget_s!r}; allowed are seconds above 0, such as budget_s=30")
    work = list(islice(items, MOST_ITEMS))
    if not work:
        raise TuningError("there are no items: nothing can be measured")
    granted = grants or read_grants()
    most = max_workers if max_workers is not None else MORE_THAN_CPUS[kind] * math.ceil(granted.cpus)
    if most < 1:
        raise SettingsError(f"max_workers is {max_workers!r}; allowed are whole numbers from 1 on")
    crew = CREWS[kind](function, work, multiprocessing.get_context(start_method))
    curve = _Curve(crew, budget_s)
    curve.climb(most)
    curve.refine(most)
    return _outcome(curve, kind, granted, most)


class _Curve:
    """Items a second by workers, as far as measured."""

    def __init__(self, crew: Crew, budget_s: float) -> None:
        self._crew = crew
        self._budget_s = budget_s
        self._began = time.perf_counter()
        self._slice_s = min(max(budget_s / MOST_PARTS, SHORTEST_S), LONGEST_S)
        self.rates: dict[int, float] = {}
        self.complete = True

    @property
    def spent_s(self) -> float:
        """Of the budget."""
        return time.perf_counter() - self._began

    @property
    def best(self) -> int:
        """The fewest workers that are about as fast as the fastest."""
        return min(count for count, rate in self.rates.items() if rate >= AS_GOOD * max(self.rates.values()))

    def measure(self, workers: int) -> bool:
        """Once, or once more: then their mean. False, and nothing done, where the budget is over."""
        left = self._budget_s - self.spent_s
        if self.rates and left < self._slice_s:
            self.complete = False
            return False
        rate = self._crew.items_per_s(workers, self._slice_s, max(left, self._slice_s))
        self.rates[workers] = (self.rates[workers] + rate) / 2 if workers in self.rates else rate
        return True

    def climb(self, most: int) -> None:
        """Twice as many each time, until that does not help twice in a row."""
        without, workers = 0, 1
        while without < 2 and workers <= most:
            before = max(self.rates.values(), default=0.0)
            if not self.measure(workers):
                return
            without = 0 if self.rates[workers] > (1 + SCALING) * before else without + 1
            workers = min(workers * 2, most) if workers < most else most + 1

    def refine(self, most: int) -> None:
        """Halfway to its neighbours on both sides of the best; and the best and its nearest once more."""
        best = self.best
        for between in ((best + best // 2) // 2, best + best // 2):
            if 1 <= between <= most and between not in self.rates:
                self.measure(between)
        known = sorted(self.rates)
        at = known.index(self.best)
        for workers in known[max(at - 1, 0) : at + 2]:
            if self._budget_s - self.spent_s > 2 * self._slice_s:
                self.measure(workers)


def _outcome(curve: _Curve, kind: str, granted: Grants, most: int) -> JobTuning:
    one, best = curve.rates[1], curve.best
    rates = tuple(
        WorkerRate(count, rate, rate / one, rate / one / count) for count, rate in sorted(curve.rates.items())
    )
    lines = [f"There are {granted.told()}."]
    lines.append(_why(best, max(curve.rates), most, kind))
    return JobTuning(best, kind, curve.rates[best] / one, rates, tuple(lines), curve.spent_s, curve.complete)


def _why(best: int, tried: int, most: int, kind: str) -> str:
    if best == tried == most:
        return f"It still scales at {most} {kind}, the most that were tried: raise max_workers."
    if best == tried:
        return f"It still scales at {best} {kind}, where the budget was over: raise budget_s."
    return f"More than {best} {kind} make it less than {(1 / AS_GOOD - 1) * 100:.0f} % faster, if at all."
