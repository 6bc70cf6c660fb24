"""From values to alerts: a rule fires when its condition has held for its time, and is over likewise.

Pure: time and values go in, changes come out. The same for a run that goes on and for one that is replayed.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from otel_train import guard
from otel_train.alerts.rules import Rule

CLEAR_FOR_S = 30.0
"""An alert is over after so long a time without its condition, or after the rule's own time where that is shorter."""
QUIET_AGAIN_S = 900.0
"""An alert that comes back sooner than this is recorded, but nobody is told again, unless it is there to stay."""
FORGOTTEN_S = 120.0
"""A condition that nothing was heard of for so long has to hold anew."""
MOST_LABELS = 200
"""Things that one rule is kept track of for; more are left out, and one warning says so."""

Values = Mapping[str, float]


@dataclass(frozen=True)
class Change:
    """An alert begins or is over."""

    rule: Rule
    label: str
    resolved: bool
    value: float | None
    at_s: float
    tell: bool
    """Is it worth telling somebody, not for the second time in a short while?"""
    again: bool = False
    """Nothing has changed: it came back within that while, nobody was told, and it still fires."""


@dataclass
class _State:
    """One rule on one thing. Times in s, None for what is not so."""

    bad_since_s: float | None = None
    good_since_s: float | None = None
    heard_s: float | None = None
    firing: bool = False
    told_s: float | None = None
    told: bool = False
    """Was somebody told that it fires?"""


class Engine:
    """Keeps the state of each rule. One thread."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = list(rules)
        self._states: dict[tuple[str, str], _State] = {}

    @property
    def firing(self) -> list[tuple[str, str]]:
        """Rule and label of what fires now."""
        return [key for key, state in self._states.items() if state.firing]

    def evaluate(self, now_s: float, values_of: Callable[[Rule], Values], quiet: bool) -> list[Change]:
        """Judge every rule by the values of now. ``quiet``: judge only rules that want to be judged then."""
        changes: list[Change] = []
        for rule in self.rules:
            if quiet and not rule.while_quiet:
                continue
            with guard.guarded(f"alert {rule.name}"):
                for label, value in values_of(rule).items():
                    state = self._state(rule, label)
                    change = None if state is None else self._judge(rule, label, value, now_s, state)
                    if change is not None:
                        changes.append(change)
        return changes

    def _state(self, rule: Rule, label: str) -> _State | None:
        key = rule.name, label
        if key not in self._states:
            if sum(name == rule.name for name, _ in self._states) >= MOST_LABELS:
                guard.warn_once(f"labels {rule.name}", "the alert %s has more than %d things to watch: the others are "
                                "left out", rule.name, MOST_LABELS)  # fmt: skip
                return None
            self._states[key] = _State()
        return self._states[key]

    def _judge(self, rule: Rule, label: str, value: float, now_s: float, state: _State) -> Change | None:
        lost = state.heard_s is not None and now_s - state.heard_s > FORGOTTEN_S
        if lost:
            state.bad_since_s = state.good_since_s = None
        state.heard_s = now_s
        if state.firing:
            return self._judge_firing(rule, label, value, now_s, state)
        if not rule.is_bad(value):
            state.bad_since_s = None
            return None
        if state.bad_since_s is None:
            state.bad_since_s = now_s
        if now_s - state.bad_since_s < rule.for_s:
            return None
        state.firing, state.good_since_s = True, None
        state.told = state.told_s is None or now_s - state.told_s >= QUIET_AGAIN_S
        if state.told:
            state.told_s = now_s
        return Change(rule, label, False, value, now_s, state.told)

    def _judge_firing(self, rule: Rule, label: str, value: float, now_s: float, state: _State) -> Change | None:
        if not rule.is_over(value):
            state.good_since_s = None
            return self._told_late(rule, label, value, now_s, state)
        if state.good_since_s is None:
            state.good_since_s = now_s
        if now_s - state.good_since_s < min(rule.for_s, CLEAR_FOR_S):
            return None
        state.firing, state.bad_since_s = False, None
        return Change(rule, label, True, value, now_s, state.told)

    def _told_late(self, rule: Rule, label: str, value: float, now_s: float, state: _State) -> Change | None:
        if state.told or state.told_s is None or now_s - state.told_s < QUIET_AGAIN_S:
            return None
        state.told, state.told_s = True, now_s
        return Change(rule, label, False, value, now_s, True, again=True)
