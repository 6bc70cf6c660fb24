"""``otel-train doctor``: is everything in place?"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from otel_train.cli.options import directory_option, json_option, open_console

if TYPE_CHECKING:
    from otel_train.doctor import Check

STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}


@click.command("doctor")
@directory_option
@json_option
def command(directory: Path | None, as_json: bool) -> None:
    """Show the settings in force and check the directory, the endpoint and the GPU; exit with 1 on a problem."""
    from otel_train.doctor import PROBLEM, examine, versions
    from otel_train.settings import explain, load_with_sources

    loaded = load_with_sources({"dir": directory})
    settings = explain(loaded)
    checks = examine(loaded.settings)
    if as_json:
        content = {
            "settings": [
                dict(zip(("name", "value", "source", "variable"), setting, strict=True)) for setting in settings
            ],
            "checks": [vars(check) for check in checks],
            "versions": versions(),
        }
        click.echo(json.dumps(content, indent=2))
    else:
        _show(settings, checks, versions())
    if any(check.status == PROBLEM for check in checks):
        raise click.exceptions.Exit(1)


def _show(settings: list[tuple[str, str, str, str]], checks: "list[Check]", versions: dict[str, str | None]) -> None:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from otel_train.report.sections import columns
    from otel_train.report.terminal import print_plainly

    table = columns(("value", "left"), ("from", "left"), title="Settings")
    for name, value, source, _ in settings:
        table.add_row(f"  {name}", value, Text(source, style="dim" if source == "default" else ""))
    findings = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for check in checks:
        findings.add_row(f"  {check.name}", Text(check.status, style=STYLES[check.status]), check.text)
    installed = ", ".join(f"{name} {version or '(not installed)'}" for name, version in versions.items())
    heading = Text("Checks", style="bold")
    print_plainly(
        Group(table, "", heading, findings, "", Text("Versions", style="bold"), f"  {installed}"), open_console()
    )
