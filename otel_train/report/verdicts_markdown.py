"""Verdicts on requirements as Markdown: for a pull request, or a job's summary."""

import re
from collections.abc import Sequence

from otel_train.derive.summary import RunSummary
from otel_train.report.verdicts import count, finding, heading
from otel_train.requirements.judging import FAIL, NO_DATA, PASS, Verdict, outcome

MARKS = {PASS: "✅", FAIL: "❌", NO_DATA: "⚪"}


def markdown(verdicts: Sequence[Verdict], run: RunSummary) -> str:
    """A heading and a table, the requirements in the file's order."""
    worst = outcome(verdicts)
    rows = [
        f"| {MARKS[each.outcome]} {each.outcome} | {_code(each.requirement.name)} | {_code(each.requirement.expected)} "
        f"| {_plain(finding(each))} |"
        for each in verdicts
    ]
    head = [f"### {MARKS[worst]} Requirements: {count(verdicts)}", "", _plain(heading(run)), ""]
    return "\n".join([*head, "| verdict | measure | expected | found |", "|---|---|---|---|", *rows]) + "\n"


def _plain(text: str) -> str:
    """What would be markup, or end a cell, is none: names come from scripts."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """As code. A ``|`` ends a cell even there, and a backtick the code."""
    return f"`{' '.join(text.split()).replace('|', chr(92) + '|').replace('`', chr(39))}`"
