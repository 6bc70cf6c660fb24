"""``otel-train plot``: a picture of a run, or of several."""

from pathlib import Path

import click

from otel_train.cli.options import directory_option, runs_directory

ENDINGS = (".png", ".svg", ".pdf")


@click.command("plot")
@click.argument("wanted", metavar="[RUN]...", nargs=-1)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to. Default: RUN.png, here.")
@click.option("--rank", "ranks", type=int, multiple=True, help="This rank only; may be given several times.")
@directory_option
def command(wanted: tuple[str, ...], output: Path | None, ranks: tuple[int, ...], directory: Path | None) -> None:
    """Draw a RUN over time: throughput, steps, GPU, CPU, memory, disk and network, with alerts and checkpoints.

    Several runs, or a run's ranks, share one picture. The ending of the output says the format: png, svg or pdf.
    """
    from otel_train.derive.timeline import timeline
    from otel_train.report.plot import Drawn, draw
    from otel_train.runlog.runs import find_run

    where = runs_directory(directory)
    runs = [find_run(where, name) for name in wanted or (None,)]
    path = output or Path(f"{runs[0].id}.png")
    if path.suffix.lower() not in ENDINGS:
        raise click.ClickException(f"the output is {path}; allowed are files that end in {', '.join(ENDINGS)}")
    drawn = []
    for run in runs:
        for log in run.ranks():
            if ranks and log.rank not in ranks:
                continue
            parts = [run.id] if len(runs) > 1 else []
            drawn.append(Drawn(" ".join([*parts, f"rank {log.rank}"]), timeline(log)))
    if not drawn:
        raise click.ClickException(
            f"no rank {', '.join(map(str, ranks))} is recorded of {', '.join(r.id for r in runs)}"
        )
    draw(drawn, ", ".join(run.id for run in runs), path)
    click.echo(f"Drawn: {path}")
