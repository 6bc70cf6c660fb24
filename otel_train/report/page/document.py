"""The page's file: figures and tables in the order in which a reader needs them, the drawing library in it."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources as package_files
from typing import Any

import jinja2
from bokeh.document import Document
from bokeh.embed import components
from bokeh.resources import Resources

from otel_train import names
from otel_train.derive.history import MOST_MARKS, History, Mark, history, points_a_rank
from otel_train.derive.projection import Projection
from otel_train.derive.summary import RunSummary
from otel_train.report import circumstances, equipment, facts, text
from otel_train.report.facts import Grid
from otel_train.report.page import phase_figures, series_figures, step_figures
from otel_train.report.page.frame import CHANGE, Frame
from otel_train.report.panels import PANELS
from otel_train.report.projections import projections as tables_of
from otel_train.runlog.runs import Run
from otel_train.version import __version__

TEMPLATE = "page.html.jinja"

OF_EVERY_RANK = (names.ALERT, names.ERROR)
"""Marks; the others are the first rank's."""

LEAST_SHARE = 0.005

STATES = {"running": "calm", "finished": "good", "failed": "bad", "died": "bad"}


@dataclass
class Part:
    """A section of the page: its figures by name, tables, and what is said under them."""

    title: str
    figures: dict[str, Any] = field(default_factory=dict)
    """By what stands above each."""
    grids: list[Grid] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    beside: bool = False
    """Whether two figures stand side by side where there is room."""


def page(run: Run, summary: RunSummary, projections: Sequence[Projection] = ()) -> str:
    """The whole file."""
    metrics = {line.metric for panel in PANELS for line in panel.lines}
    logs = run.ranks()
    histories = [history(log, metrics, points_a_rank(len(logs))) for log in logs]
    parts = [part for part in [_of_goals(projections), *_parts(summary, histories)] if part.figures or part.grids]
    figures = {
        f"figure{number}": figure
        for number, figure in enumerate(one for part in parts for one in part.figures.values())
    }
    script, divs = _embedded(figures) if figures else ("", {})
    scripts = [Resources(mode="inline", components=["bokeh"]).js_raw[0], script] if figures else []
    placed = iter(divs.values())
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string((package_files.files(__package__) / TEMPLATE).read_text(encoding="utf-8"))
    return template.render(
        run=summary, name=str(summary.identities[min(summary.identities)].get("service_name") or "training"),
        state_class=STATES.get(summary.state, "odd"), subtitle=facts.subtitle(summary), verdict=_verdict(summary),
        urgent=circumstances.urgent(summary), headline=facts.headline(summary),
        changes=circumstances.changes(summary),
        parts=[(part, [(title, next(placed)) for title in part.figures]) for part in parts],
        ourselves=circumstances.ourselves(summary.merged), percent=text.percent,
        scripts=scripts, policy=_policy(scripts), version=__version__,
    )  # fmt: skip


