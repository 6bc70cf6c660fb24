"""The rules as Prometheus has them: a rule file for the stack, or for any Prometheus that gets the metrics.

A run judges itself, by what is usual for it and with all that its record holds; ``otel_train.alert.active`` says what
fires. The alerting rules stand on that, one for each rule in force: there is one judge, and Prometheus says what the
terminal says. Recording rules are the figures that dashboards and people ask for most.
"""

from collections.abc import Iterable
from typing import Any

from otel_train import names
from otel_train.alerts.rules import Rule
from otel_train.alerts.wording import condition
from otel_train.prometheus_names import (
    COUNTER,
    DATA_WAIT,
    GAUGE,
    HISTOGRAM,
    RANK,
    RUN,
    TRAINING,
    escaped,
    prometheus_name,
)

BY = f"job, {RUN}, {RANK}"
STEP = prometheus_name(names.STEP_DURATION, HISTOGRAM)
PACE = "1m"

MEASURES = {
    f"{RUN}:{STEP}:p50": f"histogram_quantile(0.5, sum by (job, {RUN}) (rate({STEP}{{{TRAINING}}}[{PACE}])))",
    f"{RUN}:{STEP}:p99": f"histogram_quantile(0.99, sum by (job, {RUN}) (rate({STEP}{{{TRAINING}}}[{PACE}])))",
    f"{RUN}_{RANK}:data_wait:ratio": (
        f"sum by ({BY}) (rate({prometheus_name(names.PHASE_TIME, COUNTER)}{{{TRAINING}, {DATA_WAIT}}}[{PACE}]))"
        f" / sum by ({BY}) (histogram_sum(rate({STEP}{{{TRAINING}}}[{PACE}])))"
    ),
    f"{RUN}:{prometheus_name(names.SAMPLE_RATE, GAUGE)}:sum": (
        f"sum by (job, {RUN}) ({prometheus_name(names.SAMPLE_RATE, GAUGE)})"
    ),
    f"{RUN}:{prometheus_name(names.ALERTS_ACTIVE, GAUGE)}:sum": (
        f"sum by (job, {RUN}) ({prometheus_name(names.ALERTS_ACTIVE, GAUGE)})"
    ),
}
"""Recording rules, by name: of a run, or of a rank of it."""


def rule_file(rules: Iterable[Rule]) -> str:
    """The YAML of a rule file."""
    import yaml

    groups = [
        {"name": "otel_train.measures", "interval": "15s", "rules": [
            {"record": name, "expr": expression} for name, expression in MEASURES.items()
        ]},
        {"name": "otel_train.alerts", "interval": "15s", "rules": [_alert(rule) for rule in rules]},
    ]  # fmt: skip
    head = "# Written by `otel-train alerts prometheus`, which writes it again with rules of your own.\n"
    return head + str(yaml.safe_dump({"groups": groups}, sort_keys=False, width=1000, allow_unicode=True))


def _alert(rule: Rule) -> dict[str, Any]:
    """It has held for the rule's own time when the run says that it fires: nothing is waited for here."""
    active = f'{prometheus_name(names.ALERTS_ACTIVE, GAUGE)}{{{escaped(names.ALERT_RULE)}="{rule.name}"}}'
    return {
        "alert": rule.name,
        "expr": f"{active} > 0",
        "labels": {"severity": rule.severity},
        "annotations": {
            "summary": f"{{{{ $labels.{RUN} }}}} rank {{{{ $labels.{RANK} }}}}: {condition(rule)}",
            **({"description": _plain(rule.do)} if rule.do else {}),
        },
    }


def _plain(text: str) -> str:
    """Without figures, which are known to the run alone, and without what Prometheus would take for a template."""
    for name in ("value", "threshold", "label", "for"):
        text = text.replace("{" + name + "}", "…")
    return text.replace("{{", "{ {")
