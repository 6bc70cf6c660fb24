"""The search: measure without workers and with few, let the model of the queue rank the rest, verify its favourites.

A full grid measures every setting. Here the model says which could be best, and only those are measured, with their
neighbours; those near the fastest again, in turn, so that what the machine does meanwhile hits all of them.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from otel_train.derive.input_queue import Workload, predict, worker_counts
from otel_train.errors import TuningError
from otel_train.tuning.evidence import workload
from otel_train.tuning.measuring import Measured, least_batches

AS_GOOD = 0.99
"""Of settings as fast as this part of the fastest, the one with the fewest workers and the shortest queue is taken."""

CLOSE = 0.90
"""What comes as near to the fastest is measured again, and fewer workers that are expected to are tried. Where the
training's own work comes as near, more workers cannot help."""

ROUNDS = 2
MOST_AGAIN = 4
"""So often again at most, and so many."""

STARTING = 1.2
"""A measurement is taken to cost so many times what those before did."""

LEAST_LIMIT, LEAST_LIMIT_S = 0.5, 2.0
"""Where the budget is nearly over, a measurement may still take this part of it, or these seconds. None is begun that
is not expected to be in time: only one that hangs needs the limit."""

WARM_UP = 0.3
"""The part of a measurement that comes before the first one."""

PROBED_WORKERS = 2

MOST_PARTS = 18
"""The budget is for so many measurements, start of workers included."""

SHORTEST_S, LONGEST_S = 0.3, 3.0
"""A measurement takes at least and at most so long."""


@dataclass(frozen=True, order=True)
class Setting:
    """A loader's settings, the cheaper first. ``prefetch`` is 0 without workers."""

    workers: int
    prefetch: int = 0
    pin_memory: bool = False


Measure = Callable[[Setting, float, float], Measured]
"""Of a setting, for about so many seconds, with a limit: what came of it. Raises ``TuningError``."""


@dataclass
class Trial:
    """One setting: what the model expected, in batches a second, and what was measured. None was not done."""

    setting: Setting
    predicted: float | None = None
    measured: Measured | None = None
    failure: str | None = None
    tries: int = 0
    took_s: float | None = None
    """The last time, start of workers included."""

    @property
    def rate(self) -> float:
        """Batches a second measured; 0 where it was not, or failed."""
        return self.measured.batches_per_s if self.measured and not self.failure else 0.0


