"""The list of runs: one line each, without reading their records."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from otel_train.derive.acknowledged import unacknowledged_steps
from otel_train.derive.summary import overall_state
from otel_train.report import text
from otel_train.report.sections import STATE_STYLES, columns
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.runs import Run, state_of

KEYS = (
    "run_id",
    "service_name",
    "state",
    "ranks",
    "started_unix_s",
    "duration_s",
    "steps",
    "unacknowledged_steps",
    "path",
    "error",
)
"""Keys of a line; what is not known is None. ``steps`` is of the rank that took most, evaluation steps included."""

BESIDE_SERVICE = 72
"""Columns that the rest of a line takes."""


def run_line(run: Run) -> dict[str, Any]:
    """One run. Raises ``RunLogError`` and ``OSError`` when it cannot be read."""
    ranks = run.ranks()
    identity = ranks[0].read_identity()
    values = (
        run.id,
        identity.get("service_name"),
        overall_state(map(state_of, ranks)),
        len(ranks),
        run.started_unix_ns / 1e9,
        max(map(duration_s, ranks)),
        max(rank.steps.bounds()[1] for rank in ranks),
        _sum(map(unacknowledged_steps, ranks)),
        str(run.path),
        None,
    )
    return dict(zip(KEYS, values, strict=True))


def unreadable_line(run: Run, error: Exception) -> dict[str, Any]:
    """A run that cannot be read, and why."""
    return {**dict.fromkeys(KEYS), "run_id": run.id, "path": str(run.path), "error": str(error)}


def duration_s(rank: RankLog) -> float:
    """From the start of a rank's process to its end, or else to the end of its last step."""
    identity, anchor = rank.read_identity(), rank.anchor
    ended = identity.get("end", {}).get("unix_ns")
    if ended is None:
        _, end = rank.steps.bounds()
        last = [records[-1] for _, records in rank.steps.read(end - 1)] if end else []
        ended = anchor.to_unix_ns(last[-1]["start_ns"] + last[-1]["duration_ns"]) if last else anchor.unix_ns
    return float(max(ended - anchor.unix_ns, 0) / 1e9)


def listing(lines: Iterable[Mapping[str, Any]], width: int) -> RenderableType:
    """The lines as a table for a terminal so wide."""
    table = columns(
        ("service", "left"),
        ("state", "left"),
        ("started", "left"),
        ("time", "right"),
        ("steps", "right"),
        ("sent", "left"),
        title="Run",
    )
    table.columns[1].max_width = min(max(width - BESIDE_SERVICE, 8), 30)
    unreadable = []
    for line in lines:
        if line["error"]:
            unreadable.append(Text(f"{line['run_id']} cannot be read: {line['error']}", style="red"))
            continue
        ranks = f"{line['ranks']} × " if line["ranks"] > 1 else ""
        table.add_row(
            line["run_id"],
            line["service_name"] or text.MISSING,
            Text(line["state"], style=STATE_STYLES.get(line["state"], "")),
            text.moment(line["started_unix_s"])[5:16],
            text.about(line["duration_s"]),
            ranks + text.amount(line["steps"]),
            _sent(line["unacknowledged_steps"]),
        )
    return Group(*([table] if table.row_count else []), *unreadable)


def _sent(unacknowledged: int | None) -> str:
    if unacknowledged is None:
        return "no"
    return f"{text.amount(unacknowledged)} left" if unacknowledged else "all"


def _sum(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(count for count in known if count is not None)
