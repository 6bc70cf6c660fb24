"""What trackers are told, worked out from the record and nothing else: a row for each interval, and the run's summary.

Every value is a measure of ``derive/catalogue.py`` under the name ``otel_train/…``, its dots as slashes; those of the
whole run are under ``otel_train/run/…``. What a script gives to ``log()`` is not among them: it logs that by itself.
"""

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from otel_train import names
from otel_train.clock import Anchor
from otel_train.derive import catalogue
from otel_train.derive.scan import RankScan
from otel_train.derive.slices import Place, Slice, cut, scan_slice
from otel_train.derive.summary import RunSummary, Summary, summarize
from otel_train.resource_names import GPU_MEMORY_UTILIZATION, HW_POWER, HW_TEMPERATURE, PROCESS_MEMORY_USAGE
from otel_train.runlog.events import Event
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.resources import Headers

PREFIX = "otel_train"
RUN = "run"
ALERT = "alert"
OVERHEAD_SHARE = "overhead.share"
STEP = f"{PREFIX}/step"
"""Where a tracker's own step is not the training's, the training's step goes by this name."""

LIVE = (
    *("steps_per_second", "samples_per_second", "tokens_per_second"),
    *("step_time.mean", "step_time.p50", "step_time.p95", "step_time.p99", "step_time.max"),
    *("data_wait.share", "data_wait.starved_share", "packing_efficiency", "gpu_utilization", "gpu_memory.peak"),
    *("checkpoint.time", "checkpoint.blocking_time", "checkpoint.rate"),
)
"""Measures that an interval has by itself."""

LIVE_RESOURCES = (
    (GPU_MEMORY_UTILIZATION, "mean"),
    (HW_POWER, "mean"),
    (HW_TEMPERATURE, "max"),
    (PROCESS_MEMORY_USAGE, "max"),
)
"""Of all GPUs that the rank sees."""

LONGEST_PART = 80
"""Of a name's part that the user chose: MLflow takes 250 characters in all."""


MOST_RECORDED = 1000
"""Rows of a record that is told when it is over: those of a long run stand for longer intervals."""


BEGINNING = Place()


@dataclass(frozen=True)
class Alert:
    """An alert that began, or is over."""

    unix_ns: int
    rule: str
    severity: str
    fires: bool
    text: str


@dataclass(frozen=True)
class Row:
    """An interval that is over: finite values by name, at the number of its last training step."""

    step: int
    unix_ns: int
    values: dict[str, float]
    alerts: tuple[Alert, ...] = ()


@dataclass(frozen=True)
class Reached:
    """How far the record has been told. A row that could not be written is made again from the same place."""

    time_ns: int
    place: Place = BEGINNING
    step: int = 0
    stepping_s: float = 0.0
    """Inside the steps so far: what the overhead is a share of."""


@dataclass(frozen=True)
class Closing:
    """The whole run, as far as it is recorded."""

    run_id: str
    step: int
    unix_ns: int
    values: dict[str, float]
    sentence: str
    """What bounds the run."""
    caveats: tuple[str, ...] = field(default=())


def row_until(log: RankLog, reached: Reached, end_ns: int, headers: Headers | None = None) -> tuple[Row, Reached]:
    """What happened since then, until ``end_ns``. Without values and alerts there is nothing to tell. About 3 ms."""
    part = cut(log, reached.place, end_ns, headers)
    scan = scan_slice(part)
    summary = summarize([scan])
    step = reached.step if scan.steps.last_step is None else scan.steps.last_step
    stepping_s = reached.stepping_s + (summary.span.stepping_s if summary.span else 0.0)
    alerts = tuple(_alert(event, part.anchor) for event, _ in part.events_inside if event.kind == names.ALERT)
    values = _live_values(summary, stepping_s, alerts)
    row = Row(step, _dated(part, scan, end_ns), values, alerts)
    return row, Reached(end_ns, part.end, step, stepping_s)


