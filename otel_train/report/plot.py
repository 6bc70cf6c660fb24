"""A picture of a run: throughput, steps, GPU, host, disk and network over time, with alerts and checkpoints."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from otel_train.derive.timeline import NOT_DRAWN, Timeline
from otel_train.errors import OtelTrainError
from otel_train.report.panels import PANELS, Panel, fits, which_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PHASE_COLOURS = {
    "data_wait": "#d62728", "forward": "#1f77b4", "backward": "#17447a", "optimizer": "#2ca02c",
    "gradient_clipping": "#bcbd22", "host_to_device": "#ff7f0e", "collective": "#9467bd", NOT_DRAWN: "#d0d0d0",
}  # fmt: skip
"""The same phase has the same colour on every picture; others take the next free one."""

MOST_LINES = 16
"""Ranks or runs drawn, and lines a panel; more would be one colour twice, and the legend says how many are left out."""

LEGEND = "green bands: checkpoints; blue bands: evaluations; dashed red: an alert fires; dashed green: it is over"

INCHES = 11.0
PANEL_INCHES = 1.9


@dataclass(frozen=True)
class Drawn:
    """One rank of one run, and how the legend calls it."""

    label: str
    timeline: Timeline


def draw(drawn: Sequence[Drawn], title: str, path: Path) -> None:
    """Write the picture; its format is the path's ending: ``.png``, ``.svg``, ``.pdf``. Raises ``OtelTrainError``."""
    left_out = len(drawn) - MOST_LINES
    drawn = drawn[:MOST_LINES]
    shown = [panel for panel in PANELS if _is_sampled(panel, drawn)]
    panels: list[Callable[[Axes], None]] = [partial(_throughput, drawn=drawn), partial(_steps, drawn=drawn)]
    panels += [partial(_resources, drawn=drawn, panel=panel) for panel in shown]
    figure = new_figure(INCHES, PANEL_INCHES * len(panels) + 0.8)
    from matplotlib.ticker import MultipleLocator

    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    last_s = max(float(each.timeline.edges_s[-1]) for each in drawn)
    unit, divisor = _time_unit(last_s)
    for one, panel_of in zip(axes, panels, strict=True):
        panel_of(one)
        _mark(one, drawn)
        one.set_ylim(bottom=0)
        one.grid(alpha=0.25)
        one.xaxis.set_major_locator(MultipleLocator(divisor * _tick(last_s / divisor)))
        one.xaxis.set_major_formatter(lambda seconds, _: f"{seconds / divisor:g}")
        if one.get_legend_handles_labels()[0]:
            one.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small", frameon=False)
    _name_alerts(axes[0], drawn)
    axes[-1].set_xlabel(f"{unit} since the run began")
    axes[-1].set_xlim(0, last_s)
    note = f" ({left_out} more are not drawn)" if left_out > 0 else ""
    figure.suptitle(title + note, x=0.01, ha="left", fontsize="medium")
    figure.supxlabel(LEGEND, x=0.01, ha="left", fontsize="x-small", color="dimgray")
    figure.savefig(path, dpi=130)


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of so many inches, with no window behind it. Raises ``OtelTrainError`` without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        message = f"a picture needs matplotlib ({error}). Type: pip install 'otel-train[plot]'"
        raise OtelTrainError(message) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _is_sampled(panel: Panel, drawn: Sequence[Drawn]) -> bool:
    return any(fits(key, line) for each in drawn for key in each.timeline.resources for line in panel.lines)


def _throughput(axes: "Axes", drawn: Sequence[Drawn]) -> None:
    for each in drawn:
        axes.step(each.timeline.middles_s, each.timeline.rate, where="mid", linewidth=1, label=_named(each, drawn))
    units = {each.timeline.rate_unit for each in drawn}
    axes.set_title(f"throughput, {' or '.join(sorted(units))} a second", loc="left", fontsize="small")


def _steps(axes: "Axes", drawn: Sequence[Drawn]) -> None:
    """Of one rank its phases, one upon another; of several their median steps."""
    axes.set_title("step, ms", loc="left", fontsize="small")
    if len(drawn) > 1:
        for each in drawn:
            axes.plot(each.timeline.middles_s, each.timeline.step_s * 1e3, linewidth=1, label=each.label)
        return
    line = drawn[0].timeline
    if not line.phases_s:
        return
    bottom = np.zeros(len(line.middles_s))
    for name, seconds in line.phases_s.items():
        top = bottom + np.nan_to_num(seconds) * 1e3
        axes.fill_between(
            line.middles_s, bottom, top, step="mid", label=name, color=PHASE_COLOURS.get(name), linewidth=0
        )
        bottom = top
    axes.plot(
        line.middles_s, line.slow_step_s * 1e3, color="black", linewidth=0.8, linestyle=":", label="95th percentile"
    )


def _resources(axes: "Axes", drawn: Sequence[Drawn], panel: Panel) -> None:
    axes.set_title(panel.title, loc="left", fontsize="small")
    count = 0
    for each in drawn:
        for line in panel.lines:
            matching = {key: values for key, values in each.timeline.resources.items() if fits(key, line)}
            for key, (times, values) in matching.items():
                if not len(times) or (len(matching) > 1 and not np.any(values)):
                    continue  # of several disks or interfaces those that do nothing
                if count < MOST_LINES:
                    which = which_of(key, line) if len(matching) > 1 else ""
                    label = " ".join(part for part in (_named(each, drawn), line.label, which) if part)
                    axes.plot(times, values / line.divisor, linewidth=1, label=label)
                count += 1
    if count > MOST_LINES:
        axes.plot([], [], " ", label=f"{count - MOST_LINES} more")
    if panel.top is not None:
        axes.set_ylim(top=panel.top * 1.05)


def _mark(axes: "Axes", drawn: Sequence[Drawn]) -> None:
    """Checkpoints and evaluations of the first, alerts of all."""
    first = drawn[0].timeline
    for start, end in first.evaluations:
        axes.axvspan(start, end, color="#1f77b4", alpha=0.08, linewidth=0)
    for start, end in first.checkpoints:
        axes.axvspan(start, max(end, start), color="#2ca02c", alpha=0.35, linewidth=0.8)
    for each in drawn:
        for at, _, is_over in each.timeline.alerts:
            axes.axvline(at, color="#2ca02c" if is_over else "#d62728", linewidth=0.9, linestyle="--")


def _name_alerts(axes: "Axes", drawn: Sequence[Drawn]) -> None:
    """One below the other where they come close together."""
    fired = sorted((at, rule) for each in drawn for at, rule, is_over in each.timeline.alerts if not is_over)
    for number, (at, rule) in enumerate(fired):
        axes.text(at, 0.97 - 0.14 * (number % 6), f" {rule}", color="#d62728", fontsize="x-small", va="top",
                  transform=axes.get_xaxis_transform(), clip_on=True)  # fmt: skip


def _named(each: Drawn, drawn: Sequence[Drawn]) -> str:
    return each.label if len(drawn) > 1 else ""


def _tick(last: float) -> float:
    """A round distance between ticks, of which there are ten at most."""
    power = 10.0 ** math.floor(math.log10(max(last, 1e-9) / 10))
    return next(power * step for step in (1, 2, 5, 10, 20) if last / (power * step) <= 10)


def _time_unit(seconds: float) -> tuple[str, float]:
    for unit, divisor in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds > 2 * divisor:
            return unit, divisor
    return "seconds", 1.0
