"""Parts of the terminal report: projections to a goal, what changed during the run, each GPU."""

from rich.console import Group, RenderableType
from rich.text import Text

from otel_train.derive.changes import sentences
from otel_train.derive.energy import own_devices
from otel_train.derive.projection import Effort, Projection
from otel_train.derive.summary import RunSummary, Summary
from otel_train.report import text
from otel_train.report.sections import columns

MOST_CHANGES_SHOWN = 6
MOST_GPUS_SHOWN = 8
JOULES_A_KWH = 3.6e6


def projection(found: Projection) -> RenderableType:
    """The time to one goal, by each count, and what it costs."""
    title = Text(f"To {found.goal}", style="bold")
    notes = [Text(f"  {note}", style="dim") for note in found.notes]
    if found.left is None or found.total is None:
        return Group(title, Text(f"  {found.why}"), *notes)
    if found.reached:
        return Group(title, Text(f"  reached after {text.seconds(found.total.time_s)}{_cost(found.total)}"), *notes)
    range_ = "" if found.low_s is None else f" ({text.seconds(found.low_s)} to {text.seconds(found.high_s)})"
    lines = [
        Text(f"  {text.seconds(found.left.time_s)} left, {text.seconds(found.total.time_s)} in all{range_}"),
        Text(f"  in all{_cost(found.total)}") if _cost(found.total) else None,
        Text(f"  {found.why}", style="dim"),
    ]
    table = columns(("left", "right"), ("a second", "right"), ("time left", "right"), ("95 in 100", "left"))
    for pace in found.paces:
        range_ = "" if pace.low_s is None else f"{text.seconds(pace.low_s)} to {text.seconds(pace.high_s)}"
        name = Text(f"  by {pace.unit}", style="" if pace.unit == found.trusted else "dim")
        table.add_row(name, text.amount(pace.left), text.rate(pace.per_s), text.seconds(pace.left_s), range_)
    return Group(title, *(line for line in lines if line is not None), table, *notes)


def _cost(effort: Effort) -> str:
    """What is known of it."""
    facts = [
        f"{text.three_digits(effort.gpu_hours)} GPU hours" if effort.gpu_hours is not None else "",
        f"{text.three_digits(effort.energy_j / JOULES_A_KWH)} kWh" if effort.energy_j is not None else "",
        f"a price of {effort.cost:,.2f}" if effort.cost is not None else "",
    ]
    known = ", ".join(filter(None, facts))
    return f": {known}" if known else ""


def changes(run: RunSummary) -> RenderableType | None:
    """What changed during the run, the first ones."""
    found = sentences(run.merged.changes, len(run.ranks))
    if not found:
        return None
    lines = [Text(f"  {sentence}") for sentence in found[:MOST_CHANGES_SHOWN]]
    if len(found) > MOST_CHANGES_SHOWN:
        lines.append(Text(f"  and {len(found) - MOST_CHANGES_SHOWN} more: see --json", style="dim"))
    return Group(Text("What changed", style="bold"), *lines)


def gpus(summary: Summary) -> RenderableType | None:
    """Each GPU that a rank trains on, or where that is not known, each."""
    shown = own_devices(summary)
    if not shown:
        return None
    table = columns(
        ("busy", "right"), ("memory", "right"), ("power", "right"), ("hottest", "right"), ("energy", "right"),
        title="GPUs",
    )  # fmt: skip
    for device in shown[:MOST_GPUS_SHOWN]:
        energy = None if device.energy_j is None else device.energy_j / JOULES_A_KWH
        table.add_row(
            Text(f"  {device.name or device.id}"),
            text.percent(device.utilization),
            text.size(device.memory_max_bytes),
            _unit(device.watts, "W"),
            _unit(device.temperature_max_c, "°C"),
            _unit(energy, "kWh"),
        )
    if len(shown) <= MOST_GPUS_SHOWN:
        return table
    return Group(table, Text(f"  and {len(shown) - MOST_GPUS_SHOWN} more: see --json", style="dim"))


def _unit(value: float | None, unit: str) -> str:
    return text.MISSING if value is None else f"{text.three_digits(value)} {unit}"
