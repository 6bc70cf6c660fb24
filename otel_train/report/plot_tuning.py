"""Pictures of tuning: what was expected and measured of each setting, and what the data set reads."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_train.errors import OtelTrainError

if TYPE_CHECKING:
    from otel_train.tuning.jobs import JobTuning
    from otel_train.tuning.outcome import LoaderTuning
    from otel_train.tuning.reads import Reads

EXPECTED, MEASURED, IDEAL = "#9aa7b4", "#1f77b4", "#d0d0d0"
INCHES = (11.0, 3.4)


def draw_loader(found: "LoaderTuning", path: Path) -> None:
    """The settings beside each other; below them files by size, and reading rates, where any were seen.

    Raises ``OtelTrainError`` where matplotlib is missing.
    """
    reads = found.reads if found.reads is not None and (found.reads.files or any(found.reads.read_bytes)) else None
    figure, axes = _axes(2 if reads else 1, 1 if not reads else 2)
    places = range(len(found.tried))
    axes[0].bar([at - 0.2 for at in places], [each.predicted_per_s or 0 for each in found.tried], 0.4,
                color=EXPECTED, label="expected")  # fmt: skip
    axes[0].bar([at + 0.2 for at in places], [each.measured_per_s or 0 for each in found.tried], 0.4,
                color=MEASURED, label="measured")  # fmt: skip
    axes[0].set_xticks(list(places), [_label(each) for each in found.tried], rotation=45, ha="right", fontsize=8)
    axes[0].set(ylabel="batches/s", title="num_workers × prefetch_factor")
    axes[0].margins(y=0.2)
    axes[0].legend(loc="upper left", ncols=2)
    if reads:
        _draw_reads(reads, axes[1], axes[2])
    figure.savefig(path)


def draw_job(found: "JobTuning", path: Path) -> None:
    """Items a second by workers, beside what perfect scaling would be. Raises ``OtelTrainError`` without matplotlib."""
    figure, axes = _axes(1, 1)
    rates = [(each.workers, each.items_per_s) for each in found.curve]
    first = rates[0][1] / rates[0][0]
    axes[0].plot([count for count, _ in rates], [count * first for count, _ in rates], color=IDEAL, label="ideal")
    axes[0].plot(*zip(*rates, strict=True), marker="o", color=MEASURED, label="measured")
    axes[0].axvline(found.workers, linestyle="--", color="#2ca02c", label=f"chosen: {found.workers}")
    axes[0].set(xlabel=found.kind, ylabel="items/s", ylim=(0, None))
    axes[0].legend()
    figure.savefig(path)


def _label(each: Any) -> str:
    pinned = " pinned" if each.pin_memory else ""
    return f"{each.num_workers}" + (f"×{each.prefetch_factor}" if each.prefetch_factor else "") + pinned


def _draw_reads(reads: "Reads", sizes: Any, rates: Any) -> None:
    known = [power for power, count in enumerate(reads.sizes) if count]
    sizes.bar(known, [reads.sizes[power] for power in known], color=MEASURED)
    sizes.set_xticks(known, [_size(2**power) for power in known], rotation=45, ha="right", fontsize=8)
    sizes.set(ylabel="files opened", title="sizes of files, from … on")
    rates.hist([rate / 1e6 for rate in reads.rates], bins=30, color=MEASURED)
    rates.set(xlabel="MB/s", ylabel="fetches", title="read by a worker while it fetches")


def _size(value: int) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= factor:
            return f"{value // factor} {unit}"
    return f"{value} B"


def _axes(rows: int, lower: int) -> tuple[Any, list[Any]]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OtelTrainError(
            "drawing needs matplotlib, which is not installed: pip install 'otel-train[plot]'"
        ) from error
    figure = Figure(figsize=(INCHES[0], INCHES[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.add_gridspec(rows, lower)
    below = [figure.add_subplot(places[1, at]) for at in range(lower)] if rows > 1 else []
    return figure, [figure.add_subplot(places[0, :]), *below]
