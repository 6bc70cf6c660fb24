"""``otel-train bench``: a training command over a matrix of settings, or up to out of memory."""

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from otel_train.bench.matrix import ARGUMENT, ENVIRONMENT, PLACEHOLDER, Cell, Factor, cells, check, read_factors
from otel_train.bench.memory_sweep import FITS, Sweep, Swept, read_sweep, run_sweep
from otel_train.bench.reading import RunRead, RunReader, choose_metric, is_higher_better
from otel_train.bench.rounds import STOPPED, Outcome, Plan, Runner, conclude, run_rounds
from otel_train.bench.state import BenchState, default_name, plan_of
from otel_train.cli.options import directory_option, json_option, open_console, runs_directory
from otel_train.cli.run import PTH, command_line, is_autoloaded
from otel_train.errors import BenchError
from otel_train.report.bench import Told, in_unit, print_bench
from otel_train.report.bench_json import as_dict

ENDINGS = (".png", ".svg", ".pdf")
UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
MATRIX_REPEAT, SWEEP_REPEAT = 3, 1


def duration(text: str) -> float:
    """Seconds of ``90``, ``90s``, ``10m``, ``1.5h``. Raises ``click.BadParameter``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|)", text.strip())
    if not match or float(match[1]) <= 0:
        raise click.BadParameter(f"{text!r} is no time; allowed are 90s, 10m, 1.5h")
    return float(match[1]) * UNITS_S[match[2]]


def share(text: str) -> float:
    """``2%`` or ``0.02``. Raises ``click.BadParameter``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%|)", text.strip())
    found = float(match[1]) / (100 if match[2] else 1) if match else 1.0
    if found >= 1:
        raise click.BadParameter(f"{text!r} is no share; allowed are 2% or 0.02")
    return found


