"""Watches one run: a tick of its log, the rules over it, and what comes of that: an event, a line, a notification."""

import contextlib
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from otel_train import guard, names
from otel_train.alerts.engine import Change, Engine
from otel_train.alerts.measures import MEASURES, metrics_behind, values_of
from otel_train.alerts.notification import Notification
from otel_train.alerts.rules import Rule
from otel_train.alerts.window import Window
from otel_train.alerts.wording import say
from otel_train.runlog.events import Event

if TYPE_CHECKING:
    from otel_train.runlog.ranklog import RankLog

STALE_S = 600.0
"""A claim to have told of an alert that is older than this is a dead rank's: one that lives renews it."""
CLAIM_AGAIN_S = 60.0
"""So often a rank renews its claims, and tries those that others have of what fires on it too."""


class Delivery(Protocol):
    """Takes notifications away, at once."""

    def send(self, notification: Notification) -> None:
        """Hand it on. Never raises, never waits."""
        ...


class Watch:
    """Evaluates the rules over one rank's log. One thread."""

    def __init__(
        self,
        log: "RankLog",
        rules: list[Rule],
        going_on: Callable[[], bool] = lambda: False,
        step_began_ns: Callable[[], int | None] = lambda: None,
    ) -> None:
        """What the log has only when it is over is asked for: see ``Window``."""
        self.window = Window(log, going_on, _metrics_of(rules), step_began_ns)
        self.engine = Engine(rules)

    def tick(self, now_ns: int) -> list[Change]:
        """Read on to now, judge, and tell what has changed."""
        window = self.window
        window.advance(now_ns)
        return self.engine.evaluate(now_ns / 1e9, lambda rule: _values(rule, window), window.quiet)


def _metrics_of(rules: list[Rule]) -> frozenset[str] | None:
    """The resource metrics that the rules need; None is all: a rule in Python may ask for any."""
    if any(rule.predicate is not None for rule in rules):
        return None
    return frozenset(metric for rule in rules for metric in metrics_behind(rule.measure))


def _values(rule: Rule, window: Window) -> Mapping[str, float]:
    if rule.predicate is None:
        return values_of(rule.measure, window)
    try:
        return {"": float(bool(rule.predicate(Figures(window))))}
    except KeyError:  # a figure that has no value now
        return {}


class Figures(dict[str, float]):
    """All measures by name, worked out when asked for: the largest where there are several. Missing raises KeyError."""

    def __init__(self, window: Window) -> None:
        super().__init__()
        self._window = window

    def __missing__(self, name: str) -> float:
        values = values_of(name, self._window)
        if not values:
            raise KeyError(name)
        return max(values.values())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(values_of(name, self._window))

    def get(self, name: str, default: float | None = None) -> float | None:  # type: ignore[override]
        """The value, or the default where it cannot be told."""
        return self[name] if name in self else default  # noqa: SIM401  it is what get does

    def keys(self) -> list[str]:  # type: ignore[override]
        """The names that have a value now."""
        return [name for name in MEASURES if name in self]


def event_of(change: Change, time_ns: int, step: int | None, active: int | None = None) -> Event:
    """The change as an event of the run log. ``active``: how many things the rule fires on from now on."""
    rule = change.rule
    attributes = {
        names.ALERT_RULE: rule.name,
        names.ALERT_STATE: names.RESOLVED if change.resolved else names.FIRING,
        names.ALERT_SEVERITY: rule.severity,
        names.ALERT_LABEL: change.label,
        names.ALERT_MEASURE: rule.measure,
        names.ALERT_VALUE: change.value,
        names.ALERT_THRESHOLD: rule.threshold,
        names.ALERT_SUMMARY: say(rule.says, rule, change.label, change.value),
        names.ALERTS_ACTIVE: active,
        names.ALERT_ADVICE: "" if change.resolved else say(rule.do, rule, change.label, change.value),
    }
    given = {key: value for key, value in attributes.items() if value not in (None, "")}
    return Event(names.ALERT, time_ns, step=step, attributes=given)


def notification_of(change: Change, run_id: str, rank: int, step: int | None, unix_s: float) -> Notification:
    """The change as somebody is told of it."""
    rule = change.rule
    return Notification(
        rule.name, rule.severity, change.resolved, say(rule.says, rule, change.label, change.value),
        say(rule.do, rule, change.label, change.value), unix_s, run_id, rank, socket.gethostname(),
        change.label, step, change.value, rule.threshold,
    )  # fmt: skip


