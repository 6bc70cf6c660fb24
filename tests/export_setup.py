"""What the tests of the exporter share: exporters of built logs, and a short way to their results."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from log_builder import MS, SECOND, LogBuilder
from otlp_receiver import OtlpReceiver, attributes

from otel_train.export import Exporter, Targets, make_targets
from otel_train.export.targets import Outcome
from otel_train.runlog.ranklog import RankLog

PHASES = [("data_wait", 0, 1 * MS), ("forward", 2 * MS, 3 * MS), ("backward", 5 * MS, 4 * MS)]


def environment(receiver: OtlpReceiver, **more: str) -> dict[str, str]:
    """The variables that point to a receiver."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, **more}


def exporter_of(log: RankLog, receiver: OtlpReceiver, timeout_s: float | None = None, **environ: str) -> Exporter:
    """An exporter as a process would begin with: state comes from the log alone."""
    exporter = Exporter(log, make_targets(log.identity, environ=environment(receiver, **environ), timeout_s=timeout_s))
    assert exporter.acquire()
    return exporter


@contextlib.contextmanager
def sent(log: RankLog, **environ: str) -> Iterator[OtlpReceiver]:
    """A receiver with everything that the log holds."""
    with OtlpReceiver() as receiver:
        exporter = exporter_of(log, receiver, **environ)
        assert exporter.drain(final=True)
        exporter.release()
        yield receiver


class Recording:
    """A target that keeps what it acknowledges, and fails when its script says so: for orders that a socket hides."""

    where = "a recording"

    def __init__(self, refusals: Iterator[bool] | None = None) -> None:
        self.items: list[Any] = []
        self.batches = 0
        self._fails = refusals or iter(())

    def send(self, batch: Any, resource: Any) -> Outcome:
        if next(self._fails, False):
            return Outcome(False, reason="as the test wants")
        self.items += batch
        self.batches += 1
        return Outcome(True)

    def stop(self) -> None:
        """Nothing to stop."""


def recorded(log: RankLog) -> Targets:
    """Everything of a log in one go, as the plain data that targets get."""
    targets = Targets(Recording(), Recording(), Recording())
    assert Exporter(log, targets).drain(final=True)
    return targets


def named(spans: list[Any], name: str) -> list[Any]:
    """The spans of a name."""
    return [span for span in spans if span.name == name]


def counts(receiver: OtlpReceiver, name: str) -> Counter[tuple[tuple[str, Any], ...]]:
    """The last cumulative value of each series of a sum."""
    last: Counter[tuple[tuple[str, Any], ...]] = Counter()
    for point in receiver.points(name):
        last[tuple(sorted(attributes(point).items()))] = point.as_int or point.as_double
    return last


def run_of(builder: LogBuilder, steps: int, step_ns: int = 10 * MS, **fields: Any) -> LogBuilder:
    """Record equal steps with phases."""
    start = builder.steps.total
    for number in range(start, start + steps):
        builder.step(number, step_ns, PHASES, **fields)
    return builder


__all__ = ["MS", "PHASES", "SECOND", "LogBuilder", "OtlpReceiver", "attributes"]
