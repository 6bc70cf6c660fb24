"""``otel-train baseline``: runs to compare later ones with, under a name, in a file that can be committed."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from otel_train.cli.options import directory_option, json_option, open_console, runs_directory

if TYPE_CHECKING:
    from otel_train.derive.fingerprint import Fingerprint

file_option = click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file of baselines. Default: otel-train-baselines.json here.",
)


def baselines_file(option: Path | None) -> Path:
    """The file given, or the default."""
    from otel_train.baselines import FILE

    return option or FILE


@click.group("baseline")
def command() -> None:
    """Keep runs to compare later ones with."""


@command.command("set")
@click.argument("name")
@click.argument("wanted", metavar="RUN...", nargs=-1, required=True)
@file_option
@directory_option
def set_(name: str, wanted: tuple[str, ...], file: Path | None, directory: Path | None) -> None:
    """Keep RUN, or several that did the same, as NAME. A * in RUN stands for anything."""
    from otel_train.baselines import set_baseline
    from otel_train.errors import ComparisonError

    runs = side_of(wanted, runs_directory(directory))
    if not all(run.steps for run in runs):
        raise ComparisonError("no baseline was set: a run among them has no steady step")
    path = baselines_file(file)
    set_baseline(name, runs, path)
    click.echo(f"{name}: {', '.join(run.run_id for run in runs)}, in {path}")


@command.command("show")
@click.argument("name")
@file_option
@json_option
def show(name: str, file: Path | None, as_json: bool) -> None:
    """Show what is kept of NAME."""
    from otel_train.baselines import find_baseline
    from otel_train.report.comparison import baseline_table

    baseline = find_baseline(name, baselines_file(file))
    if as_json:
        click.echo(json.dumps([run.to_json() for run in baseline.runs], indent=1, allow_nan=False))
    else:
        open_console().print(baseline_table([baseline]))


@command.command("list")
@file_option
def list_(file: Path | None) -> None:
    """List the baselines."""
    from otel_train.baselines import read_baselines
    from otel_train.report.comparison import baseline_table

    path = baselines_file(file)
    known = list(read_baselines(path).values())
    if not known:
        click.echo(f"no baseline in {path}. Set one: otel-train baseline set NAME RUN")
    else:
        open_console().print(baseline_table(known))


@command.command("rm")
@click.argument("name")
@file_option
def rm(name: str, file: Path | None) -> None:
    """Forget NAME."""
    from otel_train.baselines import remove_baseline

    path = baselines_file(file)
    remove_baseline(name, path)
    click.echo(f"{name} is out of {path}")


def side_of(wanted: tuple[str, ...], directory: Path) -> "tuple[Fingerprint, ...]":
    """The runs that are meant, read: of ids, beginnings of one, paths and patterns. Raises ``RunNotFound``."""
    from otel_train.derive.fingerprint import fingerprint
    from otel_train.runlog.runs import find_run, find_runs

    found = [
        run for each in wanted for run in (find_runs(directory, each) if "*" in each else [find_run(directory, each)])
    ]
    return tuple(fingerprint(run) for run in {run.path: run for run in found}.values())
