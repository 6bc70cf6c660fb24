"""``otel-train compare``: is a run slower than another one, and what made it so."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from otel_train.cli.baseline import baselines_file, file_option, side_of
from otel_train.cli.options import directory_option, json_option, open_console, runs_directory

if TYPE_CHECKING:
    from otel_train.derive.comparison import Comparison
    from otel_train.derive.fingerprint import Fingerprint

CANNOT_TELL = 2
"""Also click's code for a command that was not understood."""


def _share(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """A percentage, ``5%`` or ``5``, as a part of one."""
    if value is None:
        return None
    try:
        share = float(value.strip().removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share < float("inf"):
        raise click.BadParameter(f"got {value!r}; allowed is a percentage from 0 on, like 5%")
    return share


@click.command("compare")
@click.argument("wanted", metavar="[FIRST] RUN...", nargs=-1, required=True)
@click.option("--baseline", "baselines", multiple=True, metavar="RUN", help="Instead of FIRST; several are one side.")
@click.option(
    "--fail-above", callback=_share, metavar="5%", help="Exit with 1 when a RUN is shown to be slower by more."
)
@click.option("--across-hardware", is_flag=True, help="Compare runs on different hardware too.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Markdown instead of tables.")
@json_option
@file_option
@directory_option
@click.pass_context
def command(
    ctx: click.Context, wanted: tuple[str, ...], baselines: tuple[str, ...], fail_above: float | None,
    across_hardware: bool, as_markdown: bool, as_json: bool, file: Path | None, directory: Path | None,
) -> None:  # fmt: skip
    """Compare each RUN with FIRST, by the steps that tell: which is slower, by how much, where.

    FIRST and each RUN is an id, the beginning of one, a path, or a name with * for several runs that did the same;
    FIRST may be a baseline's name. Several runs a side, recorded in turns, show smaller differences, and tell a slower
    machine from slower code.

    Exits with 0, with 1 when --fail-above is passed, with 2 when that cannot be told.
    """
    from otel_train.derive.comparison import compare
    from otel_train.errors import OtelTrainError

    if not baselines and len(wanted) < 2:
        raise click.UsageError("got one run; two are needed: otel-train compare FIRST RUN")
    firsts, others = (baselines, wanted) if baselines else (wanted[:1], wanted[1:])
    try:
        runs = runs_directory(directory)
        first = tuple(run for each in firsts for run in _first(each, baselines_file(file), runs))
        found = [compare(first, side_of((other,), runs), across_hardware) for other in others]
    except (OtelTrainError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        ctx.exit(CANNOT_TELL)
    _show(found, as_json, as_markdown)
    if fail_above is not None:
        ctx.exit(_judge(found, fail_above))


def _first(wanted: str, file: Path, directory: Path) -> "tuple[Fingerprint, ...]":
    """A baseline of that name, or else runs."""
    from otel_train.baselines import read_baselines

    known = read_baselines(file)
    return known[wanted].runs if wanted in known else side_of((wanted,), directory)


def _show(found: "list[Comparison]", as_json: bool, as_markdown: bool) -> None:
    from otel_train.report import comparison

    if as_json:
        content = [comparison.as_dict(each) for each in found]
        click.echo(json.dumps(content, indent=1, allow_nan=False))
    elif as_markdown:
        click.echo("\n".join(comparison.markdown(each) for each in found))
    else:
        console = open_console()
        for each in found:
            for part in comparison.page(each):
                console.print(part, soft_wrap=False)


def _judge(found: "list[Comparison]", most: float) -> int:
    """Say how the limit was kept, on standard error; the exit code."""
    from otel_train.derive.comparison import keeps

    kept = [keeps(each, most) for each in found]
    for each, (_, sentence) in zip(found, kept, strict=True):
        click.echo(f"{', '.join(run.run_id for run in each.second)}: {sentence}", err=True)
    answers = [answer for answer, _ in kept]
    return 1 if False in answers else CANNOT_TELL if None in answers else 0
