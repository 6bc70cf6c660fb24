"""Adding up what several ranks recorded under the same names."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

from otel_train.derive.event_totals import ErrorTotal
from otel_train.derive.scan import RankScan


class Mergeable(Protocol):
    """A total that can take in another of its kind."""

    def merge(self, other: Any) -> None:
        """Add the other to this one."""
        ...


M = TypeVar("M", bound=Mergeable)


def added(totals: Iterable[Mapping[str, M]]) -> dict[str, M]:
    """The totals of all ranks by name, in the order of first appearance. The ranks' own stay as they are."""
    result: dict[str, M] = {}
    for mapping in totals:
        for name, total in mapping.items():
            if name in result:
                result[name].merge(total)
            else:
                result[name] = copy.copy(total)
    return result


def merged_errors(scans: Iterable[RankScan]) -> list[ErrorTotal]:
    """The errors of all ranks, the most frequent first."""
    totals = added(
        {f"{kind} {phase or ''}": total for (kind, phase), total in scan.events.errors.items()} for scan in scans
    )
    return sorted(totals.values(), key=lambda total: (-total.count, total.type, total.phase or ""))


def common_rules(watched: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    """The rules that were in force on all ranks; None where one was not watched, or does not say so."""
    sets = list(watched)
    known = [rules for rules in sets if rules is not None]
    return frozenset.intersection(*known) if known and len(known) == len(sets) else None


def health_total(scans: Iterable[RankScan], name: str) -> float | None:
    """The sum over the ranks that told; None when none did."""
    told = [scan.events.health.get(name) for scan in scans]
    known = [float(value) for value in told if isinstance(value, int | float)]
    return sum(known) if known else None
