"""Which steps are profiled: those that the settings name, and those that are asked for while the run goes on."""

from otel_train.runlog.layout import MISSING
from otel_train.settings import Settings

SCHEDULED, REQUESTED, ALERTED, BLOCK = "scheduled", "requested", "alert", "block"

WARM_UP_STEPS = 20
"""Of a run, and of an epoch: earlier steps compile and fill caches."""
AUTO_EVERY = 128
"""``auto`` begins with one step in so many, and takes fewer where they cost too much."""
FIRST_COST_NS = 200_000_000
"""What the first profile of ``auto`` is taken to cost: it waits until the run has earned that."""
BUDGET_SHARE = 0.5
"""The part of the budget that profiles may take."""


class Schedule:
    """Asked before each step, on the training thread. ``ask`` is for any other too."""

    def __init__(self, settings: Settings) -> None:
        self._earning = settings.profile_every == "auto"
        """The first profile is still to be earned."""
        self.every = AUTO_EVERY if self._earning else int(settings.profile_every or 0)
        """One step in so many; 0 for none. Grows where they cost too much."""
        self._steps = settings.profile_steps
        self._epochs = set(settings.profile_epochs)
        self._at_once = settings.profile_window
        self._budget = settings.overhead_budget
        self._epoch: tuple[int, int] = (MISSING, 0)
        """The epoch that goes on, and its first step."""
        self._asked: tuple[int, int, str] | None = None
        """At which step at the earliest, how many, and why."""

    def ask(self, at_step: int, steps: int | None, reason: str) -> None:
        """So many steps (None: as many as usual), from that one on at the earliest."""
        self._asked = at_step, steps or self._at_once, reason

    def is_over(self, number: int) -> bool:
        """Is no step from this one on to be profiled, as far as is known?"""
        later = any(last >= number for _, last in self._steps)
        return not (self.every or self._epochs or self._asked or later)

    def wanted(self, number: int, epoch: int, trained_ns: int) -> tuple[int, str]:
        """How many steps from this one on are to be profiled (0: none), and why. trained_ns: the run's time so far."""
        if self._asked is not None and number >= self._asked[0]:
            _, steps, reason = self._asked
            self._asked = None
            return steps, reason
        for first, last in self._steps:
            if first <= number <= last:
                return last - number + 1, SCHEDULED
        if self.every and number % self.every == 0 and number >= WARM_UP_STEPS and self._earned(trained_ns):
            return self._at_once, SCHEDULED
        if epoch != self._epoch[0]:
            self._epoch = epoch, number
        if epoch in self._epochs and number >= self._epoch[1] + WARM_UP_STEPS:
            self._epochs.discard(epoch)
            return self._at_once, SCHEDULED
        return 0, ""

    def _earned(self, trained_ns: int) -> bool:
        if self._earning and self._budget is not None:
            self._earning = trained_ns * self._budget * BUDGET_SHARE < FIRST_COST_NS
            return not self._earning
        return True

    def spread(self, cost_ns: float, step_ns: float) -> None:
        """Profile so rarely that it stays within its part of the budget; by powers of two, so that ranks that cost more
        still take steps that the others take too."""
        if not self.every or self._budget is None:
            return
        affordable = cost_ns / (self._budget * BUDGET_SHARE * step_ns)
        while self.every < affordable:
            self.every *= 2