@dataclass
class Search:
    """The state of one search, and in the end its outcome."""

    measure: Measure
    settings: Sequence[Setting]
    cpus: float
    budget_s: float
    allowed: Callable[[Setting, Measured, Measured | None], str | None] = lambda setting, alone, probe: None
    """Why a setting is left out, given what was seen without workers and with few; None where it is not."""
    clock: Callable[[], float] = time.perf_counter
    each_s: float | None = None
    """How long a measurement takes, where the budget does not say."""
    warms_up: bool = True
    trials: dict[Setting, Trial] = field(default_factory=dict)
    left_out: dict[Setting, str] = field(default_factory=dict)
    load: Workload | None = None
    alone_per_s: float | None = None
    """Batches a second without workers, as they were when the model was asked: what its gain is over."""
    spent_s: float = 0.0
    stopped_early: bool = False
    """The budget was over before all was verified that should have been."""

    def run(self) -> Setting:
        """The best setting. Raises ``TuningError`` where no workers at all cannot be measured."""
        self._began = self.clock()
        alone = self._alone()
        assert alone.measured is not None
        self._leave_out(alone.measured, None)
        probe = self._probe()
        self._leave_out(alone.measured, probe.measured if probe else None)
        self._predict(alone, probe)
        tried = self._verify(self._favourites())
        self._predict_again(tried)
        self._verify(self._favourites())
        self._doubt()
        self._again()
        self.spent_s = self.clock() - self._began
        return self.best()

    def best(self) -> Setting:
        """The cheapest of those that are about as fast as the fastest."""
        fastest = max(trial.rate for trial in self.trials.values())
        return min(setting for setting, trial in self.trials.items() if trial.rate >= AS_GOOD * fastest)

    @property
    def expected_gain(self) -> float | None:
        """Of the best setting over none, as the model expected it; 1 for none itself. None where it was not asked."""
        best = self.best()
        predicted = self.trials[best].predicted
        if not best.workers:
            return 1.0
        return predicted / self.alone_per_s if predicted and self.alone_per_s else None

    @property
    def seconds(self) -> float:
        """How long one measurement takes."""
        return self.each_s or min(max(self.budget_s / MOST_PARTS, SHORTEST_S), LONGEST_S)

    @property
    def left_s(self) -> float:
        """What is left of the budget."""
        return self.budget_s - (self.clock() - self._began)

    def _alone(self) -> Trial:
        """Without workers; once for nothing before: what is first is slower, by imports, caches, a CPU that sleeps."""
        for again in (False, True) if self.warms_up else (True,):
            alone = self._try(Setting(0), 1.0 if again else WARM_UP)
            if alone.failure is not None:
                raise TuningError(alone.failure)
            if not again:
                alone.measured, alone.tries = None, 0
        return alone

    def _price_s(self, setting: Setting) -> float:
        """What measuring it takes, somewhat more than it did before. Where it was not measured, than others did on
        average; with the workers that it has more than few, and the batches that are taken at least."""
        trial = self._trial(setting)
        if trial.took_s:
            return max(self.seconds, STARTING * trial.took_s)
        mean_s = STARTING * sum(self._took_s) / len(self._took_s)
        rate = (trial.predicted or 0.0) * self._optimism or self.trials[Setting(0)].rate
        least_s = least_batches(setting.workers) / rate if rate else 0.0
        return max(self.seconds, mean_s) + self._starting_s(setting.workers) + max(least_s - self.seconds, 0.0)

    def _starting_s(self, workers: int) -> float:
        """How much longer so many take to start than the fewest that did, if each takes as long as one of these."""
        started = {
            trial.setting.workers: min(trial.measured.starts_s)
            for trial in self.trials.values()
            if trial.measured and trial.measured.starts_s and trial.setting.workers
        }
        few = min(started, default=0)
        return started[few] / few * max(workers - few, 0) if few else 0.0

    def _trial(self, setting: Setting) -> Trial:
        return self.trials.setdefault(setting, Trial(setting))

    def _try(self, setting: Setting, part: float = 1.0) -> Trial:
        trial = self._trial(setting)
        trial.tries += 1
        began = self.clock()
        try:
            limit_s = max(self.left_s, self.budget_s * LEAST_LIMIT, LEAST_LIMIT_S)
            found = self.measure(setting, part * self.seconds, limit_s)
        except TuningError as error:
            trial.failure = str(error)
            return trial
        finally:
            trial.took_s = self.clock() - began
            self._took_s.append(trial.took_s)
        if trial.measured is None:
            trial.measured = found
        else:
            trial.measured.merge(found)
        return trial

    def _leave_out(self, alone: Measured, probe: Measured | None) -> None:
        for setting in self.settings:
            why = self.allowed(setting, alone, probe)
            if why is not None and (setting not in self.trials or self.trials[setting].measured is None):
                self.left_out[setting] = why

    def _probe(self) -> Trial | None:
        """With few workers, and the shortest queue that is allowed for them."""
        known = [each for each in self.settings if 0 < each.workers <= PROBED_WORKERS and each not in self.left_out]
        return self._try(max(known, key=lambda each: (each.workers, -each.prefetch))) if known else None

    def _predict(self, alone: Trial, probe: Trial | None) -> None:
        assert alone.measured is not None
        self.alone_per_s = alone.measured.batches_per_s
        seen = probe if probe is not None and probe.measured is not None else None
        self.load = workload(
            alone.measured, seen.measured if seen else None, seen.setting.prefetch if seen else 2, self.cpus
        )
        for setting in self.settings:
            if setting not in self.left_out:
                self._trial(setting).predicted = self._expected(self.load, setting)

    def _expected(self, load: Workload, setting: Setting) -> float:
        return predict(load, setting.workers, max(setting.prefetch, 1)).batches_per_s

    def _favourites(self) -> list[Setting]:
        """Not measured yet: the cheapest of the best, its neighbours, and the best.

        What has been measured stands for itself: one of the best that is expected to be slower than that is none.
        """
        expected = {setting: self._worth(trial) for setting, trial in self.trials.items() if not trial.failure}
        top = max(expected.values())
        cheapest = min(setting for setting, rate in expected.items() if rate >= AS_GOOD * top)
        best = min(expected, key=lambda setting: (-round(expected[setting] / top, 2), setting))
        pinned = [each for each in expected if each == replace(cheapest, pin_memory=True)]
        wanted = [cheapest, *pinned, *_neighbours(cheapest, expected, CLOSE * top), best]
        return [setting for setting in dict.fromkeys(wanted) if self.trials[setting].measured is None]

    def _worth(self, trial: Trial) -> float:
        return trial.rate if trial.measured is not None else (trial.predicted or 0.0) * self._optimism

    _optimism: float = 1.0
    _took_s: list[float] = field(default_factory=list)

    def _verify(self, settings: list[Setting]) -> list[Setting]:
        done = []
        for setting in settings:
            if self.left_s < self._price_s(setting):
                self.stopped_early = True
                break
            self._try(setting)
            done.append(setting)
        return done

    def _predict_again(self, tried: list[Setting]) -> None:
        """What was expected too much of those verified is expected too much of the others."""
        ratios = [
            self.trials[each].rate / expected
            for each in tried
            if (expected := self.trials[each].predicted) and self.trials[each].rate
        ]
        if ratios:
            self._optimism = math.exp(sum(map(math.log, ratios)) / len(ratios))

    def _doubt(self) -> None:
        """The most workers, and at most half as many, with the shortest queue, whatever the model says: where that
        takes at most half of what is left, and the training's own work does not bound the rate already.

        To it, all workers beyond those that keep the CPUs busy are alike. But more of them leave no CPU idle while the
        system moves them, and get more where the machine is busy with something else.
        """
        best = self.best()
        if self.load is not None and self.trials[best].rate * self.load.work_s >= CLOSE:
            return
        usable = [each for each, trial in self.trials.items() if each.workers and not trial.failure]
        shortest = {each.workers: each for each in sorted(_pinned_as(best, usable), reverse=True)}
        most = max(shortest, default=0)
        half = max((count for count in shortest if count <= most / 2), default=most)
        for wide in dict.fromkeys(shortest[count] for count in (most, half) if count):
            if self.trials[wide].measured is None and self.left_s > 2 * self._price_s(wide):
                self._try(wide)

    def _again(self) -> None:
        """Those that are nearest to the fastest once more, and what they are compared with: in turn, what was measured
        least first, as long as there is time."""
        while again := [each for each in self._contenders() if self._price_s(each) <= self.left_s]:
            self._try(again[0])

    def _contenders(self) -> list[Setting]:
        fastest = max(trial.rate for trial in self.trials.values())
        close = [each for each, trial in self.trials.items() if each.workers and trial.rate >= CLOSE * fastest]
        close = sorted(close, key=lambda each: -self.trials[each].rate)[:MOST_AGAIN]
        tries = {each: self.trials[each].tries for each in [*close, Setting(0)]}
        return sorted((each for each in tries if tries[each] <= ROUNDS), key=lambda each: tries[each])


