"""``otel-train report``: one run explained."""

import json
from pathlib import Path

import click

from otel_train.cli.options import directory_option, json_option, open_console, run_argument, runs_directory


@click.command("report")
@run_argument
@directory_option
@json_option
def command(wanted: str | None, directory: Path | None, as_json: bool) -> None:
    """Explain a run: how fast it was, where the time went, what bounds it."""
    from otel_train.derive.summary import summarize_run
    from otel_train.runlog.runs import find_run

    summary = summarize_run(find_run(runs_directory(directory), wanted))
    if as_json:
        from otel_train.report.as_json import run_as_dict

        click.echo(json.dumps(run_as_dict(summary), indent=2, allow_nan=False))
    else:
        from otel_train.report.terminal import print_report

        print_report(summary, open_console())
