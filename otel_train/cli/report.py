"""``otel-train report``: one run explained."""

import json
from pathlib import Path

import click

from otel_train.cli.options import directory_option, json_option, open_console, run_argument, runs_directory


@click.command("report")
@run_argument
@directory_option
@json_option
@click.option(
    "--goal", "goals", multiple=True, metavar="AMOUNT",
    help="Project the run to it: '6M samples', '1G tokens', '100k steps', '3 epochs'. May be given several times.",
)  # fmt: skip
@click.option("--price-per-gpu-hour", "price", type=click.FloatRange(min=0), help="What the projection's cost is by.")
def command(
    wanted: str | None, directory: Path | None, as_json: bool, goals: tuple[str, ...], price: float | None
) -> None:
    """Explain a run: how fast it was, where the time went, what bounds it."""
    from otel_train.derive.goal import parse_goal
    from otel_train.derive.projection import project
    from otel_train.derive.summary import summarize_run
    from otel_train.runlog.runs import find_run

    wanted_goals = [parse_goal(goal) for goal in goals]
    summary = summarize_run(find_run(runs_directory(directory), wanted))
    projections = [project(summary, goal, price) for goal in wanted_goals]
    if as_json:
        from otel_train.report.as_json import run_as_dict

        click.echo(json.dumps(run_as_dict(summary, projections), indent=2, allow_nan=False))
    else:
        from otel_train.report.terminal import print_report

        print_report(summary, open_console(), projections=projections)
