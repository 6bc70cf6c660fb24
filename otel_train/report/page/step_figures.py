"""The figures of steps: their time, its distribution, throughput, the wait for data."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, Span

from otel_train.derive.distribution import LOGARITHMIC, Distribution
from otel_train.derive.history import History, Mark
from otel_train.derive.measures import StepTime
from otel_train.derive.stretches import Stretches
from otel_train.report.page.frame import (
    COLOURS,
    INK,
    MARK_NAMES,
    MOST_LINES,
    Frame,
    add_hover,
    add_legend,
    plain,
    single,
)

CUT = 2.0
"""Where the slowest step takes so many times the 99th percentile, the axis ends above that percentile."""

VSTACK_RANKS = 4
"""So many ranks' values fit into what the pointer says at one time."""


def unit_of(seconds: float) -> tuple[str, float]:
    """The unit in which such times are drawn, and what seconds are multiplied with."""
    return ("s", 1.0) if seconds >= 1 else ("ms", 1e3) if seconds >= 1e-3 else ("µs", 1e6)


def top_of(times: StepTime) -> float:
    """Where the axis of step times ends, s: lone slow steps do not flatten all others."""
    return times.p99_s * 1.5 if times.max_s > CUT * times.p99_s else times.max_s * 1.08


def chosen(histories: Sequence[History]) -> list[History]:
    """The ranks that are drawn in colours: all, or from the fastest to the slowest at equal distances."""
    stepping = [each for each in histories if each.steps]
    if len(stepping) <= MOST_LINES:
        return stepping
    ordered = sorted(stepping, key=lambda each: float(np.median(each.steps.median_s)) if each.steps else 0.0)
    at = np.linspace(0, len(ordered) - 1, MOST_LINES).round().astype(int)
    return sorted((ordered[index] for index in at.tolist()), key=lambda each: each.rank)


def step_time(frame: Frame, histories: Sequence[History], times: StepTime, marks: Sequence[Mark]) -> Any:
    """Every step, or the median, lowest and highest of each stretch, by rank; what is above the axis has a triangle."""
    unit, factor = unit_of(times.p50_s)
    top = top_of(times) * factor
    shown = frame.over_time(320, unit, top, marks)
    coloured, items, lines = chosen(histories), [], []
    rest = [each.steps for each in histories if each.steps and each not in coloured]
    if rest:
        others = shown.multi_line(
            [frame.moments(one.unix_s) for one in rest], [single(one.highest_s * factor) for one in rest],
            color=INK, alpha=0.4, line_width=0.8,
        )  # fmt: skip
        items.append((f"{len(rest)} more ranks, slowest steps", [others]))
    for number, each in enumerate(coloured):
        if each.steps is None:
            continue
        source, colour = _source(frame, each.steps, factor, top), COLOURS[number]
        drawn = [shown.line("x", "median", source=source, color=colour, line_width=1.3, name=f"rank {each.rank}")]
        lines += drawn
        if each.steps.steps_each > 1:
            drawn.append(shown.varea("x", "lowest", "highest", source=source, color=colour, fill_alpha=0.22))
        if (each.steps.highest_s * factor > top).any():
            drawn.append(shown.scatter("x", "above", source=source, color=colour, marker="triangle", size=9))
            drawn[-1].name, lines = drawn[0].name, [*lines, drawn[-1]]
        frame.toggles[f"rank {each.rank}"] += drawn
        items.append((f"rank {each.rank}", drawn))
    tips = [
        ("", "$name"), ("steps", "@first{0,0} to @last{0,0}"), ("median", f"@median{{0.00}} {unit}"),
        ("slowest", f"@highest{{0.00}} {unit}, step @worst{{0,0}}"), ("at", "@x{%H:%M:%S.%3N}"),
    ]  # fmt: skip
    if coloured and coloured[0].steps and coloured[0].steps.steps_each == 1:
        tips = [("", "$name"), ("step", "@first{0,0}"), ("time", f"@median{{0.00}} {unit}"), tips[-1]]
    add_hover(shown, lines, tips, "vline" if len(coloured) <= VSTACK_RANKS else "mouse")
    for kind, name in MARK_NAMES.items():
        if any(mark.kind == kind for mark in marks):
            items.append((name, frame.toggles[kind][-1:]))
    add_legend(shown, items)
    return shown


