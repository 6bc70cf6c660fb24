"""The rules over a recorded run: what they would have said, or did."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from otel_train import names
from otel_train.alerts.engine import Change
from otel_train.alerts.rules import Rule
from otel_train.alerts.watch import Watch
from otel_train.alerts.window import TICK_S
from otel_train.runlog.ranklog import RankLog

GOING_ON = (names.CHECKPOINT, names.EVALUATION_KIND, names.COMPILATION)


@dataclass(frozen=True)
class Replayed:
    """A change, when it was on the rank's monotonic clock, and the step that had ended last."""

    change: Change
    time_ns: int
    step: int | None


def replay(log: RankLog, rules: list[Rule], tick_s: float = TICK_S) -> Iterator[Replayed]:
    """Judge a rank's log tick by tick, as a run that goes on is judged. About 1 ms a tick."""
    last_ns, now_ns = end_of(log), log.anchor.monotonic_ns
    disturbed = disturbances(log)

    def going_on() -> bool:
        index = int(np.searchsorted(disturbed[:, 0], now_ns, "right")) - 1
        return index >= 0 and now_ns < disturbed[index, 1]

    watch = Watch(log, rules, going_on)
    while now_ns < last_ns:
        now_ns = min(now_ns + int(tick_s * 1e9), last_ns)
        for change in watch.tick(now_ns):
            if not change.again:
                yield Replayed(change, now_ns, watch.window.step)


def disturbances(log: RankLog) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """When the training was in a checkpoint, an evaluation or a compilation: shape (n, 2), ns, in order.

    A run that goes on knows it at the time; the record has it when it is over. Compilations of any thread count: of the
    first backward it is autograd's, which the training thread waits for.
    """
    pairs = [
        (event.start_ns, event.end_ns)
        for event, _ in log.events()
        if event.kind in GOING_ON and event.duration_ns and (event.thread is None or event.kind == names.COMPILATION)
    ]
    ordered = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    ordered[:, 1] = np.maximum.accumulate(ordered[:, 1])
    return ordered


def end_of(log: RankLog) -> int:
    """When the log's last record, or the run itself, ended."""
    ends = [int(log.read_identity().get("end", {}).get("monotonic_ns", 0))]
    for reader, start, duration in ((log.steps, "start_ns", "duration_ns"), (log.scalars, "time_ns", None)):
        _, end = reader.bounds()
        for _, records in reader.read(max(end - 1, 0)):
            ends.append(int(records[-1][start]) + (int(records[-1][duration]) if duration else 0))
    ends += [event.end_ns for event, _ in log.events()]
    ends += [log.anchor.to_monotonic_ns(unix_s * 1e9) for unix_s, _, _ in log.resources()]
    return max(ends)
