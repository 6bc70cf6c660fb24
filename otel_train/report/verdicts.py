"""Verdicts on requirements: in words, a line each, and as JSON."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from otel_train.derive.summary import RunSummary
from otel_train.report.text import integer, percent
from otel_train.requirements.judging import FAIL, NO_DATA, PASS, Verdict, outcome
from otel_train.requirements.units import told

SCHEMA_VERSION = 1
STYLES = {PASS: "green", FAIL: "bold red", NO_DATA: "yellow"}
WORDS = {PASS: "passed", FAIL: "failed", NO_DATA: "without data"}

LEAST_SHARE = 0.0005
"""Of a bound: less is 0.0 %, which says nothing."""

SO_FAR = {
    "running": "it goes on: judged by what there is so far",
    "died": "it was killed: judged by what it left",
    "failed": "an error ended it: judged by what there is",
}
"""By state: what the numbers of a run that did not finish stand for."""


def got(verdict: Verdict) -> str:
    """The number, in the unit of the bound that it missed, or else of the one that is nearest; empty without data."""
    value = verdict.value
    if value is None:
        return ""
    nearest = min(verdict.requirement.conditions, key=lambda condition: condition.missed_by(value))
    return (verdict.missed or nearest).told(value)


def finding(verdict: Verdict) -> str:
    """The number and by how much it misses, or why there is none."""
    if verdict.outcome == NO_DATA:
        return verdict.remark
    return ", ".join(part for part in (got(verdict), miss(verdict), verdict.remark) if part)


def miss(verdict: Verdict) -> str:
    """By how much: in the bound's unit, and as a part of the bound. Empty where nothing is missed."""
    if verdict.missed is None or verdict.missed_by is None:
        return ""
    if verdict.missed_by == 0:
        return "which is the bound itself"
    bound, share = verdict.missed.bound, verdict.missed_by_share
    amount = told(verdict.missed_by, bound, digits=3)
    if bound.spelling == "%":
        return f"misses by {amount.removesuffix(' %')} points"
    return f"misses by {amount}" + (f" ({percent(share)})" if share is not None and share >= LEAST_SHARE else "")


def heading(run: RunSummary) -> str:
    """Which run, and what its numbers stand for."""
    ranks = f"{len(run.ranks)} ranks, " if len(run.ranks) > 1 else ""
    notes = [SO_FAR[run.state]] if run.state in SO_FAR else []
    if run.merged.counts.lost:
        notes.append(f"its oldest {integer(run.merged.counts.lost)} steps are no longer on disk")
    return ". ".join([f"Run {run.run_id}, {ranks}{run.state}", *(note[0].upper() + note[1:] for note in notes)])


def count(verdicts: Sequence[Verdict]) -> str:
    """How many passed, failed and had no data."""
    numbers = {each: sum(verdict.outcome == each for verdict in verdicts) for each in WORDS}
    return ", ".join(f"{number} {WORDS[each]}" for each, number in numbers.items() if number)


def print_verdicts(verdicts: Sequence[Verdict], run: RunSummary, console: Console) -> None:
    """A line each, however long: a log of a CI system is searched, not looked at."""
    names = max(len(verdict.requirement.name) for verdict in verdicts)
    conditions = max(len(verdict.requirement.expected) for verdict in verdicts)
    console.print(Text(heading(run)), soft_wrap=True)
    for verdict in verdicts:
        requirement = verdict.requirement
        line = Text(f"{verdict.outcome:7}", STYLES[verdict.outcome])
        line.append(f"  {requirement.name:{names}}  {requirement.expected:{conditions}}  {finding(verdict)}", "default")
        console.print(line, soft_wrap=True)
    console.print(Text(count(verdicts)), soft_wrap=True)


def as_dict(verdicts: Sequence[Verdict], run: RunSummary) -> dict[str, Any]:
    """For JSON. Values are in each measure's unit; what there is not is null."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.run_id,
        "path": run.path,
        "state": run.state,
        "outcome": outcome(verdicts),
        "requirements": [_entry(verdict) for verdict in verdicts],
    }


def _entry(verdict: Verdict) -> dict[str, Any]:
    requirement = verdict.requirement
    return {
        "name": requirement.name,
        "expected": requirement.expected,
        "outcome": verdict.outcome,
        "value": verdict.value,
        "unit": requirement.unit,
        "conditions": [{"operator": each.operator, "bound": each.bound.value} for each in requirement.conditions],
        "missed_by": verdict.missed_by,
        "missed_by_share": verdict.missed_by_share,
        "finding": finding(verdict),
        "file": requirement.place.path,
        "line": requirement.place.line,
        "column": requirement.place.column,
    }
