"""The report's tables of projections to a goal: the time by each count, which to trust, and what it costs."""

from collections.abc import Iterable

from otel_train.derive.projection import Effort, Pace, Projection
from otel_train.report import text
from otel_train.report.facts import Grid

JOULES_A_KWH = 3.6e6


def projections(found: Iterable[Projection]) -> list[Grid]:
    """A table for each goal; what is not known is said in its notes."""
    return [_grid(each) for each in found]


def _grid(found: Projection) -> Grid:
    rows = [_row(pace, pace.unit == found.trusted) for pace in found.paces]
    notes = [] if found.left is None or found.total is None else [_in_all(found, found.left, found.total)]
    headings = ("", "left", "a second", "time left", "95 in 100 such runs")
    numbers = (False, True, True, True, False)
    return Grid(f"To {found.goal}", headings, rows, numbers, (*notes, found.why, *found.notes))


def _row(pace: Pace, trusted: bool) -> tuple[str, ...]:
    name = f"by {pace.unit}" + (" (trust this one)" if trusted else "")
    return (
        name,
        text.amount(pace.left),
        text.rate(pace.per_s),
        text.seconds(pace.left_s),
        _range(pace.low_s, pace.high_s),
    )


def _range(low_s: float | None, high_s: float | None) -> str:
    return text.MISSING if low_s is None else f"{text.seconds(low_s)} to {text.seconds(high_s)}"


def _in_all(found: Projection, left: Effort, total: Effort) -> str:
    costs = ", ".join(filter(None, (
        f"{text.three_digits(total.gpu_hours)} GPU hours" if total.gpu_hours is not None else "",
        f"{text.three_digits(total.energy_j / JOULES_A_KWH)} kWh" if total.energy_j is not None else "",
        f"a price of {total.cost:,.2f}" if total.cost is not None else "",
    )))  # fmt: skip
    cost = f"; in all {costs}" if costs else ""
    if found.reached:
        return f"Reached after {text.seconds(total.time_s)}{cost}."
    between = "" if found.low_s is None else f" ({_range(found.low_s, found.high_s)})"
    return f"{text.seconds(left.time_s)} left, {text.seconds(total.time_s)} in all{between}{cost}."
