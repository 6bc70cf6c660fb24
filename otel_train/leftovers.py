"""What earlier runs of this job could not send: the next start sends it, once the backend answers.

A run that crashed and was restarted leaves its last seconds in its log. ``otel-train push`` would send them; nobody
has to type it where the same job starts again.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from otel_train.errors import RunLogError
from otel_train.runlog.layout import CURSOR, rank_folder
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.runs import runs_in, state_of

if TYPE_CHECKING:
    from otel_train.session import Session

NEWEST = 20
"""Runs that are looked at; older ones wait for ``otel-train push``."""

SLICE_S = 5.0
"""So long at a time, between the drains of the run that is going on."""


class Leftovers:
    """Logs of the same rank, service and endpoint on this host whose process is gone and whose cursor is behind."""

    def __init__(self, session: "Session", targets: Any) -> None:
        self._session = session
        self._targets = targets
        self._logs = self._find()
        self._exporter: Any = None

    def drain_some(self) -> None:
        """Send for a while. Cheap once there is nothing left."""
        while self._exporter is None:
            log = next(self._logs, None)
            if log is None:
                return
            self._exporter = self._open(log)
        deadline = time.monotonic() + SLICE_S
        if self._exporter.drain(final=True, deadline=deadline) or time.monotonic() < deadline:
            self._exporter.release()
            self._exporter = None

    def close(self) -> None:
        """Let go of what is being sent."""
        if self._exporter is not None:
            self._exporter.release()

    def _open(self, log: RankLog) -> Any:
        from otel_train.export import Exporter

        exporter = Exporter(log, self._targets(log))
        return exporter if exporter.acquire() else None

    def _find(self) -> Iterator[RankLog]:
        settings, own = self._session.settings, self._session.identity
        for _, run in zip(range(NEWEST), runs_in(settings.dir), strict=False):
            path = run.path / rank_folder(own.rank)
            if run.id == own.run_id or not path.is_dir():
                continue
            try:
                log = RankLog.open(path)
            except RunLogError:
                continue
            if self._is_ours(log) and state_of(log) not in ("running", "unknown"):
                yield log

    def _is_ours(self, log: RankLog) -> bool:
        """Was it to be exported, and to the same place under the same name?"""
        recorded = log.identity.get("settings", {})
        exported = recorded.get("endpoint") is not None or CURSOR in log.storage.names()
        same_place = recorded.get("endpoint") == self._session.settings.endpoint
        return exported and same_place and log.identity.get("service_name") == self._session.service_name
