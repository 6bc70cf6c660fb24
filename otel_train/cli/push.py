"""``otel-train push``: sends what no backend has acknowledged."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from otel_train.cli.options import directory_option, run_argument, runs_directory

if TYPE_CHECKING:
    from otel_train.runlog.ranklog import RankLog
    from otel_train.settings import Settings


@click.command("push")
@run_argument
@click.option("--endpoint", help="Where OTLP goes. Default: OTEL_EXPORTER_OTLP_ENDPOINT.")
@directory_option
def command(wanted: str | None, endpoint: str | None, directory: Path | None) -> None:
    """Send what a backend has not acknowledged yet, of every rank; exit with 1 when something remains.

    Nothing is sent twice: a cursor beside each rank's log remembers what was acknowledged.
    """
    import os

    from otel_train.export import endpoint_is_set
    from otel_train.runlog.runs import find_run
    from otel_train.settings import load

    settings = load({"endpoint": endpoint})
    if not settings.endpoint and not endpoint_is_set(os.environ):
        raise click.ClickException(
            "no endpoint is set, so there is nowhere to send to. "
            "Type: otel-train push --endpoint http://localhost:4318, or set OTEL_EXPORTER_OTLP_ENDPOINT"
        )
    run = find_run(runs_directory(directory), wanted)
    click.echo(f"Run {run.id}")
    remaining, logs = 0, run.ranks()
    for number, log in enumerate(logs, 1):
        left, is_reached = _push_rank(log, settings)
        remaining += left
        if not is_reached and number < len(logs):
            click.echo(f"  the backend does not answer: {len(logs) - number} more ranks were not tried")
            break
    if remaining:
        raise click.ClickException("not all is acknowledged. Nothing is lost, it stays on disk: type the same later.")


def _push_rank(log: "RankLog", settings: "Settings") -> tuple[int, bool]:
    """Send one rank's; how many of its steps remain (at least 1 while anything does), and was the backend there?"""
    from otel_train.export import Exporter, make_targets

    targets = make_targets(
        log.identity, endpoint=settings.endpoint, headers=settings.headers or None, protocol=settings.protocol
    )
    if not any(vars(targets).values()):
        raise click.ClickException("sending is turned off, by OTEL_SDK_DISABLED=true or OTEL_TRACES_EXPORTER=none")
    exporter = Exporter(log, targets)
    if not exporter.acquire():
        waiting = exporter.pending()
        click.echo(f"  rank {log.rank}: {waiting:,} steps to go, which another process is sending")
        return waiting, True
    before = exporter.pending()
    try:
        complete = exporter.drain(final=True, deadline=None)
    finally:
        exporter.release()
    remaining = exporter.pending()
    click.echo(f"  rank {log.rank}: {before - remaining:,} steps sent, {remaining:,} remain")
    if exporter.dropped:
        click.echo(f"    {exporter.dropped:,} records were no longer on disk, or were refused", err=True)
    for signal, count in sorted(exporter.failures.items()):
        click.echo(f"    {signal}: {count} failed requests", err=True)
    return remaining or (0 if complete else 1), not exporter.failures or remaining < before
