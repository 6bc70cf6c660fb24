"""The figures of logged values and of resources over the run's time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource

from otel_train.derive.history import History, Thinned, thinner
from otel_train.report.page.frame import COLOURS, MOST_LINES, Frame, add_hover, add_legend, literal, single
from otel_train.report.page.step_figures import VSTACK_RANKS, chosen
from otel_train.report.panels import PANELS, Panel, fits, which_of

MOST_SCALARS = 12

ALL_POINTS = 12_000
"""That all logged values have together, and all resources: a page of at most 3 MB has room for these."""


def logged(frame: Frame, histories: Sequence[History]) -> dict[str, Any]:
    """A figure for each of the first ``MOST_SCALARS`` logged values that has a finite one."""
    ranks = chosen(histories) or list(histories)[:MOST_LINES]
    names = list(dict.fromkeys(name for each in ranks for name in each.scalars))[:MOST_SCALARS]
    points = ALL_POINTS // max(len(names) * len(ranks), 1)
    return {name: _logged(frame, ranks, name, points) for name in names}


def not_drawn(histories: Sequence[History]) -> int:
    """How many logged values have no figure."""
    return max(len({name for each in histories for name in each.scalars}) - MOST_SCALARS, 0)


def _logged(frame: Frame, ranks: Sequence[History], name: str, points: int) -> Any:
    shown = frame.over_time(200, "", from_zero=False)
    items, lines = [], []
    for number, each in enumerate(ranks):
        if name in each.scalars:
            label = f"rank {each.rank}"
            drawn = _line(frame, shown, thinner(each.scalars[name], points), 1.0, COLOURS[number], label)
            frame.toggles[label] += drawn
            items.append((label, drawn))
            lines.append(drawn[0])
    tips = [("", "@mean{0.[00000]a}"), ("at", "@x{%H:%M:%S}")]
    add_hover(shown, lines, tips if len(items) == 1 else [("", "$name"), *tips], _mode(lines))
    add_legend(shown, items if len(items) > 1 else [])
    return shown


def resources(frame: Frame, histories: Sequence[History], panel: Panel) -> tuple[Any, int] | None:
    """A panel with its lines, and how many more there would be; None where nothing of it was sampled."""
    found = [
        (each, line, key, series)
        for each in histories for line in panel.lines
        for key, series in _matching(each, line) if np.isfinite(series.mean).any()
    ]  # fmt: skip
    if not found:
        return None
    shown = frame.over_time(220, "", panel.top * 1.04 if panel.top else None)
    items, lines, labels = [], [], _labels(found)
    points = ALL_POINTS // len(PANELS) // min(len(found), MOST_LINES)
    for number, (each, line, _, series) in enumerate(found[:MOST_LINES]):
        drawn = _line(frame, shown, thinner(series, points), 1 / line.divisor, COLOURS[number], labels[number])
        frame.followers[f"rank {each.rank}"] += drawn
        items.append((labels[number], drawn))
        lines.append(drawn[0])
    add_hover(shown, lines, [("", "$name"), ("", "@mean{0,0.00}"), ("at", "@x{%H:%M:%S}")], _mode(lines))
    add_legend(shown, items)
    return shown, max(len(found) - MOST_LINES, 0)


def _matching(each: History, line: Any) -> list[tuple[Any, Thinned]]:
    """The series of a line; of several disks or interfaces those that do something."""
    found = [(key, series) for key, series in each.resources.items() if fits(key, line)]
    busy = [(key, series) for key, series in found if np.nanmax(series.highest, initial=0.0) > 0]
    return found if len(found) == 1 else busy


def _labels(found: Sequence[Any]) -> list[str]:
    """What tells each from the others: its rank only where several ranks have such a line."""
    labels = []
    for each, line, key, _ in found:
        alike = [other for other, one, _, _ in found if one is line]
        ranked = any(other is not each for other in alike)
        several = sum(other is each for other in alike) > 1
        parts = (f"rank {each.rank}" if ranked else "", line.label, which_of(key, line) if several else "")
        labels.append(" ".join(part for part in parts if part))
    return labels


def _line(frame: Frame, shown: Any, series: Thinned, factor: float, colour: str, label: str) -> list[Any]:
    """The mean, and where a point stands for several values a band from the lowest to the highest."""
    columns = {"x": frame.moments(series.unix_s), "mean": single(series.mean * factor)}
    if series.each > 1:
        columns |= {"lowest": single(series.lowest * factor), "highest": single(series.highest * factor)}
    source = ColumnDataSource(columns)
    drawn = [shown.line("x", "mean", source=source, color=colour, line_width=1.3, name=literal(label))]
    if series.each > 1:
        drawn.append(shown.varea("x", "lowest", "highest", source=source, color=colour, fill_alpha=0.22))
    if len(series.mean) == 1:
        drawn.append(shown.scatter("x", "mean", source=source, color=colour, size=5))
    return drawn


def _mode(lines: Sequence[Any]) -> str:
    return "vline" if len(lines) <= VSTACK_RANKS else "mouse"
