"""Drains one rank's log: sends what is new and moves the cursor on the backend's acknowledgement, signal by signal."""

import json
import logging
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentelemetry.sdk.resources import Resource

from otel_train import guard
from otel_train.export.batches import Batch, Cursor, Source
from otel_train.export.log_source import LogSource
from otel_train.export.metric_source import MetricSource
from otel_train.export.targets import LOGS, METRICS, TRACES, Outcome, Target, Targets
from otel_train.export.trace_source import TraceSource
from otel_train.file_lock import FileLock
from otel_train.runlog.layout import CURSOR, LOCK
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.storage import Memory
from otel_train.sinks.resource import make_resource

logger = logging.getLogger("otel_train")

CURSOR_VERSION = 1
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
DESCRIBED_WITHIN_NS = 3_000_000_000
"""The hardware is in ``run.json`` a moment after the start; so long a young run waits for it to be sent."""

SAVE_EVERY_S = 10.0
"""A cursor that moved past what needed no sending is written so often; after an acknowledgement at once."""

_jitter = random.Random()  # never the global generator: the training may draw from it


@dataclass
class _Channel:
    """One signal: where it comes from, where it goes, and how far it got."""

    signal: str
    source: Source
    target: Target
    cursor: Cursor
    attempts: int = 0
    """Failures since the last acknowledgement."""
    retry_at: float = 0.0
    """``time.monotonic`` before which it is not tried again."""

    def pause(self) -> None:
        """Wait before the next try: longer each time, to a minute, and not in step with the other ranks."""
        self.attempts += 1
        pause_s = min(FIRST_PAUSE_S * 2 ** min(self.attempts - 1, 10), LONGEST_PAUSE_S)
        self.retry_at = time.monotonic() + pause_s * _jitter.uniform(0.5, 1.0)


@dataclass
class _Lost:
    """What did not reach the backend and will not."""

    records: Counter[str] = field(default_factory=Counter)
    """A signal: records that the log dropped before they were acknowledged."""
    refused: int = 0
    """Items that the backend refused for good."""