def _source(frame: Frame, one: Stretches, factor: float, top: float) -> ColumnDataSource:
    highest = one.highest_s * factor
    columns = {
        "x": frame.moments(one.unix_s), "median": single(one.median_s * factor), "first": one.first_step,
    }  # fmt: skip
    if one.steps_each > 1:
        columns |= {"lowest": single(one.lowest_s * factor), "highest": single(highest)}
        columns |= {"worst": one.highest_step, "last": one.last_step}
    if (highest > top).any():
        columns["above"] = single(np.where(highest > top, top * 0.97, np.nan))
    return ColumnDataSource({name: small(values) for name, values in columns.items()})


def small(values: Any) -> Any:
    """Step numbers as 32 bits: browsers know no 64-bit integers."""
    fits = values.dtype.kind == "i" and values.max(initial=0) < 2**31
    return values.astype(np.int32) if fits else values.astype(np.float64) if values.dtype.kind == "i" else values


def above(histories: Sequence[History], times: StepTime) -> int:
    """How many points have a step above the axis."""
    top = top_of(times)
    return sum(int(np.count_nonzero(each.steps.highest_s > top)) for each in histories if each.steps)


def distribution(found: Distribution, times: StepTime) -> Any:
    """How many steps take how long, of all ranks, with the median and two percentiles."""
    unit, factor = unit_of(times.p50_s)
    edges = np.array(found.edges_s) * factor
    if len(edges) == 2 and edges[0] == edges[1]:
        edges = edges * (0.99, 1.01)  # steps that all take as long need a bar that can be seen
    scale = "log" if found.scale == LOGARITHMIC else "linear"
    source = ColumnDataSource({"left": edges[:-1], "right": edges[1:], "steps": found.counts})
    shown = plain(240, "steps", x_axis_label=unit, x_axis_type=scale)
    if scale == "log":
        shown.xaxis.ticker.mantissas = [1, 2, 5]
    bars = shown.quad("left", "right", "steps", 0, source=source, color=COLOURS[0], fill_alpha=0.7, line_width=0)
    tips = [("steps", "@steps{0,0}"), ("from", f"@left{{0.00}} {unit}"), ("to", f"@right{{0.00}} {unit}")]
    add_hover(shown, [bars], tips)
    for value, dash in ((times.p50_s, "solid"), (times.p95_s, "dashed"), (times.p99_s, "dotted")):
        shown.add_layout(Span(location=value * factor, dimension="height", line_color=COLOURS[1], line_dash=dash))
    shown.y_range.start = 0
    return shown


def throughput(frame: Frame, histories: Sequence[History]) -> Any:
    """Of each rank, over stretches of the run, with what passed between steps."""
    drawn = chosen(histories)
    units = sorted({each.steps.rates.unit for each in drawn if each.steps})
    shown = frame.over_time(220, f"{' or '.join(units)} a second")
    _rank_lines(
        frame, shown, drawn,
        [(each.steps.rates.unix_s, each.steps.rates.rate) for each in drawn if each.steps], "{0,0.0}/s",
    )  # fmt: skip
    return shown


def data_wait(frame: Frame, histories: Sequence[History]) -> Any | None:
    """The part of the step time that each rank waited for data; None where no wait is recorded."""
    drawn = [each for each in chosen(histories) if each.steps and not np.isnan(each.steps.wait_share).all()]
    if not drawn:
        return None
    shown = frame.over_time(200, "% of the step time", 102)
    values = [(each.steps.unix_s, each.steps.wait_share * 100) for each in drawn if each.steps]
    _rank_lines(frame, shown, drawn, values, "{0.0} %")
    return shown


def _rank_lines(
    frame: Frame, shown: Any, drawn: Sequence[History], values: Sequence[tuple[Any, Any]], tip: str
) -> None:
    items, lines = [], []
    for number, (each, (unix_s, one)) in enumerate(zip(drawn, values, strict=True)):
        source = ColumnDataSource({"x": frame.moments(unix_s), "y": single(one)})
        line = shown.line("x", "y", source=source, color=COLOURS[number], line_width=1.3, name=f"rank {each.rank}")
        frame.toggles[f"rank {each.rank}"].append(line)
        lines.append(line)
        items.append((f"rank {each.rank}", [line]))
    tips = [("", "$name"), ("", "@y" + tip), ("at", "@x{%H:%M:%S}")]
    add_hover(shown, lines, tips, "vline" if len(drawn) <= VSTACK_RANKS else "mouse")
    add_legend(shown, items if len(items) > 1 else [])
