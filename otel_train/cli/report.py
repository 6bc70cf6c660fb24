"""``otel-train report``: one run explained."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from otel_train.cli.options import directory_option, json_option, open_console, run_argument, runs_directory
from otel_train.derive.projection import Projection
from otel_train.derive.summary import RunSummary
from otel_train.runlog.runs import Run


@click.command("report")
@run_argument
@directory_option
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with figures to this file.")
@click.option("--markdown", is_flag=True, help="Short, for pull requests and the summaries of CI jobs.")
@json_option
@click.option(
    "--goal", "goals", multiple=True, metavar="AMOUNT",
    help="Project the run to it: '6M samples', '1G tokens', '100k steps', '3 epochs'. May be given several times.",
)  # fmt: skip
@click.option("--price-per-gpu-hour", "price", type=click.FloatRange(min=0), help="What the projection's cost is by.")
def command(
    wanted: str | None, directory: Path | None, html: Path | None, markdown: bool, as_json: bool,
    goals: tuple[str, ...], price: float | None,
) -> None:  # fmt: skip
    """Explain a run: how fast it was, where the time went, what bounds it."""
    from otel_train.derive.goal import parse_goal
    from otel_train.derive.projection import project
    from otel_train.derive.summary import summarize_run
    from otel_train.runlog.runs import find_run

    if as_json and markdown:
        raise click.UsageError("got --json and --markdown; allowed is one of them on standard output")
    wanted_goals = [parse_goal(goal) for goal in goals]
    run = find_run(runs_directory(directory), wanted)
    summary = summarize_run(run)
    projections = [project(summary, goal, price) for goal in wanted_goals]
    if html is not None:
        _write_page(run, summary, projections, html)
    if as_json:
        from otel_train.report.as_json import run_as_dict

        click.echo(json.dumps(run_as_dict(summary, projections), indent=2, allow_nan=False))
    elif markdown:
        from otel_train.report.markdown import run_as_markdown

        click.echo(run_as_markdown(summary, projections), nl=False)
    elif html is None:
        from otel_train.report.terminal import print_report

        print_report(summary, open_console(), projections=projections)


def _write_page(run: Run, summary: RunSummary, projections: Sequence[Projection], path: Path) -> None:
    from otel_train.report.page import write_page

    write_page(run, summary, path, projections)
    click.echo(f"Written: {path} ({path.stat().st_size / 1e6:.1f} MB)", err=True)
