"""A rule as data: a measure, a condition that has to hold for a while, when it is over again, and what to say.

Rules of the user's own are YAML::

    alerts:
      - rule: epoch_too_slow            # a rule of one's own
        measure: step.rate
        below: 12
        for: 2m
        clear: 13                       # is over above this; without it, at the threshold
        severity: warning               # info, warning, critical
        says: "{value} steps a second, below {threshold}"
        do: "Look at the report."
      - rule: gpu_hot                   # a built-in one: what is given replaces its own
        above: 85
      - rule: loss_flat
        disabled: true
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from otel_train.alerts.measures import is_measure, is_share, measure_names, unknown_attributes
from otel_train.alerts.notification import SEVERITIES, WARNING
from otel_train.errors import SettingsError
from otel_train.resource_names import attributes_of

KEYS = ("rule", "measure", "above", "below", "for", "clear", "severity", "says", "do", "while_quiet", "disabled")
NEEDED = ("measure", "says")
SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
FIGURES = ("value", "threshold", "label", "for")
"""What ``says`` and ``do`` may name in braces."""

MOST_RULES = 500


class AlertRuleError(SettingsError):
    """A rule is wrong: where, what was got, what is allowed."""


@dataclass(frozen=True)
class Rule:
    """When a measure is bad, for how long it has to be, and what that means."""

    name: str
    measure: str
    above: float | None = None
    below: float | None = None
    for_s: float = 0.0
    clear: float | None = None
    """The value at which it is over; None is the threshold itself."""
    severity: str = WARNING
    says: str = ""
    """With the figures of ``FIGURES`` in braces."""
    do: str = ""
    while_quiet: bool = False
    """Also judged during evaluations, checkpoints and compilation."""
    built_in: bool = field(default=False, compare=False)
    predicate: Callable[[Mapping[str, float]], object] | None = field(default=None, compare=False)
    """Judges in place of a threshold: by the values of all measures that have one."""

    @property
    def threshold(self) -> float | None:
        """What the measure is compared with; None for a rule in Python."""
        return self.above if self.above is not None else self.below

    def is_bad(self, value: float) -> bool:
        """Is the condition met?"""
        return value > self.above if self.above is not None else self.below is not None and value < self.below

    def is_over(self, value: float) -> bool:
        """Is a rule that has fired over at this value?"""
        if self.clear is None:
            return not self.is_bad(value)
        return value <= self.clear if self.above is not None else value >= self.clear


@cache
def built_in() -> dict[str, Rule]:
    """The rules that come with otel_train, by name."""
    text = (resources.files("otel_train.alerts") / "builtin.yaml").read_text()
    return {rule.name: replace(rule, built_in=True) for rule in _parse(text, "builtin.yaml", {}).values()}


def rules_in_force(at: Path | None, predicates: Iterable[Rule] = ()) -> list[Rule]:
    """The built-in rules, those of a file on top, and those in Python. Raises ``AlertRuleError``."""
    rules = dict(built_in())
    if at is not None:
        try:
            text = at.expanduser().read_text()
        except (OSError, ValueError, RuntimeError) as error:  # the last one for ~nobody
            raise AlertRuleError(f"OTEL_TRAIN_ALERTS={at} cannot be read: {error}") from error
        rules = _parse(text, str(at), rules)
    return list((rules | {rule.name: rule for rule in predicates}).values())


def check_rule(name: object, for_s: object, severity: object, *texts: object) -> None:
    """What a rule in Python is given. Raises ``AlertRuleError``."""
    where = "alert_rule()"
    _name({"rule": name}, where)
    if not isinstance(for_s, int | float) or isinstance(for_s, bool) or not 0 <= for_s < float("inf"):
        raise AlertRuleError(f"{where}: for_s is {for_s!r}; allowed are seconds, 0 or more")
    _severity(severity, where)
    for text in texts:
        if text != "":
            _text(text, "says or do", where)


def _parse(text: str, at: str, known: dict[str, Rule]) -> dict[str, Rule]:
    """The known rules with those of a text on top."""
    rules = dict(known)
    seen: dict[str, int] = {}
    for line, entry in _entries(text, at):
        where = f"{at}, line {line}"
        name = _name(entry, where)
        if name in seen:
            raise AlertRuleError(f"{where}: the rule {name!r} is there already, in line {seen[name]}")
        seen[name] = line
        if _flag(entry, "disabled", where):
            if name not in known:
                raise AlertRuleError(f"{where}: there is no rule {name!r} to disable; there are {_listed(known)}")
            rules.pop(name, None)
        else:
            rules[name] = _rule(name, entry, where, known.get(name))
    return rules


def _entries(text: str, at: str) -> list[tuple[int, dict[str, Any]]]:
    """The list under ``alerts``, each entry with its line."""
    import yaml

    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return []
        pairs = root.value if isinstance(root, yaml.MappingNode) else []
        lists = [node for key, node in pairs if key.value == "alerts"]
        if len(lists) != 1 or len(pairs) != 1 or not isinstance(lists[0], yaml.SequenceNode):
            raise AlertRuleError(f"{at}, line {root.start_mark.line + 1}: allowed is a list under alerts: and no more")
        for node in lists[0].value:
            _check_keys(node, at)
        found = [(node.start_mark.line + 1, loader.construct_document(node)) for node in lists[0].value]
    except yaml.YAMLError as error:
        raise AlertRuleError(f"{at} cannot be read as YAML: {error}") from error
    finally:
        loader.dispose()
    if len(found) > MOST_RULES:
        raise AlertRuleError(f"{at} has {len(found)} rules; allowed are {MOST_RULES}")
    for line, entry in found:
        if not isinstance(entry, dict):
            raise AlertRuleError(f"{at}, line {line}: got {entry!r}; allowed is a mapping with {', '.join(KEYS)}")
    return found


def _check_keys(node: Any, at: str) -> None:
    """YAML takes the last of a key that is given twice, in silence."""
    keys = [key.value for key, _ in node.value] if isinstance(node.value, list) and node.id == "mapping" else []
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise AlertRuleError(f"{at}, line {node.start_mark.line + 1}: {twice[0]!r} is given twice")


def _name(entry: dict[str, Any], where: str) -> str:
    for key in entry:
        if key not in KEYS:
            raise AlertRuleError(f"{where}: got {key!r}; allowed are {', '.join(KEYS)}")
    name = entry.get("rule")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][\w.-]{0,63}", name):
        raise AlertRuleError(f"{where}: rule is {name!r}; allowed is a name of letters, digits, '_', '-' and '.'")
    return name


def _rule(name: str, entry: dict[str, Any], where: str, before: Rule | None) -> Rule:
    rule = before or Rule(name, "")
    given: dict[str, Any] = {}
    if before is None:
        for key in NEEDED:
            if key not in entry:
                raise AlertRuleError(
                    f"{where}: the rule {name!r} has no {key}; built-in rules are {_listed(built_in())}"
                )
    if "measure" in entry:
        given["measure"] = _measure(entry["measure"], where)
    for key in ("above", "below", "clear"):
        if key in entry:
            given[key] = _number(entry[key], key, where)
    if "above" in given:
        given.setdefault("below", None)
    elif "below" in given:
        given.setdefault("above", None)
    if "for" in entry:
        given["for_s"] = _seconds(entry["for"], where)
    if "severity" in entry:
        given["severity"] = _severity(entry["severity"], where)
    given |= {key: _text(entry[key], key, where) for key in ("says", "do") if key in entry}
    if "while_quiet" in entry:
        given["while_quiet"] = _flag(entry, "while_quiet", where)
    if ("above" in given or "below" in given) and "clear" not in given:
        given["clear"] = None  # that of another threshold
    rule = replace(rule, built_in=False, **given)
    _check_condition(rule, where)
    return rule


def _check_share(rule: Rule, where: str) -> None:
    """A share of more than 1 never is: 95 was meant to be 95%."""
    for key in ("above", "below", "clear"):
        value = getattr(rule, key)
        if value is not None and abs(value) > 1 and is_share(rule.measure):
            raise AlertRuleError(f"{where}: {key} is {value:g}, but {rule.measure} is a part of 1; allowed is 0 to 1, "
                                 f"or a percentage: {value:g}%")  # fmt: skip


def _check_condition(rule: Rule, where: str) -> None:
    _check_share(rule, where)
    if (rule.above is None) == (rule.below is None):
        raise AlertRuleError(f"{where}: the rule {rule.name!r} needs either above or below")
    if rule.clear is None:
        return
    if (rule.above is not None and rule.clear > rule.above) or (rule.below is not None and rule.clear < rule.below):
        side = "at most" if rule.above is not None else "at least"
        raise AlertRuleError(f"{where}: clear is {rule.clear:g}; allowed is {side} the threshold, {rule.threshold:g}")


def _measure(value: object, where: str) -> str:
    if not isinstance(value, str) or not is_measure(value):
        raise AlertRuleError(f"{where}: measure is {value!r}; allowed are {', '.join(measure_names())}, a value given "
                             "to log() as log.<name>, and the name of a resource metric (docs/telemetry.md), with "
                             "attributes or without: hw.temperature{hw.sensor_location=gpu}")  # fmt: skip
    _check_attributes(value, where)
    return value


def _check_attributes(measure: str, where: str) -> None:
    """No series has an attribute that its metric does not: a rule on it would never fire."""
    for wrong in unknown_attributes(measure):
        metric, _, _ = measure.partition("{")
        allowed = ", ".join(attributes_of(metric)) or "none"
        raise AlertRuleError(f"{where}: measure has the attribute {wrong!r}; allowed for {metric} are {allowed}")


def _number(value: object, key: str, where: str) -> float:
    if isinstance(value, str) and (match := re.fullmatch(r"\s*([-+.\deE]+)\s*%\s*", value)):
        return _number(_float(match[1]), key, where) / 100
    number = None if isinstance(value, bool) else _float(value)
    if number is None or number != number or number in (float("inf"), float("-inf")):
        raise AlertRuleError(f"{where}: {key} is {value!r}; allowed is a number, or a percentage such as 90%")
    return number


def _severity(value: object, where: str) -> str:
    if value not in SEVERITIES:
        raise AlertRuleError(f"{where}: severity is {value!r}; allowed are {', '.join(SEVERITIES)}")
    return str(value)


def _float(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def _seconds(value: object, where: str) -> float:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|min|h|d|)\s*", str(value))
    if match is None or isinstance(value, bool):
        raise AlertRuleError(f"{where}: for is {value!r}; allowed is a time: 30s, 5m, 2h")
    return float(match[1]) * SECONDS[match[2]]


def _flag(entry: dict[str, Any], key: str, where: str) -> bool:
    value = entry.get(key, False)
    if not isinstance(value, bool):
        raise AlertRuleError(f"{where}: {key} is {value!r}; allowed are true and false")
    return value


def _text(value: object, key: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise AlertRuleError(f"{where}: {key} is {value!r}; allowed is text that is not empty")
    for name in re.findall(r"\{([^{}]*)\}", value):
        if name not in FIGURES:
            allowed = ", ".join(f"{{{figure}}}" for figure in FIGURES)
            raise AlertRuleError(f"{where}: {key} has {{{name}}}; allowed are {allowed}")
    return " ".join(value.split())


def _listed(rules: Mapping[str, Rule]) -> str:
    return ", ".join(sorted(rules))
