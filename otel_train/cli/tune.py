"""``otel-train tune``: a training run for some steps with different settings of its data loaders."""

import json
import os
from pathlib import Path

import click

from otel_train.cli.options import directory_option, json_option, runs_directory


@click.command("tune", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--steps", type=click.IntRange(min=10), default=60, show_default=True, help="Steps counted each time.")
@click.option("--budget", type=click.FloatRange(min=0, min_open=True), default=600, show_default=True,
              help="Seconds in all, about.")  # fmt: skip
@click.option("--max-workers", type=click.IntRange(min=1), help="Default: four for each CPU granted.")
@click.option("--fresh", is_flag=True, help="Measure again, whatever is remembered.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A picture: .png, .svg or .pdf.")
@json_option
@directory_option
@click.argument("line", nargs=-1, type=click.UNPROCESSED, metavar="[SCRIPT.py | COMMAND] [ARGS]...")
def command(
    line: tuple[str, ...],
    steps: int,
    budget: float,
    max_workers: int | None,
    fresh: bool,
    output: Path | None,
    as_json: bool,
    directory: Path | None,
) -> None:
    """Find the num_workers and prefetch_factor with which a training's data loaders are fastest.

    \b
      otel-train tune -- train.py --lr 3e-4
      otel-train tune --budget 300 -- torchrun --nproc-per-node 8 train.py

    The training is really run, several times, and ended after some steps each time: give it a folder of its own for
    what it writes. All DataLoaders that it makes get the settings that are tried. Nothing is sent, and no run is kept.
    """
    from otel_train.cli.plot import ENDINGS
    from otel_train.cli.run import command_line, is_autoloaded
    from otel_train.tuning.command_search import tune_command

    if output is not None and output.suffix.lower() not in ENDINGS:
        raise click.ClickException(f"the output is {output}; allowed are files that end in {', '.join(ENDINGS)}")
    if not is_autoloaded():
        raise click.ClickException("this Python does not load otel_train by itself: install it there with pip")
    found = tune_command(
        command_line(None, line),
        steps=steps,
        budget_s=budget,
        max_workers=max_workers,
        fresh=fresh,
        directory=runs_directory(directory),
        folder=os.getcwd(),
    )
    click.echo(json.dumps(found.as_dict(), indent=2) if as_json else str(found))
    if output is not None:
        found.plot(output)
        click.echo(f"Drawn: {output}", err=as_json)
