"""The export thread of a run that is going on: wakes, drains the log to the backend, sleeps."""

import os
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from otel_train import guard
from otel_train.errors import RunLogError
from otel_train.leftovers import Leftovers
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.storage import Memory
from otel_train.settings import Settings

if TYPE_CHECKING:
    from otel_train.session import Session

EVERY_S = 2.0
SIGNAL_ENDPOINTS = tuple(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT" for signal in ("TRACES", "METRICS", "LOGS"))


def wanted(settings: Settings, providers: dict[str, Any]) -> bool:
    """Is there somewhere to send to? Tells without importing OpenTelemetry."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if settings.endpoint or any(os.environ.get(name, "").strip() for name in SIGNAL_ENDPOINTS):
        return True
    return bool(application_providers(providers))


def application_providers(providers: dict[str, Any]) -> dict[str, Any]:
    """The application's own providers: those passed to ``init()``, and real ones that are already set."""
    if not providers and "opentelemetry.sdk" not in sys.modules:
        return {}
    from otel_train.sinks.providers import providers_already_set

    return {**providers_already_set(), **providers}


class Sending(threading.Thread):
    """Drains one rank's log for as long as the run goes on."""

    def __init__(self, session: "Session") -> None:
        super().__init__(name="otel_train.export", daemon=True)
        self._session = session
        self._wake = threading.Event()
        self._over = False
        self._deadline: float | None = None
        self.cpu_ns = 0
        self._exporter: Any = None
        self._exporter = self._open()  # not on the thread: a program may be over by then, and imports fail

    @property
    def dropped(self) -> int:
        """Records that were gone before a backend acknowledged them."""
        return int(getattr(self._exporter, "dropped", 0))

    @property
    def failures(self) -> Counter[str]:
        """Failed exports a signal."""
        return Counter(getattr(self._exporter, "failures", {}))

    def run(self) -> None:
        exporter = self._exporter
        leftovers = Leftovers(self._session, self._targets)
        try:
            while True:
                over, deadline = self._over, self._deadline  # read once: the last drain is one that knows it is
                with guard.guarded("export"):
                    if exporter.drain(final=over, deadline=deadline) and not self._over:
                        leftovers.drain_some()
                self.cpu_ns = time.thread_time_ns()
                if over:
                    return
                self._wake.wait(EVERY_S)
        finally:
            leftovers.close()
            exporter.release()

    def finish(self, deadline: float) -> None:
        """Send what is left until ``deadline`` (``time.monotonic``), then let go: the rest stays in the log."""
        self._deadline = deadline
        self._over = True
        self._wake.set()
        self.join(max(deadline - time.monotonic(), 0))
        if self.is_alive():
            self._exporter.stop()
        remaining = self._exporter.pending()
        if remaining:
            self._say_unsent(remaining)

    def _say_unsent(self, remaining: int) -> None:
        run_id, location = self._session.identity.run_id, self._session.store.location
        if location == Memory.location:
            message = "%d steps of run %s were not acknowledged by the backend, and end with this process's memory"
            guard.warn_once("unsent", message, remaining, run_id)
            return
        guard.warn_once(
            "unsent",
            "%d steps of run %s were not acknowledged by the backend. Nothing is lost: they are in %s. "
            "Send them with: otel-train push %s",
            remaining,
            run_id,
            location,
            run_id,
        )

    def _open(self) -> Any:
        from otel_train.export import Exporter

        log = RankLog(self._session.store)
        providers = application_providers(self._session.providers)
        exporter = Exporter(log, self._targets(log, **providers))
        if not exporter.acquire():
            raise RunLogError(f"{log.storage.location} is being sent by another process")
        return exporter

    def _targets(self, log: RankLog, **providers: Any) -> Any:
        from otel_train.export import make_targets

        settings = self._session.settings
        return make_targets(
            log.identity,
            **providers,
            endpoint=settings.endpoint,
            headers=settings.headers or None,
            protocol=settings.protocol,
        )