def _embedded(figures: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """The script that draws the figures, and by their names where each goes.

    They are put into one document at once: one by one, Bokeh looks through all of them again for each.
    """
    document = Document()
    with document.models.freeze():
        for one in figures.values():
            document.add_root(one)
    script, divs = components(figures, wrap_script=False)
    return script, divs


def _policy(scripts: Sequence[str]) -> str:
    """What the browser lets the page do: run these scripts, and nothing else; ask no network, at all."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return (
        f"default-src 'none'; script-src {allowed} 'unsafe-eval'; style-src 'unsafe-inline'; "
        "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
    )


def _verdict(summary: RunSummary) -> dict[str, Any]:
    found = summary.merged.verdict
    word, _, rest = found.sentence.partition(":")
    told = [(share, name.removeprefix("phase:")) for name, share in found.shares.items() if share >= LEAST_SHARE]
    return {
        "word": word,
        "rest": rest,
        "kind": found.verdict,
        "caveats": found.caveats,
        "shares": sorted(told, reverse=True),
    }


def _parts(summary: RunSummary, histories: Sequence[History]) -> list[Part]:
    frame = _frame(summary, histories)
    parts = [
        *_of_steps(frame, summary, histories),
        _of_logged(frame, summary, histories),
        _of_resources(frame, summary, histories),
        Part("Ranks side by side", _named("the mean step by phase", phase_figures.ranks_side_by_side(summary)),
             _grids(facts.ranks(summary))),
        Part("Alerts and errors", {}, _grids(circumstances.alerts(summary), circumstances.errors(summary))),
        Part("Events", {},
             _grids(facts.slowest_steps(summary), facts.events(summary), circumstances.profiles(summary))),
        Part("With what", {}, _grids(circumstances.machine(summary), circumstances.settings(summary))),
    ]  # fmt: skip
    frame.link()
    return parts


def _frame(summary: RunSummary, histories: Sequence[History]) -> Frame:
    """From the first thing recorded to the last."""
    span = summary.merged.span
    moments = [span.first_unix_s, span.last_unix_s] if span else [summary.started_unix_s]
    moments += [float(at) for each in histories for one in each.resources.values() for at in one.unix_s[[0, -1]]]
    return Frame(min(moments), max(max(moments), min(moments) + 1e-3))


def _of_steps(frame: Frame, summary: RunSummary, histories: Sequence[History]) -> list[Part]:
    times = summary.merged.step_time
    if times is None:
        return []
    steps = Part(
        "Step time", {"over the run": step_figures.step_time(frame, histories, times, _marks(summary, histories))},
        _grids(facts.step_time(summary)), _of_points(histories, step_figures.above(histories, times)),
    )  # fmt: skip
    spread = summary.merged.distribution
    rates = Part(
        "Throughput",
        {
            "by rank, with what passed between steps": step_figures.throughput(frame, histories),
            **_named(_of_distribution(summary), step_figures.distribution(spread, times) if spread else None),
        },
        _grids(facts.throughput(summary)),
        beside=True,
    )
    shown = _phases_of(summary, histories)
    one = shown.steps if shown else None
    who = f"a step of rank {shown.rank}, the slowest" if shown and len(histories) > 1 else "a step"
    phases = Part(
        "Phases", _named(f"{who}, over the run", phase_figures.phases(frame, one, times) if one else None),
        _grids(facts.phases(summary)),
    )  # fmt: skip
    waits = Part("Waiting for data", _named("over the run", step_figures.data_wait(frame, histories)),
                 _grids(facts.data_loading(summary)))  # fmt: skip
    return [steps, rates, phases, waits]


def _phases_of(summary: RunSummary, histories: Sequence[History]) -> History | None:
    """The slowest rank: the others wait for it."""
    slowest = summary.slowest_rank
    with_steps = [each for each in histories if each.steps]
    return next((each for each in with_steps if each.rank == slowest), with_steps[0] if with_steps else None)


def _of_goals(projections: Sequence[Projection]) -> Part:
    return Part("Projections", {}, _grids(*tables_of(projections)))


def _of_logged(frame: Frame, summary: RunSummary, histories: Sequence[History]) -> Part:
    more = series_figures.not_drawn(histories)
    notes = [f"{more} more logged values are not drawn."] if more else []
    figures = series_figures.logged(frame, histories)
    return Part("Logged values", figures, _grids(facts.scalars(summary)), notes, beside=True)


def _of_distribution(summary: RunSummary) -> str:
    """What stands above the bars: they show the bulk of the steps."""
    found = summary.merged.distribution
    counts = {} if found is None else {"shorter": found.shorter, "longer": found.longer}
    beyond = [f"{count:,} {which}" for which, count in counts.items() if count]
    left_out = f"; beyond: {', '.join(beyond)}" if beyond else ""
    return f"step times; lines: median, p95, p99{left_out}"


def _of_resources(frame: Frame, summary: RunSummary, histories: Sequence[History]) -> Part:
    grids = _grids(equipment.gpus(summary), equipment.memory(summary))
    part = Part("GPU, CPU, memory, disk, network", {}, grids, beside=True)
    for panel in PANELS:
        found = series_figures.resources(frame, histories, panel)
        if found:
            part.figures[panel.title] = found[0]
            if found[1]:
                part.notes.append(f"{panel.title}: {found[1]} more lines are not drawn.")
    return part


def _of_points(histories: Sequence[History], above: int) -> list[str]:
    """What the points stand for, what is cut off, and what is left out."""
    each = max((one.steps.steps_each for one in histories if one.steps), default=1)
    notes = ["Drag across a figure to zoom into it: all follow. A click in a legend hides, and shows again."]
    if each > 1:
        notes.append(
            f"A point stands for {each:,} steps that follow each other: the line is their median, the band goes from "
            "the fastest to the slowest, so no slow step is lost."
        )
    if above:
        notes.append(f"A triangle at the upper edge is a slower step than the axis shows ({above:,} of them).")
    if len(histories) > 1:
        notes.append("Checkpoints and evaluations are of the first rank, alerts and errors of all.")
    left_out = histories[0].marks_left_out + max(len(_of_every_rank(histories)) - MOST_MARKS, 0)
    if left_out:
        notes.append(f"{left_out:,} more events are not marked.")
    return notes


def _marks(summary: RunSummary, histories: Sequence[History]) -> list[Mark]:
    """Of the first rank what all do, of every rank what befell it, and what changed."""
    first = [mark for mark in histories[0].marks if mark.kind not in OF_EVERY_RANK]
    changed = [Mark(CHANGE, one.unix_s, one.unix_s, one.kind, one.step) for one in summary.merged.changes]
    return first + _of_every_rank(histories)[:MOST_MARKS] + changed


def _of_every_rank(histories: Sequence[History]) -> list[Mark]:
    return [mark for each in histories for mark in each.marks if mark.kind in OF_EVERY_RANK]


def _named(title: str, figure: Any | None) -> dict[str, Any]:
    return {} if figure is None else {title: figure}


def _grids(*found: Grid | None) -> list[Grid]:
    return [facts.bounded(grid) for grid in found if grid is not None]
