"""``otel-train alerts``: the rules in force, a trial of every way to be told, and the rules over a recorded run."""

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from otel_train.cli.options import directory_option, open_console, run_argument, runs_directory

if TYPE_CHECKING:
    from otel_train.alerts.notification import Notification
    from otel_train.alerts.rules import Rule
    from otel_train.settings import Settings

rules_option = click.option(
    "--rules", "file", type=click.Path(path_type=Path), help="A YAML file of rules. Default: OTEL_TRAIN_ALERTS."
)

COLOURS = {"info": "cyan", "warning": "yellow", "critical": "red"}


@click.group("alerts")
def command() -> None:
    """Show the rules that watch a run, try how they tell, or run them over what was recorded."""


@command.command("list")
@rules_option
def list_rules(file: Path | None) -> None:
    """List the rules in force."""
    from otel_train.alerts.wording import condition

    rules = _rules(file)
    widest = max((len(rule.name) for rule in rules), default=0)
    for rule in rules:
        severity = click.style(f"{rule.severity:9}", fg=COLOURS[rule.severity])
        click.echo(f"{rule.name:{widest}}  {severity} {condition(rule)}{'' if rule.built_in else '  (own)'}")


@command.command("prometheus")
@rules_option
def prometheus_rules(file: Path | None) -> None:
    """Print the rules in force as a Prometheus rule file."""
    from otel_train.alerts.prometheus import rule_file

    click.echo(rule_file(_rules(file)), nl=False)


@command.command("test")
@click.argument("rule")
@rules_option
def test_rule(rule: str, file: Path | None) -> None:
    """Let RULE fire once through every channel: terminal, notifications, OTLP; exit with 1 when one fails."""
    from otel_train.alerts.notify import ways
    from otel_train.alerts.watch import log_line
    from otel_train.settings import load

    settings = load()
    chosen = {known.name: known for known in _rules(file)}
    if rule not in chosen:
        raise click.ClickException(f"there is no rule {rule!r}; there are {', '.join(sorted(chosen))}")
    told = _trial(chosen[rule])
    log_line(told)
    failed = 0
    for way in ways(settings):
        failed += not _tried(way.name, lambda way=way: way.send(told))
    where = _otlp_endpoint(settings)
    if where is not None:
        failed += not _tried(f"OTLP ({where})", lambda: _send_event(chosen[rule], settings))
    else:
        click.echo("  OTLP: no endpoint is set, nothing was sent")
    if failed:
        raise click.exceptions.Exit(1)


@command.command("replay")
@run_argument
@rules_option
@directory_option
def replay_run(wanted: str | None, file: Path | None, directory: Path | None) -> None:
    """Run the rules over a recorded RUN: what they would have said, and when."""
    from otel_train.alerts.replay import replay
    from otel_train.alerts.wording import duration, say
    from otel_train.report.terminal import print_plainly
    from otel_train.runlog.runs import find_run

    run = find_run(runs_directory(directory), wanted)
    rules, console = _rules(file), open_console()
    click.echo(f"Run {run.id}")
    found = 0
    for log in run.ranks():
        for each in replay(log, rules):
            found += 1
            rule, change = each.change.rule, each.change
            at = duration((each.time_ns - log.anchor.monotonic_ns) / 1e9)
            step = "" if each.step is None else f", step {each.step}"
            state = "over" if change.resolved else rule.severity
            text = say(rule.says, rule, change.label, change.value)
            print_plainly(f"  rank {log.rank}, after {at}{step}: {rule.name} {state}. {text}", console)
    if not found:
        click.echo("  no rule fires")


def _rules(file: Path | None) -> "list[Rule]":
    from otel_train.alerts.rules import rules_in_force
    from otel_train.settings import load

    if file is not None:
        return rules_in_force(file)
    setting = load().alerts
    return rules_in_force(setting if isinstance(setting, Path) else None)


def _trial(rule: "Rule") -> "Notification":
    from otel_train.alerts.notification import Notification
    from otel_train.alerts.wording import say

    text = say(rule.says, rule, "(a trial)", rule.threshold)
    return Notification(
        rule.name, rule.severity, False, f"This is a trial. {text}", say(rule.do, rule, "", rule.threshold),
        time.time(), "trial", 0, socket.gethostname(), "(a trial)", None, rule.threshold, rule.threshold,
    )  # fmt: skip


def _tried(name: str, send: Any) -> bool:
    from otel_train.errors import OtelTrainError

    try:
        send()
    except (OtelTrainError, OSError) as error:
        click.echo(f"  {name}: failed. {error}", err=True)
        return False
    click.echo(f"  {name}: taken")
    return True


def _otlp_endpoint(settings: "Settings") -> str | None:
    import os

    from otel_train.export import endpoint_is_set

    if settings.endpoint:
        return settings.endpoint
    return "as the environment has it" if endpoint_is_set(os.environ) else None


def _send_event(rule: "Rule", settings: "Settings") -> None:
    """The event as a run would write it, in a record of its own in memory."""
    from otel_train.alerts.engine import Change
    from otel_train.alerts.watch import event_of
    from otel_train.clock import Anchor
    from otel_train.errors import OtelTrainError
    from otel_train.export import Exporter, make_targets
    from otel_train.runlog.layout import FORMAT_VERSION
    from otel_train.runlog.ranklog import RankLog
    from otel_train.runlog.storage import Memory
    from otel_train.store import Store

    anchor = Anchor.now()
    store = Store(Memory(), settings.max_disk)
    store.write_identity({
        "format_version": FORMAT_VERSION, "run_id": "trial", "rank": 0, "world_size": 1, "anchor": vars(anchor),
        "service_name": settings.service_name or "otel-train",
    })  # fmt: skip
    change = Change(rule, "(a trial)", False, rule.threshold, 0.0, True)
    store.write_event(event_of(change, anchor.monotonic_ns, None, 1))
    log = RankLog(store)
    targets = make_targets(
        log.identity, endpoint=settings.endpoint, headers=settings.headers or None, protocol=settings.protocol
    )
    exporter = Exporter(log, targets)
    if not exporter.drain(final=True):
        raise OtelTrainError("the backend did not take it: otel-train doctor says why")
