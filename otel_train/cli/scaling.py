"""``otel-train scaling``: what more ranks brought, and where the time went that they did not bring."""

import json
from pathlib import Path

import click

from otel_train.cli.options import directory_option, json_option, open_console, runs_directory
from otel_train.cli.plot import ENDINGS


@click.command("scaling")
@click.argument("wanted", metavar="RUN RUN [RUN]...", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Draw a picture too: .png, .svg or .pdf.")
@click.option(
    "--law", type=click.Choice(["strong", "weak"]), help="What the runs are, where their record does not say."
)
@click.option("--force", is_flag=True, help="Compare runs on different hardware all the same.")
@directory_option
@json_option
def command(
    wanted: tuple[str, ...], output: Path | None, law: str | None, force: bool, directory: Path | None, as_json: bool
) -> None:
    """Compare RUNs at different world sizes: speed-up, efficiency, where the lost time went, the serial share.

    Runs of one size are repetitions. Warm-up steps, checkpoints and evaluations are left out.
    """
    from otel_train.derive.scaling import scaling
    from otel_train.derive.summary import summarize_run
    from otel_train.runlog.runs import find_run

    if output is not None and output.suffix.lower() not in ENDINGS:
        raise click.ClickException(f"the output is {output}; allowed are files that end in {', '.join(ENDINGS)}")
    where = runs_directory(directory)
    found = scaling([summarize_run(find_run(where, name)) for name in wanted], law, force)
    if as_json:
        from otel_train.report.scaling import scaling_as_dict

        click.echo(json.dumps(scaling_as_dict(found), indent=2, allow_nan=False))
    else:
        from otel_train.report.scaling import print_scaling

        print_scaling(found, open_console())
    if output is not None:
        from otel_train.report.plot_scaling import draw_scaling

        draw_scaling(found, output)
        click.echo(f"Drawn: {output}", err=as_json)
