"""Rules in Python: a function that looks at the figures and says whether something is wrong."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from otel_train.alerts.rules import Rule

Predicate = TypeVar("Predicate", bound=Callable[[Mapping[str, float]], object])

_rules: "dict[str, tuple[Callable[[Mapping[str, float]], object], dict[str, object]]]" = {}


def alert_rule(
    name: str, *, for_s: float = 0.0, severity: str = "warning", says: str = "", do: str = "", while_quiet: bool = False
) -> Callable[[Predicate], Predicate]:
    """Make a function a rule, for runs that begin after it.

    It gets the measures by name (``docs/alerts.md``; ``KeyError`` where one has no value now, which is no alert), and
    its answer's truth, every 5 s on a thread of otel_train's, is the condition: true for ``for_s`` seconds, the alert
    fires. ``says`` is what it means, ``do`` what to do. Raises ``SettingsError``.
    """
    from otel_train.alerts.rules import check_rule

    check_rule(name, for_s, severity, says, do)

    def remember(function: Predicate) -> Predicate:
        _rules[name] = function, {
            "for_s": float(for_s), "severity": severity, "says": says or name, "do": do, "while_quiet": while_quiet
        }  # fmt: skip
        return function

    return remember


def predicates() -> "list[Rule]":
    """The rules so far."""
    if not _rules:
        return []
    from otel_train.alerts.rules import Rule

    return [Rule(name, "", above=0.5, predicate=function, **given) for name, (function, given) in _rules.items()]  # type: ignore[arg-type]


def forget() -> None:
    """For tests: there are none."""
    _rules.clear()
