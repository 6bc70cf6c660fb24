"""A picture of scaling: work a second by ranks beside the ideal, and what a step takes longer than ideal."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from otel_train.derive.evidence import COMMUNICATION, COMPUTE, LAUNCH, OPTIMIZER
from otel_train.derive.lost_time import ALL_PARTS, DATA, OTHER
from otel_train.derive.mean_step import IMBALANCE
from otel_train.derive.scaling import Scaling
from otel_train.derive.scaling_law import LAWS
from otel_train.errors import OtelTrainError
from otel_train.report.plot import PHASE_COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    DATA: PHASE_COLOURS["data_wait"], COMMUNICATION: PHASE_COLOURS["collective"], IMBALANCE: "#ff7f0e",
    LAUNCH: "#8c564b", COMPUTE: PHASE_COLOURS["forward"], OPTIMIZER: PHASE_COLOURS["optimizer"], OTHER: "#7f7f7f",
}  # fmt: skip
IDEAL = "#d0d0d0"

CURVE_POINTS = 100

NOT_SEEN = 1e-4
"""Of a bar: what is less is no part of the picture or its legend."""


def draw_scaling(found: Scaling, path: Path) -> None:
    """Write the picture; its format is the path's ending: ``.png``, ``.svg``, ``.pdf``. Raises ``OtelTrainError``."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        message = f"a picture needs matplotlib ({error}). Type: pip install 'otel-train[plot]'"
        raise OtelTrainError(message) from error
    figure = Figure(figsize=(11.0, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _rates(left, found)
    _steps(right, found)
    for axes in (left, right):
        axes.set_xlabel("ranks")
        axes.grid(alpha=0.25)
        axes.set_ylim(bottom=0)
        axes.legend(fontsize="small", frameon=False)
    figure.suptitle(found.why, x=0.01, ha="left", fontsize="medium")
    figure.savefig(path, dpi=130)


def _rates(axes: "Axes", found: Scaling) -> None:
    """Measured points, the ideal, and the fitted law with its interval as far as the next doubling."""
    sizes = [point.workers for point in found.points]
    first, last = found.points[0], found.doubling.workers if found.doubling else sizes[-1]
    axes.set_title(f"{found.unit} a second", loc="left", fontsize="small")
    axes.plot([sizes[0], last], [first.rate, first.rate * last / sizes[0]], "--", color="gray", label="ideal")
    if found.law is not None:
        at = np.linspace(sizes[0], last, CURVE_POINTS)
        rates = [found.law.rate(float(size)) for size in at]
        axes.plot(at, [rate.value for rate in rates], color="#1f77b4", label=LAWS[found.law.law])
        if found.law.residual is not None:
            low = [rate.low if rate.low is not None else 0.0 for rate in rates]
            high = [rate.high if rate.high is not None else math.inf for rate in rates]
            top = max(first.rate * last / sizes[0], *(rate.value for rate in rates)) * 1.05
            axes.fill_between(
                at, np.clip(low, 0, top), np.clip(high, 0, top), color="#1f77b4", alpha=0.15, linewidth=0,
                label="95 % of further runs",
            )  # fmt: skip
    spreads = [point.spread or (point.rate, point.rate) for point in found.points]
    below = [max(point.rate - low, 0.0) for point, (low, _) in zip(found.points, spreads, strict=True)]
    above = [max(high - point.rate, 0.0) for point, (_, high) in zip(found.points, spreads, strict=True)]
    axes.errorbar(
        sizes, [point.rate for point in found.points], [below, above], fmt="o", color="black", capsize=3,
        label="measured",
    )  # fmt: skip
    for point in found.points[1:]:
        axes.annotate(
            f"{point.efficiency * 100:.0f} %", (point.workers, point.rate), (0, -16),
            textcoords="offset points", ha="center", fontsize="small",
        )  # fmt: skip
    axes.margins(x=0.08)
    axes.set_xticks([*sizes, *([last] if last != sizes[-1] else [])])


def _steps(axes: "Axes", found: Scaling) -> None:
    """Bars: the ideal step, and upon it where it takes longer. What is gained is below 0 and not drawn."""
    axes.set_title("a step, ms: ideal, and where it takes longer", loc="left", fontsize="small")
    places = np.arange(len(found.points))
    gains = np.array([-sum(min(value, 0.0) for value in point.lost_s.values()) for point in found.points]) * 1e3
    bottom = np.array([point.ideal_step_s for point in found.points]) * 1e3 - gains
    axes.bar(places, bottom, 0.6, color=IDEAL, label="ideal" + (", less what is gained" if gains.any() else ""))
    for part in ALL_PARTS:
        heights = np.array([max(point.lost_s.get(part, 0.0), 0.0) for point in found.points]) * 1e3
        if max(heights.tolist()) > NOT_SEEN * max(bottom.tolist()):
            axes.bar(places, heights, 0.6, bottom, color=COLOURS[part], label=part)
            bottom = bottom + heights
    axes.set_xticks(places, [str(point.workers) for point in found.points])
    axes.set_ylim(top=max(bottom.tolist()) * 1.35)