class Claims:
    """One notification a run, not one a rank: the first rank that fires claims the alert in the run's directory.

    Where ranks do not share a directory each tells for itself.
    """

    def __init__(self, folder: Path | None) -> None:
        """``folder`` is None where the run is in memory: then there is nobody to share with."""
        self._folder = folder

    def take(self, rule: str, label: str) -> bool:
        """Claim an alert that fires; False where another rank has."""
        if self._folder is None:
            return True
        path = self._path(rule, label)
        try:
            self._folder.mkdir(exist_ok=True)
            if path.exists() and time.time() - path.stat().st_mtime > STALE_S:
                path.unlink(missing_ok=True)
            path.touch(exist_ok=False)
        except FileExistsError:
            return False
        except OSError:  # a disk that is full or gone: better told twice than not
            return True
        return True

    def renew(self, rule: str, label: str) -> None:
        """It fires still."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                os.utime(self._path(rule, label))

    def release(self, rule: str, label: str) -> None:
        """It is over."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._path(rule, label).unlink(missing_ok=True)

    def _path(self, rule: str, label: str) -> Path:
        assert self._folder is not None
        safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in f"{rule}-{label}")
        return self._folder / safe[:200].rstrip("-")


class Alerts:
    """The alerts of the run that goes on: the keeper's duty."""

    def __init__(
        self,
        watch: Watch,
        clock: Callable[[], int],
        write_event: Callable[[Event], None],
        deliver: Callable[[Notification], None],
        claims: Claims,
        run_id: str,
        rank: int,
    ) -> None:
        self._watch = watch
        self._clock = clock
        self._write_event = write_event
        self._deliver = deliver
        self._claims = claims
        self._run_id = run_id
        self._rank = rank
        self._claimed: set[tuple[str, str]] = set()
        self._refused: dict[tuple[str, str], Change] = {}
        """What fires here too, and another rank has told of."""
        self._looked_ns = 0

    def tick(self) -> None:
        """Look once more. The keeper's thread; some 2 ms."""
        now_ns = self._clock()
        for change in self._watch.tick(now_ns):
            with guard.guarded("alert"):
                self._tell(change)
        if now_ns - self._looked_ns > CLAIM_AGAIN_S * 1e9:
            self._looked_ns = now_ns
            self._look_after_claims()

    def active(self) -> dict[str, int]:
        """By rule: how many things it fires on."""
        firing = Counter(rule for rule, _ in self._watch.engine.firing)
        return {rule.name: firing[rule.name] for rule in self._watch.engine.rules}

    def _tell(self, change: Change) -> None:
        key = change.rule.name, change.label
        if not change.again:
            step = self._watch.window.step
            self._write_event(event_of(change, self._clock(), step, self.active()[change.rule.name]))
        if change.resolved:
            self._refused.pop(key, None)
        if change.tell and self._is_ours(key, change):
            self._say(change)

    def _say(self, change: Change) -> None:
        told = notification_of(change, self._run_id, self._rank, self._watch.window.step, time.time())
        log_line(told)
        self._deliver(told)

    def _is_ours(self, key: tuple[str, str], change: Change) -> bool:
        if not change.resolved:
            if self._claims.take(*key):
                self._claimed.add(key)
                return True
            self._refused[key] = change
            return False
        if key in self._claimed:
            self._claimed.discard(key)
            self._claims.release(*key)
            return True
        return False

    def _look_after_claims(self) -> None:
        """Renew one's own; tell of what another rank has told of and is over there, but fires here."""
        for key in self._claimed:
            self._claims.renew(*key)
        for key, change in list(self._refused.items()):
            if self._is_ours(key, change):
                del self._refused[key]
                self._say(change)


def log_line(told: Notification) -> None:
    """A line on the terminal, by the logger ``otel_train``."""
    import logging

    state = "is over" if told.resolved else told.severity
    advice = "" if told.resolved or not told.advice else f" {told.advice}"
    where = f" (rank {told.rank}, step {told.step})" if told.step is not None else f" (rank {told.rank})"
    level = logging.INFO if told.resolved else logging.WARNING
    logging.getLogger("otel_train").log(level, "alert %s %s%s: %s%s", told.rule, state, where, told.summary, advice)