def _neighbours(setting: Setting, expected: Mapping[Setting, float], least: float) -> list[Setting]:
    """More workers by a step, a longer queue, and fewer workers where these are expected to be near enough. Of no
    workers: the fewest."""
    alike = sorted(_pinned_as(setting, [each for each in expected if each.workers]))
    if not setting.workers:
        return alike[:1]
    more = [each for each in alike if each.workers > setting.workers and each.prefetch == setting.prefetch]
    longer = [each for each in alike if each.workers == setting.workers and each.prefetch > setting.prefetch]
    fewer = [each for each in alike if each.workers < setting.workers and each.prefetch == setting.prefetch]
    return [*more[:1], *longer[:1], *(each for each in fewer[-1:] if expected[each] >= least)]


def _pinned_as(setting: Setting, settings: Sequence[Setting]) -> Sequence[Setting]:
    """Those with its memory; all where there are none, as where no workers are best and only pinned memory is tried."""
    return [each for each in settings if each.pin_memory == setting.pin_memory] or settings


def grid(cpus: float, most: int | None, prefetch: Sequence[int], pin_memory: Sequence[bool]) -> list[Setting]:
    """All settings that come into question, by themselves: up to ``most`` workers, or four a CPU granted."""
    counts = worker_counts(cpus, most)
    found = {Setting(count, ahead if count else 0, pin) for count in counts for ahead in prefetch for pin in pin_memory}
    return sorted(found)