class Exporter:
    """Exports one rank's log. One thread calls ``drain``; any thread may call the rest."""

    def __init__(self, log: RankLog, targets: Targets) -> None:
        """``targets`` as from ``make_targets``; settings are those of the run itself, from ``run.json``."""
        self.failures: Counter[str] = Counter()
        """Failed exports a signal."""
        self._log = log
        self._lost = _Lost()
        self._resource: Resource | None = None
        self._is_stopped = False
        self._save_at = 0.0
        self._lock = None if log.storage.location == Memory.location else FileLock(Path(log.storage.location) / LOCK)
        self._saved = self._load()
        sources = _sources(log)
        wanted = {TRACES: targets.traces, METRICS: targets.metrics, LOGS: targets.logs}
        self._channels = [
            _Channel(signal, sources[signal], target, self._saved.get(signal, {}))
            for signal, target in wanted.items()
            if target is not None
        ]

    def acquire(self) -> bool:
        """Become this rank's only exporter; False when another process is. Then read the cursor as that one left it."""
        if self._lock is not None and not self._lock.acquire():
            return False
        self._saved = self._load()
        for channel in self._channels:
            channel.cursor = self._saved.get(channel.signal, {})
        return True

    def release(self) -> None:
        """Let another process export this rank."""
        if self._lock is not None:
            self._lock.release()

    def drain(self, final: bool = False, deadline: float | None = None) -> bool:
        """Send all that is new. True when all of it was acknowledged, or nothing was due.

        While a backend does not answer it is tried again after a pause, not at each call; with ``final`` at once, and
        with what otherwise waits: a metric interval or a trace interval that is not over. Between batches it ends at
        ``deadline`` (``time.monotonic``); within one it takes the SDK's timeout at most.
        """
        resource = self._resource_of_run(final)
        if resource is None:
            return False
        done = [self._drain(channel, resource, final, deadline) for channel in self._channels]
        if final or time.monotonic() >= self._save_at:
            self._save()
        return all(done)

    def pending(self) -> int:
        """Steps that a backend has not acknowledged, in traces or metrics."""
        _, end = self._log.steps.bounds()
        reached = [channel.cursor.get("steps", 0) for channel in self._channels if channel.signal != LOGS]
        return int(end - min(reached, default=end))

    @property
    def dropped(self) -> int:
        """Records that the log had dropped, and items that the backend refused: they will not arrive."""
        return max(self._lost.records.values(), default=0) + self._lost.refused

    def stop(self) -> None:
        """Send no more; what is being sent is given up as soon as the SDK lets go of it."""
        self._is_stopped = True
        for channel in self._channels:
            channel.target.stop()

    def _drain(self, channel: _Channel, resource: Resource, final: bool, deadline: float | None) -> bool:
        if not final and time.monotonic() < channel.retry_at:
            return False
        for batch in channel.source.batches(channel.cursor, final):
            if self._is_stopped or (deadline is not None and time.monotonic() >= deadline):
                return False
            if batch.items and not self._send(channel, batch, resource):
                return False
            channel.cursor = batch.cursor
            self._lost.records[channel.signal] += batch.lost
            if batch.items:
                self._save()
        return True

    def _send(self, channel: _Channel, batch: Batch, resource: Resource) -> bool:
        """May the cursor move on?"""
        outcome = Outcome(False, reason="an error in sending")
        with guard.guarded(f"export of {channel.signal}"):  # another SDK version, an application's provider
            outcome = channel.target.send(batch.items, resource)
        if outcome.acknowledged:
            self._answered(channel)
            return True
        self.failures[channel.signal] += 1
        if outcome.refused:
            self._refused(channel, batch, outcome)
            return True
        if not self._is_stopped:
            self._did_not_answer(channel, outcome)
        return False

    def _did_not_answer(self, channel: _Channel, outcome: Outcome) -> None:
        if not any(other.attempts for other in self._channels):
            logger.warning(
                "otel_train cannot send to %s (%s). Training and recording go on and nothing is lost: sending is tried "
                "again, and what stays unsent is sent later by: otel-train push %s",
                channel.target.where,
                outcome.reason,
                self._log.run_id,
            )
        channel.pause()

    def _answered(self, channel: _Channel) -> None:
        if not channel.attempts:
            return
        channel.attempts, channel.retry_at = 0, 0.0
        if not any(other.attempts for other in self._channels):
            logger.info("otel_train reaches %s again; what had waited is being sent", channel.target.where)

    def _refused(self, channel: _Channel, batch: Batch, outcome: Outcome) -> None:
        self._lost.refused += len(batch.items)
        guard.warn_once(
            f"refused {channel.signal}",
            "%s refused %s that otel_train sent (%s). They stay in the run log; the rest is sent",
            channel.target.where,
            channel.signal,
            outcome.reason,
        )

    def _resource_of_run(self, final: bool) -> Resource | None:
        """The resource, the same from the first batch on; None while it is not complete yet."""
        if self._resource is None:
            identity = self._log.read_identity()
            is_young = time.time_ns() - self._log.anchor.unix_ns < DESCRIBED_WITHIN_NS
            if final or "hardware" in identity or not is_young:
                self._resource = make_resource(identity)
        return self._resource

    def _load(self) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(self._log.storage.read(CURSOR))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            guard.warn_once("cursor read", "%s of %s cannot be read (%s): all is sent", CURSOR, self._log.run_id, error)
            return {}
        return content if content.get("version") == CURSOR_VERSION else {}

    def _save(self) -> None:
        """Write the cursor when it moved. A signal that is not sent now keeps its place."""
        cursors = {channel.signal: channel.cursor for channel in self._channels}
        content = {**self._saved, **cursors, "version": CURSOR_VERSION}
        if content == self._saved:
            return
        self._saved, self._save_at = content, time.monotonic() + SAVE_EVERY_S
        try:
            self._log.storage.replace(CURSOR, json.dumps(content, separators=(",", ":")).encode())
        except OSError as error:
            guard.warn_once(
                "cursor write", "otel_train cannot note what was sent in %s (%s): a later push may send it again",
                self._log.storage.location, error,
            )  # fmt: skip


def _sources(log: RankLog) -> dict[str, Source]:
    settings = log.identity.get("settings", {})
    kept = settings.get("keep_every", "auto"), float(settings.get("slow_factor", 2.0))
    return {
        TRACES: TraceSource(log, *kept),
        METRICS: MetricSource(log, float(settings.get("metric_interval_s", 10.0)), *kept),
        LOGS: LogSource(log),
    }
