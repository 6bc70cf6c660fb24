"""The figures of phases: over the run, and of the ranks side by side."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource

from otel_train.derive.measures import StepTime
from otel_train.derive.phases import OTHER
from otel_train.derive.stretches import Stretches
from otel_train.derive.summary import RunSummary, Summary
from otel_train.report.page.frame import COLOURS, INK, MOST_LINES, Frame, add_hover, add_legend, plain, single
from otel_train.report.page.step_figures import small, top_of, unit_of

PHASE_COLOURS = {
    "data_wait": "#d9484d", "forward": "#2f80d0", "backward": "#8f6bd8", "optimizer": "#2f9e54",
    "gradient_clipping": "#8a8420", "host_to_device": "#d9730d", "collective": "#0f98a6", OTHER: "#9a9da3",
}  # fmt: skip
"""The same phase has the same colour everywhere; others take the next free one."""

MOST_PHASES = 12
"""Drawn by themselves; the shorter ones are one."""

MOST_POINTS = 600

LONGEST_NAME = 32


def phases(frame: Frame, one: Stretches, times: StepTime) -> Any:
    """The phases of a rank's mean step, one upon another."""
    unit, factor = unit_of(times.p50_s)
    shown = frame.over_time(260, unit, top_of(times) * factor)
    columns: dict[str, Any] = {"x": _means(frame.moments(one.unix_s)), "first": small(_firsts(one.first_step))}
    bottom, items, tips = np.zeros(len(columns["x"])), [], [("step", "@first{0,0}")]
    columns["to0"] = single(bottom)
    drawn = together({name: _means(seconds) for name, seconds in one.phases_s.items()})
    for number, (name, seconds) in enumerate(drawn.items(), 1):
        bottom = bottom + seconds * factor
        columns[f"own{number}"], columns[f"to{number}"] = single(seconds * factor), single(bottom)
        tips.append((shown_name(name), f"@own{number}{{0.00}} {unit}"))
    source, colours = ColumnDataSource(columns), colours_of(drawn)
    for number, name in enumerate(drawn, 1):
        area = shown.varea("x", f"to{number - 1}", f"to{number}", source=source, color=colours[name], fill_alpha=0.75)
        items.append((shown_name(name), [area]))
    top = shown.line("x", f"to{len(drawn)}", source=source, color=INK, line_width=0.7)
    add_hover(shown, [top], tips, "vline")
    add_legend(shown, items)
    return shown


def _firsts(values: Any) -> Any:
    return values[:: -(-len(values) // MOST_POINTS)]


def _means(values: Any) -> Any:
    """Of at most ``MOST_POINTS`` stretches; each holds equally many points, but for the last."""
    firsts = np.arange(0, len(values), -(-len(values) // MOST_POINTS))
    return np.add.reduceat(values, firsts) / np.diff(np.append(firsts, len(values)))


def together(found: Mapping[str, Any]) -> dict[str, Any]:
    """At most ``MOST_PHASES``: of more the shortest ones are added up. ``other`` stays the last."""
    named = {name: values for name, values in found.items() if name != OTHER}
    if len(named) <= MOST_PHASES:
        return dict(found)
    ordered = sorted(named, key=lambda name: -float(np.sum(named[name])))
    kept = {name: named[name] for name in ordered[: MOST_PHASES - 1]}
    rest = [named[name] for name in ordered[MOST_PHASES - 1 :]]
    kept[f"{len(rest)} shorter phases"] = np.sum(rest, axis=0)
    return kept | ({OTHER: found[OTHER]} if OTHER in found else {})


def colours_of(names: Iterable[str]) -> dict[str, str]:
    """A colour for each phase: its own, or one that no other has."""
    free = [colour for colour in COLOURS if colour not in PHASE_COLOURS.values()]
    strangers = [name for name in names if name not in PHASE_COLOURS]
    return PHASE_COLOURS | {name: free[number % len(free)] for number, name in enumerate(strangers)}


def shown_name(name: str) -> str:
    """Of a phase, short enough for a legend."""
    return "in no phase" if name == OTHER else name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def ranks_side_by_side(run: RunSummary) -> Any | None:
    """The mean step of each rank by its phases; None for one rank. Of many ranks the slowest and the fastest."""
    with_steps = sorted((each for each in run.ranks if each.step_time), key=_p50_s)
    if len(with_steps) < 2:
        return None
    if len(with_steps) > 2 * MOST_LINES:
        with_steps = with_steps[:MOST_LINES] + with_steps[-MOST_LINES:]
    unit, factor = unit_of(_p50_s(with_steps[0]))
    drawn = sorted(with_steps, key=lambda each: -each.ranks[0])
    shown = plain(60 + 26 * len(drawn), "", y_range=[f"rank {each.ranks[0]}" for each in drawn], x_axis_label=unit)
    by_phase = _by_phase(drawn)
    columns: dict[str, Any] = {"y": list(shown.y_range.factors), "to0": np.zeros(len(drawn))}
    tips = [("", "@y")]
    for number, (name, seconds) in enumerate(by_phase.items(), 1):
        columns[f"own{number}"] = seconds * factor
        columns[f"to{number}"] = columns[f"to{number - 1}"] + seconds * factor
        tips.append((shown_name(name), f"@own{number}{{0.00}} {unit}"))
    source, colours = ColumnDataSource(columns), colours_of(by_phase)
    bars = [
        shown.hbar("y", 0.75, f"to{number}", f"to{number - 1}", source=source, color=colours[name], fill_alpha=0.75,
                   line_width=0)
        for number, name in enumerate(by_phase, 1)
    ]  # fmt: skip
    add_hover(shown, bars, tips)
    add_legend(shown, [(shown_name(name), [bar]) for name, bar in zip(by_phase, bars, strict=True)])
    shown.x_range.start, shown.ygrid.grid_line_color = 0, None
    return shown


def _by_phase(drawn: Sequence[Summary]) -> dict[str, Any]:
    """Of each phase what a mean step of each rank spends in it, s; ``other`` is the last."""
    own = [{phase.name: phase.per_step_s for phase in each.phases if phase.depth == 0} for each in drawn]
    names = [*dict.fromkeys(name for each in own for name in each if name != OTHER), OTHER]
    return together({name: np.array([each.get(name, 0.0) for each in own]) for name in names})


def _p50_s(summary: Summary) -> float:
    return summary.step_time.p50_s if summary.step_time else 0.0
