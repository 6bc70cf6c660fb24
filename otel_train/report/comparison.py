"""A comparison of runs for people, on a terminal and as Markdown, and for programs."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from otel_train.baselines import Baseline
from otel_train.derive.comparison import Comparison
from otel_train.derive.difference import FASTER, MEAN, MEDIAN, SLOWER, Difference
from otel_train.derive.fingerprint import UNDISTURBED, Fingerprint
from otel_train.derive.side_changes import Change
from otel_train.report import text
from otel_train.report.as_json import without_nonfinite
from otel_train.report.sections import columns

SCHEMA_VERSION = 1
STYLES = {SLOWER: "red", FASTER: "green"}
MOST_CHANGES = 12
"""Resources that changed are told up to so many changes in all; JSON has all of them."""

Row = tuple[str, ...]


def page(found: Comparison) -> Iterator[RenderableType]:
    """The parts of a page on a terminal."""
    style = STYLES.get(found.verdict, "yellow")
    sentence = Text.assemble((found.verdict, f"bold {style}"), f": {found.sentence}")
    yield Panel(sentence, title=_title(found), title_align="left", border_style=style, padding=(0, 1))
    for heading, names, rows in _tables(found):
        table = columns(*((name, "right") for name in names), title=heading)
        for row in rows:
            table.add_row(f"  {row[0]}", *row[1:])
        yield table
        yield ""
    for line in _notes(found):
        yield Text(line, style="dim")


def markdown(found: Comparison) -> str:
    """The same as Markdown, for a comment of a CI system."""
    lines = [f"### {_title(found)}", "", f"**{found.verdict}**: {found.sentence}", ""]
    for heading, names, rows in _tables(found):
        lines += [f"| {heading} | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
        lines += [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows]
        lines.append("")
    return "\n".join([*lines, *(f"{line}  " for line in _notes(found)), ""])


def as_dict(found: Comparison) -> dict[str, Any]:
    """The same as JSON has it: changes are parts of one, times s; what is not known is null."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "verdict": found.verdict,
        "sentence": found.sentence,
        "change": found.change,
        "first": [_run(run) for run in found.first],
        "second": [_run(run) for run in found.second],
        "median": _difference(found.median),
        "mean": _difference(found.mean),
        "throughput_change": found.throughput,
        "pace_change": found.pace,
        "sees": found.sees,
        "on_gpu": found.on_gpu,
        "phases": [{**asdict(phase), "shown": phase.shown, "verdict": phase.verdict} for phase in found.phases],
        "changes": [asdict(change) for change in found.changes],
    }
    cleaned: dict[str, Any] = without_nonfinite(content)
    return cleaned


def baseline_table(baselines: Sequence[Baseline]) -> RenderableType:
    """A line for each run of each baseline, and under each what they ran on."""
    table = columns(("set", "left"), ("run", "left"), ("steps", "right"), ("p50", "right"), title="Baseline")
    for baseline in baselines:
        for run in baseline.runs:
            median = text.seconds(run.quantiles_s.get("p50"))
            table.add_row(baseline.name, text.moment(baseline.set_unix_s)[:16], run.run_id, f"{run.steps:,}", median)
    machines = dict.fromkeys((each.name, _machine(run)) for each in baselines for run in each.runs)
    return Group(table, *(Text(f"{name} ran on {machine}", style="dim") for name, machine in machines))


def _machine(run: Fingerprint) -> str:
    hardware = run.facts["hardware"]
    return ", ".join(hardware[key] for key in ("gpus", "cpu", "memory") if key in hardware) or "what is not recorded"


def _title(found: Comparison) -> str:
    return f"{_side(found.second)} beside {_side(found.first)}"


def _side(runs: Sequence[Fingerprint]) -> str:
    return runs[0].run_id if len(runs) == 1 else f"{len(runs)} runs ({runs[0].run_id} …)"


def _tables(found: Comparison) -> Iterator[tuple[str, Row, list[Row]]]:
    yield "Step time", ("before", "after", "change", "interval"), list(_step_rows(found))
    if found.phases:
        names = ("before", "after", "adds", "share", "its own", "seen from")
        yield "Where on the GPU" if found.on_gpu else "Where", names, list(_phase_rows(found))
    if found.changes:
        yield "What else changed", ("before", "after"), [_change_row(each) for each in found.changes[:MOST_CHANGES]]


def _step_rows(found: Comparison) -> Iterator[Row]:
    for name, own in ((MEDIAN, found.median), (MEAN, found.mean)):
        before, after = (_average([run.estimates[name].value for run in side if run.estimates]) for side in
                         (found.first, found.second))  # fmt: skip
        yield name, text.seconds(before), text.seconds(after), _percent(own.change), _interval(own)
    rates = [_average([run.samples_per_s for run in side]) for side in (found.first, found.second)]
    yield "throughput", *(f"{text.rate(rate)}" for rate in rates), _percent(found.throughput), ""


def _phase_rows(found: Comparison) -> Iterator[Row]:
    for phase in found.phases:
        own, reach = phase.own.get(UNDISTURBED), phase.reach.get(UNDISTURBED)
        yield (
            phase.name, text.seconds(max(phase.before_s, 0.0)), text.seconds(max(phase.after_s, 0.0)),
            _signed_time(phase.after_s - phase.before_s), text.percent(phase.explained),
            _percent(phase.shown or own), text.percent(reach),
        )  # fmt: skip


def _change_row(change: Change) -> Row:
    return f"{change.part}: {change.name}", _cell(change.before), _cell(change.after)


def _cell(value: str | float | None) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return text.MISSING if value is None else value


def _notes(found: Comparison) -> Iterator[str]:
    if found.phases:
        if found.on_gpu:
            yield "Phases are by their time on the GPU: a host ahead of it waits in one phase for what another takes."
        yield "Share: of the difference. Its own: beyond the pace of all, of a step; seen from where equal runs end."
    if not found.several:
        yield "One run a side, or on one: what makes all phases alike slower, the code or the machine, cannot be told."
    if len(found.changes) > MOST_CHANGES:
        yield f"{len(found.changes) - MOST_CHANGES} more resources changed by a tenth or more: see --json"
    for side in (found.first, found.second):
        yield f"{_side(side)}: {_left_out(side)}"
    yield "Which operators: otel-train profile compare, where both runs have a profile."


def _left_out(side: Sequence[Fingerprint]) -> str:
    reasons = dict.fromkeys(reason for run in side for reason in run.left_out)
    counts = [f"{sum(run.left_out.get(reason, 0) for run in side):,} {reason}" for reason in reasons]
    return f"{text.plural(sum(run.steps for run in side), 'steady step')}; left out: {', '.join(counts) or 'none'}"


def _run(run: Fingerprint) -> dict[str, Any]:
    content = run.to_json()
    return {key: content[key] for key in content if key not in ("phases", "on_gpu", "resources")}


def _difference(own: Difference) -> dict[str, Any]:
    return {"change": own.change, "low": own.low, "high": own.high, "confidence": own.confidence,
            "between_runs": own.between}  # fmt: skip


def _average(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _percent(change: float | None) -> str:
    return text.MISSING if change is None else f"{change * 100:+.1f} %"


def _interval(own: Difference) -> str:
    return text.MISSING if own.low is None or own.high is None else f"{_percent(own.low)} to {_percent(own.high)}"


def _signed_time(value: float) -> str:
    return ("+" if value > 0 else "-" if value < 0 else "") + text.seconds(abs(value))


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
