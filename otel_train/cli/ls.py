"""``otel-train ls``: the runs on disk."""

import json
from pathlib import Path
from typing import Any

import click

from otel_train.cli.options import directory_option, json_option, open_console, runs_directory


@click.command("ls")
@directory_option
@json_option
def command(directory: Path | None, as_json: bool) -> None:
    """List the recorded runs, the newest first."""
    from otel_train.errors import RunLogError
    from otel_train.report.listing import run_line, unreadable_line
    from otel_train.runlog.runs import runs_in

    where = runs_directory(directory)
    lines: list[dict[str, Any]] = []
    for run in runs_in(where):
        try:
            lines.append(run_line(run))
        except (RunLogError, OSError) as error:
            lines.append(unreadable_line(run, error))
    if as_json:
        click.echo(json.dumps(lines, indent=2))
    elif not lines:
        click.echo(f"No run is recorded in {where}. Try: otel-train demo")
    else:
        from otel_train.report.listing import listing
        from otel_train.report.terminal import print_plainly

        console = open_console()
        print_plainly(listing(lines, console.width), console)
