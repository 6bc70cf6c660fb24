"""The report of ``otel-train scaling``, on a terminal and as JSON."""

from dataclasses import asdict
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from otel_train.derive.lost_time import ALL_PARTS, DATA
from otel_train.derive.mean_step import IMBALANCE
from otel_train.derive.scaling import Doubling, Point, Scaling
from otel_train.derive.scaling_law import LAWS, Fit, Interval
from otel_train.report import text
from otel_train.report.as_json import without_nonfinite
from otel_train.report.sections import columns
from otel_train.report.terminal import WIDEST, print_plainly

SCHEMA_VERSION = 1

LEAST_S, LEAST_SHARE = 1e-9, 5e-4
"""What is less is not shown."""

PART_NAMES = {DATA: "waiting for data", IMBALANCE: "waiting for slower ranks"}
"""Parts whose word says too little in a sentence."""


def print_scaling(found: Scaling, console: Console) -> None:
    """Print the report."""
    parts = [Text(found.why, style="bold"), points(found), lost(found), law(found), _notes(found)]
    shown = [part for part in parts if part is not None]
    print_plainly(Group(*(line for part in shown for line in (part, ""))), console, min(console.width, WIDEST))


def points(found: Scaling) -> RenderableType:
    """A line for each world size; how far repeated runs spread."""
    table = columns(
        (f"{found.unit}/s", "right"), ("speed-up", "right"), ("efficiency", "right"), ("a step", "right"),
        ("ideal", "right"), ("overhead", "right"), ("in all", "right"), title="Ranks",
    )  # fmt: skip
    for index, point in enumerate(found.points):
        overhead = [_signed(point.overhead_s), _signed(point.overhead_s * point.steps)] if index else ["", ""]
        table.add_row(
            f"  {point.workers}", text.amount(point.rate), f"{point.speedup:.2f}", text.percent(point.efficiency),
            text.seconds(point.step_s), text.seconds(point.ideal_step_s), *overhead,
        )  # fmt: skip
    repeated = [f"{len(point.runs)} at {point.workers} (± {_spread(point):.1f} %)" for point in found.points
                if point.spread]  # fmt: skip
    return Group(table, Text(f"  runs of one size, pooled: {', '.join(repeated)}", style="dim")) if repeated else table


def lost(found: Scaling) -> RenderableType:
    """Where the overhead of each world size went, and the largest part of the largest run in words."""
    known = [part for part in ALL_PARTS if any(part in point.lost_s for point in found.points[1:])]
    table = columns(*((part, "right") for part in known), title="Lost, a step")
    for point in found.points[1:]:
        table.add_row(f"  {point.workers}", *(_signed(point.lost_s.get(part)) for part in known))
    return Group(table, Text(f"  {_most(found.points[-1])}"))


def law(found: Scaling) -> RenderableType | None:
    """The serial share, and what the next doubling would bring."""
    if found.law is None:
        return None
    lines = [f"Serial share  {_serial(found.law)}"]
    if found.law.serial_share.value > 1 + LEAST_SHARE:
        lines.append("  Above 100 %: more ranks were slower than fewer.")
    if found.law.serial_share.value < -LEAST_SHARE:
        lines.append(
            "  Below 0: more ranks did more than their share (caches, smaller steps), which no serial part does."
        )
    if found.doubling is None:
        lines.append(f"At {2 * found.points[-1].workers} ranks  the law, drawn on, has no work done at all")
    else:
        lines.append(f"At {found.doubling.workers} ranks  {_doubling(found.doubling, found)}")
    if found.law.residual is not None:
        lines.append("  In brackets: 95 % confidence, if the law holds and further runs spread like these.")
    return Text("\n".join(lines))


def scaling_as_dict(found: Scaling) -> dict[str, Any]:
    """The same as JSON; ``docs/scaling.md`` tells each key."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "kind": found.kind,
        "why": found.why,
        "unit": found.unit,
        "points": [_point(point) for point in found.points],
        "law": None if found.law is None else _law(found.law),
        "doubling": None if found.doubling is None else asdict(found.doubling),
        "notes": list(found.notes),
    }
    cleaned: dict[str, Any] = without_nonfinite(content)
    return cleaned


def _point(point: Point) -> dict[str, Any]:
    return {
        **asdict(point),
        "lost_s": {part: point.lost_s.get(part) for part in ALL_PARTS},
        "overhead_s": point.overhead_s,
        "time_s": point.time_s,
        "ideal_time_s": point.ideal_step_s * point.steps,
        "overhead_time_s": point.overhead_s * point.steps,
    }


def _law(fitted: Fit) -> dict[str, Any]:
    kept = ("law", "serial_share", "runs", "residual")
    return {"name": LAWS[fitted.law], **{key: value for key, value in asdict(fitted).items() if key in kept}}


def _spread(point: Point) -> float:
    """Half of what the fastest run does more than the slowest, in percent."""
    low, high = point.spread or (point.rate, point.rate)
    return (high - low) / 2 / point.rate * 100


def _signed(value: float | None) -> str:
    """A time that may be below 0; what is less than any clock shows is 0."""
    if value is None:
        return text.MISSING
    value = 0.0 if abs(value) < LEAST_S else value
    return f"-{text.seconds(-value)}" if value < 0 else text.seconds(value)


def _most(point: Point) -> str:
    if point.lost_most is None:
        return f"{point.workers} ranks lose nothing: they do {text.percent(point.efficiency)} of what would be ideal."
    part = PART_NAMES.get(point.lost_most, point.lost_most)
    return (
        f"{point.workers} ranks lose {text.seconds(point.overhead_s)} of a step's {text.seconds(point.step_s)}, most "
        f"of it to {part}: {text.seconds(point.lost_s[point.lost_most])}."
    )


def _serial(fitted: Fit) -> str:
    share, name = fitted.serial_share, LAWS[fitted.law]
    if share.low is None or share.high is None:
        return f"{text.percent(share.value)}, {name} from {fitted.runs} runs; a third would tell how sure that is"
    low, high = max(share.low, min(share.value, 0.0)), min(share.high, max(share.value, 1.0))  # no share lies beyond
    bounds, off = f"{low * 100:.1f} to {high * 100:.1f} %", text.percent(fitted.residual)
    return f"{text.percent(share.value)} ({bounds}), {name} from {fitted.runs} runs, which are {off} off it"


def _doubling(next_: Doubling, found: Scaling) -> str:
    last = found.points[-1]
    return (
        f"{_interval(next_.rate, text.amount)} {found.unit}/s, {next_.gain:.2f} times those of {last.workers}; "
        f"efficiency {_interval(next_.efficiency, text.percent)}"
    )


def _interval(interval: Interval, shown: Any) -> str:
    value: str = shown(interval.value)
    if interval.low is None and interval.high is None:
        return value
    low = "0" if interval.low is None else shown(max(interval.low, 0.0))
    high = f"to {shown(interval.high)}" if interval.high is not None else "or more"
    return f"{value} ({low} {high})"


def _notes(found: Scaling) -> RenderableType | None:
    return Text("\n".join(found.notes), style="dim") if found.notes else None
