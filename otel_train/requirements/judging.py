"""Requirements against a run: pure, from a summary to verdicts."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from otel_train.derive.summary import RunSummary
from otel_train.requirements.conditions import Condition
from otel_train.requirements.requirement import Requirement

PASS, FAIL, NO_DATA = "PASS", "FAIL", "NO DATA"

EXIT_CODES = {PASS: 0, FAIL: 1, NO_DATA: 2}


@dataclass(frozen=True)
class Verdict:
    """What came of one requirement."""

    requirement: Requirement
    outcome: str
    """``PASS``, ``FAIL`` or ``NO DATA``."""
    value: float | None
    """In the measure's unit; None without data."""
    missed: Condition | None = None
    """The condition that does not hold; of two the one that is missed by more."""
    remark: str = ""
    """What has to be said with the number; or why there is none."""

    @property
    def missed_by(self) -> float | None:
        """How far the value is from the bound, in the measure's unit; None where nothing was missed."""
        return self.missed.missed_by(self.value) if self.missed and self.value is not None else None

    @property
    def missed_by_share(self) -> float | None:
        """The same as a part of the bound; None where that is 0."""
        missed_by, bound = self.missed_by, self.missed.bound.value if self.missed else 0
        return missed_by / abs(bound) if missed_by is not None and bound else None


def judge(requirements: Iterable[Requirement], run: RunSummary) -> list[Verdict]:
    """The verdict on each, in the file's order."""
    return [_judge(requirement, run) for requirement in requirements]


def outcome(verdicts: Sequence[Verdict]) -> str:
    """What came of all: ``FAIL`` where one failed, otherwise ``NO DATA`` where one had none."""
    return max((verdict.outcome for verdict in verdicts), key=[PASS, NO_DATA, FAIL].index, default=NO_DATA)


def _judge(requirement: Requirement, run: RunSummary) -> Verdict:
    found = requirement.of(run)
    value = found.value
    if value is None or not math.isfinite(value):
        return Verdict(requirement, NO_DATA, None, remark=found.remark or _why_not(requirement, run))
    missed = [condition for condition in requirement.conditions if not condition.holds(value)]
    if not missed:
        return Verdict(requirement, PASS, value, remark=found.remark)
    worst = max(missed, key=lambda condition: condition.missed_by(value))
    return Verdict(requirement, FAIL, value, worst, found.remark)


def _why_not(requirement: Requirement, run: RunSummary) -> str:
    family, _, which = requirement.name.partition(".")
    if family in ("alert", "alerts"):
        return _why_no_alerts(which, run)
    if not run.merged.counts.training and family not in ("log", "resource"):
        return "the run has no training step on record"
    recorded = {
        "phase": [phase.name for phase in run.merged.phases],
        "log": list(run.merged.scalars),
        "resource": list(run.merged.resources),
    }.get(family)
    if recorded is None or not which:
        return "the run did not record it"
    name = which.rpartition(".")[0]
    if name in recorded:
        return "the run recorded no value of it"
    return f"the run recorded no {_WORDS[family]} {name!r}; {_there_is(name, recorded)}"


_WORDS = {"phase": "phase", "log": "logged value", "resource": "resource"}


def _there_is(name: str, recorded: Sequence[str]) -> str:
    near = get_close_matches(name, recorded, 3, 0.4) or list(recorded[:5])
    return f"there is {', '.join(near)}" if near else "there is none"


def _why_no_alerts(rule: str, run: RunSummary) -> str:
    if rule and run.merged.watched_rules:
        return f"the rule {rule} was not in force on every rank"
    off = [rank for rank, identity in run.identities.items() if identity.get("settings", {}).get("alerts") == "False"]
    if off:
        return f"alerts were off on rank {off[0]}"
    return "the record does not say that every rank was watched: runs under 5 s, or killed within 30 s, do not"


__all__ = ["EXIT_CODES", "FAIL", "NO_DATA", "PASS", "Verdict", "judge", "outcome"]
