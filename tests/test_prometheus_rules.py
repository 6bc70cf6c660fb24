"""The rule file for Prometheus: one rule for each of otel_train's own, written from the same data."""

from pathlib import Path

import yaml
from click.testing import CliRunner

from otel_train.alerts.prometheus import MEASURES, rule_file
from otel_train.alerts.rules import built_in
from otel_train.alerts.wording import condition
from otel_train.cli import group

WRITTEN = Path(__file__).parents[1] / "stack" / "prometheus" / "rules" / "otel_train.yml"


def test_the_stacks_file_is_what_the_rules_say():
    """After a change: ``otel-train alerts prometheus > stack/prometheus/rules/otel_train.yml``."""
    assert WRITTEN.read_text() == rule_file(built_in().values())


def test_each_rule_is_there():
    """By its name, with its severity, its condition and what to do."""
    measures, alerts = yaml.safe_load(WRITTEN.read_text())["groups"]
    assert list(MEASURES) == [rule["record"] for rule in measures["rules"]]
    for rule, written in zip(built_in().values(), alerts["rules"], strict=True):
        assert (rule.name, rule.severity) == (written["alert"], written["labels"]["severity"])
        assert f'otel_train_alert_rule="{rule.name}"' in written["expr"]
        assert written["annotations"]["summary"].endswith(f": {condition(rule)}")
        assert rule.do == written["annotations"]["description"]


def test_rules_of_ones_own(tmp_path):
    """They come with their thresholds; what is disabled is left out; braces of figures are no templates."""
    own = tmp_path / "rules.yaml"
    own.write_text(
        "alerts:\n"
        "  - {rule: too_slow, measure: step.rate, below: 12, for: 2m, says: slow, do: 'not {value}, but {threshold}'}\n"
        "  - {rule: gpu_hot, above: 85}\n"
        "  - {rule: loss_flat, disabled: true}\n"
    )
    result = CliRunner().invoke(group, ["alerts", "prometheus", "--rules", str(own)])
    assert 0 == result.exit_code, result.output
    written = {rule["alert"]: rule for rule in yaml.safe_load(result.output)["groups"][1]["rules"]}
    assert "loss_flat" not in written
    assert "above 85" in written["gpu_hot"]["annotations"]["summary"]
    assert "not …, but …" == written["too_slow"]["annotations"]["description"]
