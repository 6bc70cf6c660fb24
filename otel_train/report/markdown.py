"""The report as GitHub-flavoured Markdown: short, for pull requests and the summaries of CI jobs.

What stands in the record is text: no markup, no mention of a person, no reference to an issue comes out of it.
"""

import re
from collections.abc import Sequence

from otel_train.derive.projection import Projection
from otel_train.derive.summary import RunSummary
from otel_train.report import circumstances, equipment, facts, text
from otel_train.report.facts import Grid
from otel_train.report.projections import projections as tables_of

MOST_ROWS = 12
"""Rows of a table; the rest is in the whole report, which is said."""

LONGEST_CELL = 200

_SIGNS = re.compile(r"([\\`*_{}\[\]#|~$])")
_REFERENCES = re.compile(r"([@#]|GH-)(?=\w)", re.IGNORECASE)
"""GitHub takes ``@name`` and ``#12`` for a person and an issue, and notifies them."""


def run_as_markdown(run: RunSummary, projections: Sequence[Projection] = ()) -> str:
    """The report, from the verdict to the errors; details are folded."""
    merged, found = run.merged, run.merged.verdict
    name = run.identities[min(run.identities)].get("service_name") or "training"
    word, _, rest = found.sentence.partition(":")
    lines = [
        f"### {escaped(name)} {escaped(run.run_id)}: {run.state}",
        "",
        escaped(facts.subtitle(run)),
        "",
        f"**{escaped(word)}**: {escaped(rest)}",
        *(f"<br>{escaped(caveat)}" for caveat in found.caveats),
        "",
    ]
    headline = facts.headline(run)
    if headline:
        lines += _table(Grid(
            "", tuple(figure.label for figure in headline), [tuple(figure.value for figure in headline)],
            (True,) * len(headline),
        ))  # fmt: skip
    lines += _warnings(run)
    lines += [f"- {escaped(sentence)}" for sentence in circumstances.changes(run)] + [""]
    for goal in tables_of(projections):
        lines += [f"**{escaped(goal.title)}**", "", *_table(goal), *(f"{escaped(note)}<br>" for note in goal.notes), ""]
    for grid in (facts.phases(run), equipment.gpus(run), facts.ranks(run), circumstances.alerts(run),
                 circumstances.errors(run)):  # fmt: skip
        if grid:
            lines += _folded(grid)
    lines += [f"<sub>{escaped(line)}</sub>" for line in circumstances.ourselves(run.merged)]
    if merged.step_time is None:
        lines.append("No training step is recorded.")
    return "\n".join(lines).rstrip() + "\n"


def _warnings(run: RunSummary) -> list[str]:
    said = circumstances.urgent(run)
    return ["> [!WARNING]", *(f"> {escaped(one)}<br>" for one in said), ""] if said else []


def _folded(grid: Grid) -> list[str]:
    notes = [line for note in grid.notes for line in (escaped(note), "")]
    return ["<details>", f"<summary>{escaped(grid.title)}</summary>", "", *_table(grid), *notes, "</details>", ""]


def _table(grid: Grid) -> list[str]:
    """A pipe table; GitHub wants a head, so an empty one where there is none."""
    if not grid.rows:
        return []
    marks = ["--:" if number else ":--" for number in grid.numbers]
    rows = [grid.headings, *grid.rows[:MOST_ROWS]]
    head, *body = ["| " + " | ".join(escaped(cell) for cell in row) + " |" for row in rows]
    more = [f"{text.plural(len(grid.rows) - MOST_ROWS, 'more row')}.", ""] if len(grid.rows) > MOST_ROWS else []
    return [head, "| " + " | ".join(marks) + " |", *body, "", *more]


def escaped(words: object) -> str:
    """Text that Markdown shows as it is, on one line, of a bounded length."""
    line = " ".join(str(words).split())
    line = line if len(line) <= LONGEST_CELL else line[:LONGEST_CELL] + "…"
    line = _REFERENCES.sub("\\1\u200b", line)
    line = _SIGNS.sub(r"\\\1", line)
    line = line.replace("://", ":\u200b//").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"^(\d*)([.)+-])(?=\s|$)", r"\1\\\2", line)
