"""A picture of a benchmark: every run as a dot and each cell's mean with its interval; of a sweep, speed and memory."""

from pathlib import Path
from typing import TYPE_CHECKING

from otel_train.bench.judging import BEATEN, BEST, EQUAL, OPEN, UNKNOWN, Judged
from otel_train.bench.memory_sweep import DOES_NOT_FIT, FAILED, FITS, how
from otel_train.report.bench import Told, in_unit, ranked, word_of
from otel_train.report.bench_sweep import gpu_peak
from otel_train.report.plot import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {BEST: "#2ca02c", EQUAL: "#8fce8f", OPEN: "#ff9f0e", BEATEN: "#7f7f7f", UNKNOWN: "#d62728"}
LEGEND = "dots: runs; bars: the mean of each cell with its 95 % interval (one that reaches the edge goes on)"
WIDTH, ROW, MARGINS, SWEEP_HEIGHT = 9.0, 0.38, 1.5, 6.0
"""Inches."""

MOST_ROWS = 60
"""More cells than that are no picture; how many are left out is said on it."""


def draw(told: Told, path: Path) -> None:
    """Write the picture; its format is the path's ending. Raises ``OtelTrainError`` without matplotlib."""
    if told.swept is not None and told.plan.repeat == 1:
        _draw_sweep(told, path)
    else:
        _draw_cells(told, path)


def _draw_cells(told: Told, path: Path) -> None:
    outcome, rows = told.outcome, ranked(told.outcome)
    left_out = len(rows) - MOST_ROWS
    rows = rows[:MOST_ROWS]
    figure = new_figure(WIDTH, ROW * len(rows) + MARGINS)
    axes: Axes = figure.subplots()
    for place, judged in enumerate(rows):
        _draw_cell(axes, place, judged, told)
    axes.set_yticks(range(len(rows)), [judged.cell.label for judged in rows], fontsize="small")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    _limit(axes, told)
    direction = "right" if outcome.higher_is_better else "left"
    axes.set_xlabel(f"{outcome.metric.name}, {outcome.metric.unit}: further to the {direction} is better")
    axes.grid(axis="x", alpha=0.25)
    note = f" ({left_out} more are not drawn)" if left_out > 0 else ""
    figure.suptitle(told.name + note, x=0.01, ha="left", fontsize="medium")
    figure.supxlabel(LEGEND, x=0.01, ha="left", fontsize="x-small", color="dimgray")
    figure.savefig(path, dpi=130)


def _limit(axes: "Axes", told: Told) -> None:
    """Intervals of two runs would leave no room for the runs: they go on beyond the edge."""
    metric = told.outcome.metric
    values = [value for run in told.outcome.runs if (value := run.value(metric)) is not None]
    if values:
        left, right = axes.get_xlim()
        room = max(max(values) - min(values), 0.05 * abs(max(values)))
        axes.set_xlim(max(left, min(values) - room), min(right, max(values) + room))


def _draw_cell(axes: "Axes", place: int, judged: Judged, told: Told) -> None:
    colour, mean = COLOURS[judged.verdict], judged.mean
    if mean is None:
        axes.text(0.01, place, "no result", transform=axes.get_yaxis_transform(), color=colour, va="center")
        return
    metric = told.outcome.metric
    own = [run.value(metric) for run in told.outcome.runs if run.record.cell == judged.cell]
    dots = [value for value in own if value is not None]
    axes.plot(dots, [place] * len(dots), "o", color=colour, alpha=0.45, markersize=5, markeredgewidth=0)
    if mean.low is not None and mean.high is not None:
        axes.errorbar(mean.middle, place, xerr=[[mean.middle - mean.low], [mean.high - mean.middle]],
                      color=colour, marker="|", markersize=12, capsize=4, linewidth=1.6)  # fmt: skip
    axes.annotate(
        f"{in_unit(mean.middle, metric.unit)}  {word_of(judged, told)}", (1.0, place), (6, 0), fontsize="small",
        xycoords=axes.get_yaxis_transform(), textcoords="offset points", va="center", color=colour,
    )  # fmt: skip


def _draw_sweep(told: Told, path: Path) -> None:
    assert told.swept is not None
    metric = told.outcome.metric
    runs = sorted(told.swept.runs, key=lambda run: run[0])
    fitting = [(size, read) for size, read in runs if how(read) == FITS]
    figure = new_figure(WIDTH, SWEEP_HEIGHT)
    speed, memory = figure.subplots(2, 1, sharex=True)
    points = [(size, value) for size, read in fitting if (value := read.value(metric)) is not None]
    speed.plot([size for size, _ in points], [value for _, value in points], "o-", color=COLOURS[BEST])
    speed.set_title(f"{metric.name}, {metric.unit}", loc="left", fontsize="small")
    _draw_memory(memory, told)
    for axes in (speed, memory):
        axes.set_ylim(0, axes.get_ylim()[1] * 1.05)
        axes.grid(alpha=0.25)
        for what in (DOES_NOT_FIT, FAILED):
            for size in told.swept.sizes(what):
                axes.axvline(size, color=COLOURS[UNKNOWN if what == DOES_NOT_FIT else BEATEN], linestyle="--")
    memory.set_xscale("log", base=2)
    memory.set_xticks([size for size, _ in runs], [str(size) for size, _ in runs])
    memory.set_xlabel(f"{told.swept.name}; dashed red: out of memory; dashed grey: failed otherwise")
    figure.suptitle(told.name, x=0.01, ha="left", fontsize="medium")
    figure.savefig(path, dpi=130)


def _draw_memory(axes: "Axes", told: Told) -> None:
    """Of the GPU where that is known, and of the process."""
    assert told.swept is not None
    runs = sorted(told.swept.runs, key=lambda run: run[0])
    lines = (
        ("peak on GPU (torch's allocator)", [(size, gpu_peak(read)) for size, read in runs]),
        ("peak of the process", [(size, read.record.peak_bytes) for size, read in runs]),
    )
    for label, points in lines:
        known = [(size, value / 2**30) for size, value in points if value is not None]
        if known:
            axes.plot([size for size, _ in known], [value for _, value in known], "o-", label=label)
    axes.set_title("memory, GiB", loc="left", fontsize="small")
    axes.legend(fontsize="small", frameon=False)
