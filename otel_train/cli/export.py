"""``otel-train export``: a run's records as a flat table, or its measures in an experiment tracker."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from otel_train.cli.options import directory_option, run_argument, runs_directory

if TYPE_CHECKING:
    from otel_train.runlog.ranklog import RankLog
    from otel_train.runlog.runs import Run
    from otel_train.tables import Table


@click.command("export")
@run_argument
@click.option(
    "--to",
    "form",
    type=click.Choice(["csv", "json", "parquet", "tensorboard", "mlflow"]),
    required=True,
    help="The format, or the tracker.",
)
@click.option(
    "--what",
    type=click.Choice(["steps", "scalars", "events"]),
    default="steps",
    show_default=True,
    help="Which records.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="The file; of tensorboard the folder. Default: standard output; RUN-WHAT.parquet; runs.",
)
@click.option("--rank", type=click.IntRange(min=0), help="This rank only.")
@directory_option
def command(
    wanted: str | None, form: str, what: str, output: Path | None, rank: int | None, directory: Path | None
) -> None:
    """Write a run's records as CSV, JSON or Parquet: a row a step, or a logged value, or an event.

    What is missing is an empty cell or a null. Times are seconds, moments Unix seconds.

    To a tracker go the run's measures, a row an interval, as the trackers setting sends them while it trains. MLflow is
    where MLFLOW_TRACKING_URI says; MLFLOW_RUN_ID is a run to write to, otherwise it gets a new one.
    """
    from otel_train.runlog.runs import find_run
    from otel_train.tables import TABLES, write_csv, write_json, write_parquet

    run = find_run(runs_directory(directory), wanted)
    if form in ("tensorboard", "mlflow"):
        _tell_tracker(run, form, output)
        return
    table = TABLES[what](_chosen(run.ranks(), rank))
    if form == "parquet":
        path = output or Path(f"{run.id}-{what}.parquet")
        rows = write_parquet(table, path)
    elif output is None:
        (write_csv if form == "csv" else write_json)(table, sys.stdout)
        return
    else:
        path, rows = output, _write_text(write_csv if form == "csv" else write_json, table, output)
    click.echo(f"{rows:,} rows are in {path}", err=True)


def _tell_tracker(run: "Run", form: str, output: Path | None) -> None:
    from otel_train.trackers.recorded import to_mlflow, to_tensorboard

    rows, place = to_mlflow(run) if form == "mlflow" else to_tensorboard(run, output or Path("runs"))
    click.echo(f"{rows:,} rows and the summary are in {place}", err=True)


def _chosen(logs: "Sequence[RankLog]", rank: int | None) -> "list[RankLog]":
    chosen = [log for log in logs if rank is None or log.rank == rank]
    if not chosen:
        known = ", ".join(str(log.rank) for log in logs)
        raise click.BadParameter(f"got {rank}; this run has rank {known}", param_hint="--rank")
    return chosen


def _write_text(write: "Callable[[Table, TextIO], int]", table: "Table", output: Path) -> int:
    with output.open("w", newline="", encoding="utf-8") as file:
        return write(table, file)
