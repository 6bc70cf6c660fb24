"""The alerts of a run that goes on, put together when they are first looked for: on the keeper's thread, since it takes
50 ms."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from otel_train import active, guard
from otel_train.alerts.predicates import predicates
from otel_train.clock import Clock
from otel_train.identity import Identity
from otel_train.recorder.training_state import TrainingState
from otel_train.runlog.events import Event
from otel_train.runlog.layout import EVALUATION
from otel_train.runlog.ranklog import RankLog
from otel_train.settings import Settings
from otel_train.store import Store

if TYPE_CHECKING:
    from otel_train.alerts.notification import Notification
    from otel_train.alerts.notify import Delivery
    from otel_train.alerts.watch import Alerts


class Watching:
    """Looks at the record now and then. ``tick`` is the keeper's duty, the rest anybody's."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        clock: Clock,
        identity: Identity,
        state: TrainingState,
        delivery: "Delivery | None",
        write_event: Callable[[Event], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._identity = identity
        self._state = state
        self._delivery = delivery
        self._write_event = write_event

    @cached_property
    def _alerts(self) -> "Alerts | None":
        if self._settings.alerts is False:
            return None
        from otel_train.alerts.rules import rules_in_force
        from otel_train.alerts.watch import Alerts, Claims, Watch

        at = None if self._settings.alerts is True else self._settings.alerts
        rules = rules_in_force(at, predicates())
        watch = Watch(RankLog(self._store), rules, self._is_disturbed, lambda: self._state.start_ns)
        folder = self._store.run_folder
        claims = Claims(None if folder is None else folder / "alerts")
        run_id, rank = self._identity.run_id, self._identity.rank
        return Alerts(watch, self._clock, self._write_event, self._notify, claims, run_id, rank)

    def tick(self) -> None:
        """Look once."""
        if self._alerts is not None:
            self._alerts.tick()

    def last_look(self) -> None:
        """The run is over: what happened since the last look may be why. Not in a run of a few seconds."""
        with guard.guarded("alerts"):
            alerts = vars(self).get("_alerts")
            if alerts is not None:
                alerts.tick()

    def active(self) -> dict[str, int]:
        """By rule: how many things it fires on. Empty before the first look, and where alerts are off."""
        alerts = vars(self).get("_alerts")
        return {} if alerts is None else alerts.active()

    def close(self, timeout_s: float) -> None:
        """The run is over: notifications under way have so long."""
        if self._delivery is not None:
            self._delivery.close(timeout_s)

    def _notify(self, notification: "Notification") -> None:
        if self._delivery is not None:
            self._delivery.send(notification)

    def _is_disturbed(self) -> bool:
        """Is the training in an evaluation or a checkpoint now? Read from another thread, at any moment."""
        state = self._state
        return bool(active.going_on or state.flags & EVALUATION or state.tried or state.evaluation)


def delivery_of(settings: Settings) -> "Delivery | None":
    """What tells those who are to be told of alerts, None where nobody is; looks at the rules of a file, too.

    Raises ``SettingsError``: it is called before anything of the run is there.
    """
    if isinstance(settings.alerts, Path):
        from otel_train.alerts.rules import rules_in_force

        rules_in_force(settings.alerts)
    if not (settings.alert_webhook or settings.alert_email or settings.alert_command):
        return None
    from otel_train.alerts.notify import Delivery, ways

    return Delivery(ways(settings))