@click.command("bench", context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@click.option("--env", "env", multiple=True, metavar="NAME=V,V", help="An environment variable and its values.")
@click.option("--arg", "arg", multiple=True, metavar="NAME=V,V", help="An argument: --arg --batch-size=8,16.")
@click.option("--vary", multiple=True, metavar="NAME=V,V", help="Values for {NAME} in the command.")
@click.option(
    "--sweep", metavar="NAME=A..B", help="Sizes doubled from A up to B, or out of memory: batch_size=8..4096."
)
@click.option("--bisect", is_flag=True, help="After --sweep, close in on the largest size that fits.")
@click.option("--repeat", type=click.IntRange(1), help="Rounds at most. Default: 3, with --sweep 1.")
@click.option("--metric", help="Any of docs/measures.md. Default: samples_per_second, or what the runs have instead.")
@click.option("--better", type=click.Choice(["higher", "lower"]), help="Which is better, where the unit does not say.")
@click.option("--margin", type=share, default="2%", show_default=True, help="What differs by less is equal.")
@click.option("--warm-up", type=click.IntRange(0), help="Steps left out. Default: 5, or as many as the run shows.")
@click.option("--max-time", type=duration, help="No run goes on after it: 10m.")
@click.option("--timeout", type=duration, help="A run that takes longer is stopped.")
@click.option("--all-rounds", is_flag=True, help="Run all rounds, however clear the answer is before.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the order within the rounds.")
@click.option("--name", help="Of the benchmark; its state is kept under it. Default: by script, command and matrix.")
@click.option("--fresh", is_flag=True, help="Begin anew, and not where it was left.")
@click.option("--retry-failed", is_flag=True, help="Run again what failed.")
@click.option("--plot", type=click.Path(path_type=Path), help="A picture: .png, .svg or .pdf.")
@json_option
@directory_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True, metavar="-- COMMAND")
def command(
    command: tuple[str, ...], env: tuple[str, ...], arg: tuple[str, ...], vary: tuple[str, ...], sweep: str | None,
    directory: Path | None, plot: Path | None, as_json: bool, name: str | None, fresh: bool, retry_failed: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Run a training over a matrix of settings, several times each, and say which is best and how surely.

    \b
      otel-train bench --env OMP_NUM_THREADS=1,2 --arg --batch-size=8,16 -- train.py --steps 200
      otel-train bench --vary workers=0,2,4 --metric data_wait.share -- train.py --workers {workers}
      otel-train bench --sweep batch_size=8..4096 --bisect -- train.py --batch-size {batch_size}

    Each run is recorded as otel-train run would, with no change to the script. The same command typed again goes on
    where it was left. Ctrl-C ends the current run, and shows what is known.
    """
    if plot is not None:
        _check_picture(plot)
    is_higher_better(choose_metric(options["metric"], []), options["better"])  # said before the first run
    template = _template(command)
    factors, swept = _varied(template, env, arg, vary, sweep)
    repeat = options["repeat"] or (SWEEP_REPEAT if swept else MATRIX_REPEAT)
    identity = plan_of(template, [*factors, *([swept.factor] if swept else [])], repeat)
    state = BenchState(runs_directory(directory), name or default_name(template, identity["identity"]))
    state.open(identity, fresh, retry_failed)
    plan = Plan(
        template, cells(factors), repeat, options["seed"], options["metric"], options["better"], options["margin"],
        options["timeout"], options["max_time"], early_stop=not options["all_rounds"],
    )  # fmt: skip
    try:
        outcome, found = _run(plan, state, swept, options["bisect"], options["warm_up"])
    finally:
        state.close()
    _show(Told(state.name, plan, outcome, found, state.repeats_first), as_json, plot)
    if outcome.reason == STOPPED:
        raise SystemExit(128 + signal.SIGINT)
    if all(run.problem is not None for run in outcome.runs):
        raise SystemExit(1)


def _check_picture(path: Path) -> None:
    """Said before the first run, and not after hours of them."""
    from otel_train.report.plot import new_figure

    if path.suffix.lower() not in ENDINGS:
        raise click.ClickException(f"the picture is {path}; allowed are files that end in {', '.join(ENDINGS)}")
    new_figure(1, 1)


def _varied(
    template: list[str], env: tuple[str, ...], arg: tuple[str, ...], vary: tuple[str, ...], sweep: str | None
) -> tuple[list[Factor], Sweep | None]:
    """The factors of the matrix; and the sweep, beside which each of them has one value."""
    factors = [*read_factors(ENVIRONMENT, env), *read_factors(ARGUMENT, arg), *read_factors(PLACEHOLDER, vary)]
    check(factors, template)
    if sweep is None:
        return factors, None
    if any(len(factor.values) > 1 for factor in factors):
        raise BenchError("--sweep varies one size; give --env, --arg and --vary one value each beside it")
    found = read_sweep(sweep, template, cells(factors)[0].settings)
    check([*factors, found.factor], template)
    return factors, found


def _template(arguments: tuple[str, ...]) -> list[str]:
    """The command as ``otel-train run`` would execute it."""
    if arguments[0] == "-m" and len(arguments) > 1:
        line = command_line(arguments[1], arguments[2:])
    else:
        line = command_line(None, arguments)
    if not is_autoloaded():
        raise click.ClickException(
            f"{sys.executable} does not load otel_train by itself: {PTH} is in none of its site-packages. Install "
            "otel-train there with pip (a folder on PYTHONPATH is not enough)."
        )
    return line


def _run(
    plan: Plan, state: BenchState, sweep: Sweep | None, bisect: bool, warm_up: int | None
) -> tuple[Outcome, Swept | None]:
    environ = {**os.environ, "OTEL_TRAIN_INSTRUMENT": "true", "OTEL_TRAIN_DIR": str(state.directory.resolve())}
    environ.setdefault("PYTHONUNBUFFERED", "1")  # the last lines of a run that is killed are told
    runner = Runner(plan, state, RunReader(state, warm_up), environ, _Said(plan))
    with _terminated_as_interrupted():
        if sweep is None:
            return run_rounds(runner), None
        found = run_sweep(sweep, lambda cell: runner.run(cell, 1), bisect)
        runner.plan = replace(plan, cells=[sweep.cell(size) for size in found.sizes(FITS)])
        outcome = run_rounds(runner) if found.is_whole else conclude(runner, 0, runner.ended_by or STOPPED)
        return outcome, found


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM and SIGHUP end a benchmark as Ctrl-C does: its run first, and what is known is shown."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Said:
    """One line a run, on standard error: so that standard output is the answer alone."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __call__(self, what: str, cell: Cell, round_number: int, read: RunRead | None) -> None:
        if read is None:
            click.echo(f"round {round_number} of {self._plan.repeat}: {cell.label} ... ", err=True, nl=False)
            sys.stderr.flush()
            return
        metric = choose_metric(self._plan.metric, [read])
        shown = read.problem or f"{metric.name} {in_unit(read.value(metric), metric.unit)}"
        click.echo(f"{shown} ({read.record.wall_s:.1f} s)", err=True)


def _show(told: Told, as_json: bool, plot: Path | None) -> None:
    if as_json:
        click.echo(json.dumps(as_dict(told), indent=2, allow_nan=False))
    else:
        print_bench(told, open_console())
    if plot is not None:
        from otel_train.report.plot_bench import draw

        draw(told, plot)
        click.echo(f"Drawn: {plot}", err=as_json)
