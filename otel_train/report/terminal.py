"""The report on a terminal, from 80 columns on; plain text where it is none."""

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType

from otel_train.derive.projection import Projection
from otel_train.derive.summary import RunSummary
from otel_train.report import advice, details, figures, sections

WIDEST = 110
"""Wider lines are harder to read."""

NARROWEST = 60

BESIDE_BAR, BESIDE_STEP_CURVE, BESIDE_SCALAR_CURVE = 56, 26, 58
"""Columns that numbers and names take beside a drawing."""


def render(
    run: RunSummary, console: Console, brief: bool = False, projections: Sequence[Projection] = ()
) -> RenderableType:
    """The report; ``brief`` leaves out what is below the phases and the ranks."""
    width = max(min(console.width, WIDEST), NARROWEST)
    draws = not console.options.ascii_only
    parts = [
        sections.header(run),
        sections.verdict(run.merged.verdict),
        sections.disagreements(run),
        *(figures.projection(each) for each in projections),
        sections.throughput(run),
        sections.step_time(run.merged, width - BESIDE_STEP_CURVE if draws else 0),
        sections.phases(run.merged, width - BESIDE_BAR if draws else 0),
        figures.changes(run),
        advice.settings(run),
        sections.ranks(run),
        details.scalars(run.merged, width - BESIDE_SCALAR_CURVE if draws else 0),
    ]
    if not brief:
        parts += [details.events(run.merged), details.slowest_steps(run), details.profiles(run)]
    parts += [details.alerts(run.merged), details.errors(run.merged)]
    if not brief:
        parts += [figures.gpus(run.merged), details.machine(run), details.ourselves(run.merged)]
    shown = [part for part in parts if part is not None]
    return Group(*(line for part in shown for line in (part, "")))


def print_report(
    run: RunSummary, console: Console, brief: bool = False, projections: Sequence[Projection] = ()
) -> None:
    """Print the report."""
    print_plainly(render(run, console, brief, projections), console, min(console.width, WIDEST))


def print_plainly(shown: RenderableType, console: Console, width: int | None = None) -> None:
    """Print to a terminal as it is; to a file or a pipe without the spaces that fill up its lines."""
    if console.is_terminal:
        console.print(shown, width=width, highlight=False)
        return
    with console.capture() as captured:
        console.print(shown, width=width, highlight=False)
    for line in captured.get().splitlines():
        console.file.write(line.rstrip() + "\n")