def next_end_ns(log: RankLog, reached: Reached, every_s: float, until_ns: int, most: int) -> int:
    """When the interval ends that is to be told next: whole numbers of ``every_s`` from the record's beginning on.

    Of several times that, where it would take more than ``most`` rows to tell all until ``until_ns``: a ``most``-th of
    what is left. So n intervals take ``most * (1 + ln(n / most))`` rows.
    """
    origin_ns, every_ns = log.anchor.monotonic_ns, int(every_s * 1e9)
    behind = max(until_ns - reached.time_ns, 0) // every_ns
    every_ns *= -(-max(behind, 1) // most)
    return origin_ns + ((reached.time_ns - origin_ns) // every_ns + 1) * every_ns


def skip(log: RankLog, reached: Reached, end_ns: int, headers: Headers | None = None) -> Reached:
    """Leave out what happened until then."""
    return row_until(log, reached, end_ns, headers)[1]


def closing_of(run: RunSummary) -> Closing:
    """The whole run in the catalogue's measures."""
    known = [name for name in catalogue.names() if "<" not in name]
    values = {tracked(RUN, *name.split(".")): catalogue.find(name).of(run) for name in known}
    for phase in dict.fromkeys(phase.name for phase in run.merged.phases):
        for what in ("share", "time"):
            values[tracked(RUN, "phase", phase, what)] = catalogue.find(f"phase.{phase}.{what}").of(run)
    for rule in run.merged.alerts:
        values[tracked(RUN, ALERT, rule)] = catalogue.find(f"alert.{rule}").of(run)
    verdict, span = run.merged.verdict, run.merged.span
    ended_s = span.last_unix_s if span else run.started_unix_s
    return Closing(
        run.run_id, run.merged.counts.last_step or 0, int(ended_s * 1e9), finite(values), verdict.sentence,
        verdict.caveats,
    )  # fmt: skip


def tracked(*parts: str) -> str:
    """The name of a measure in a tracker. Parts keep letters, digits, ``_``, ``-``, ``.`` and spaces, which MLflow
    takes; another character becomes ``_`` and its number, and a long part ends in a hash of it."""
    return "/".join((PREFIX, *map(_part, parts)))


def _part(text: str) -> str:
    clean = re.sub(r"[^A-Za-z0-9_\-. ]|^\.+$", lambda match: f"_{ord(match[0][0]):x}", text) or "_"
    if len(clean) > LONGEST_PART:
        return f"{clean[: LONGEST_PART - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return clean


def finite(values: dict[str, float | None]) -> dict[str, float]:
    """Those that are known, and numbers."""
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}


def _live_values(summary: Summary, stepping_s: float, alerts: tuple[Alert, ...]) -> dict[str, float]:
    run = RunSummary("", "", {}, {}, summary, ())
    values = {tracked(*name.split(".")): catalogue.find(name).of(run) for name in LIVE}
    for phase in dict.fromkeys(phase.name for phase in summary.phases):
        values[tracked("phase", phase, "share")] = catalogue.find(f"phase.{phase}.share").of(run)
    for metric, what in LIVE_RESOURCES:
        values[tracked("resource", metric, what)] = catalogue.find(f"resource.{metric}.{what}").of(run)
    if summary.overhead_s is not None and stepping_s:  # a running total: of all steps so far, as the catalogue has it
        values[tracked(*OVERHEAD_SHARE.split("."))] = summary.overhead_s / stepping_s
    values |= {tracked(ALERT, alert.rule): float(alert.fires) for alert in alerts}
    return finite(values)


def _alert(event: Event, anchor: Anchor) -> Alert:
    told = event.attributes
    return Alert(
        anchor.to_unix_ns(event.start_ns),
        str(told.get(names.ALERT_RULE, "?")),
        str(told.get(names.ALERT_SEVERITY, "")),
        told.get(names.ALERT_STATE) != names.RESOLVED,
        " ".join(str(told[name]) for name in (names.ALERT_SUMMARY, names.ALERT_ADVICE) if told.get(name)),
    )


def _dated(part: Slice, scan: RankScan, end_ns: int) -> int:
    """When the interval was over, in Unix ns; an interval that the record's end cut short, with its last record."""
    bounds = scan.steps.bounds_ns
    moments = [bounds[1]] if bounds else []
    moments += [event.end_ns for event, _ in part.events_inside]
    return part.anchor.to_unix_ns(min(max(moments, default=end_ns), end_ns))


def rows_of(log: RankLog, every_s: float, end_ns: int) -> Iterator[Row]:
    """The rows of a record that is over, at most about ``MOST_RECORDED``."""
    reached, headers = Reached(log.anchor.monotonic_ns), dict[int, Any]()
    every_s = max(every_s, (end_ns - reached.time_ns) / 1e9 / MOST_RECORDED)
    while reached.time_ns < end_ns:
        next_ns = next_end_ns(log, reached, every_s, end_ns, MOST_RECORDED + 1)
        row, reached = row_until(log, reached, min(next_ns, end_ns), headers)
        if row.values:
            yield row


__all__ = ["Alert", "Closing", "Reached", "Row", "closing_of", "next_end_ns", "row_until", "rows_of", "skip", "tracked"]
