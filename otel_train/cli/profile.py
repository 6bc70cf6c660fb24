"""``otel-train profile``: take a profile of a run that goes on, read one, compare two."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from otel_train.cli.options import directory_option, json_option, open_console, run_argument, runs_directory

if TYPE_CHECKING:
    from otel_train.profiles.analysis import Analysis
    from otel_train.runlog.ranklog import RankLog

rows_option = click.option("--rows", default=15, show_default=True, type=click.IntRange(min=1), help="Of each table.")
LOOK_S = 0.5
AHEAD_S = 5.0
"""So far ahead lies the step that all ranks are asked for: they look for requests every two seconds."""


@click.group("profile")
def command() -> None:
    """See which operators take a step's time."""


@command.command("run")
@run_argument
@click.option("--steps", default=1, show_default=True, type=click.IntRange(min=1), help="Steps to profile.")
@click.option("--timeout", default=120.0, show_default=True, help="Seconds to wait for it.")
@rows_option
@directory_option
def take(wanted: str | None, steps: int, timeout: float, rows: int, directory: Path | None) -> None:
    """Profile a step of RUN, which is going on, on all its ranks; then show it."""
    from otel_train.profiles.found import profiles_of
    from otel_train.runlog.runs import find_run, state_of

    run = find_run(runs_directory(directory), wanted)
    logs = [log for log in run.ranks() if state_of(log) in ("running", "unknown")]
    if not logs:
        raise click.ClickException(f"run {run.id} is over: only a run that goes on can be profiled. See: otel-train ls")
    known = {log.rank: len(profiles_of(log)) for log in logs}
    at_step = _step_ahead(logs)
    for log in logs:
        _ask(log, at_step, steps)
    click.echo(f"Asked {len(logs)} rank(s) of run {run.id} for step {at_step}", err=True)
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        new = [profiles_of(log)[known[log.rank] :] for log in logs]
        if all(new):
            shown = new[0][-1]
            if shown.path is None:
                raise click.ClickException("the profile was taken, but its trace could not be kept: see its warnings")
            _show(shown.path, f"Run {run.id}, rank {shown.rank}, step {shown.step}", rows, False)
            return
        time.sleep(LOOK_S)
    raise click.ClickException(
        f"no profile came within {timeout:g} s. Does the run take steps? Is another profiler at work in it? Are its "
        "ranks left out by OTEL_TRAIN_PROFILE_RANKS?"
    )


def _step_ahead(logs: "list[RankLog]") -> int:
    """A step that no rank has reached yet."""
    from otel_train.derive.recent import recent_of_log

    furthest, rate = 0, 0.0
    for log in logs:
        seen = recent_of_log(log)
        furthest, rate = max(furthest, seen.step or 0), max(rate, seen.steps_per_s or 0.0)
    return furthest + max(int(rate * AHEAD_S), 2)


def _ask(log: "RankLog", at_step: int, steps: int) -> None:
    from otel_train.runlog.layout import PROFILE_REQUEST

    path = Path(log.storage.location) / PROFILE_REQUEST
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps({"at_step": at_step, "steps": steps}))
    scratch.replace(path)


@command.command("show")
@run_argument
@click.option("--step", type=int, help="The profile of this step. Default: the last one.")
@click.option("--rank", type=int, help="Of this rank. Default: the first that has it.")
@rows_option
@json_option
@directory_option
def show(
    wanted: str | None, step: int | None, rank: int | None, rows: int, as_json: bool, directory: Path | None
) -> None:
    """Show a profile of RUN, or any trace that torch.profiler wrote (a .json or .json.gz)."""
    path, title = _found(wanted, step, rank, directory)
    _show(path, title, rows, as_json)


@command.command("compare")
@click.argument("first")
@click.argument("second")
@rows_option
@directory_option
def compare(first: str, second: str, rows: int, directory: Path | None) -> None:
    """Compare two profiles: each a trace, a RUN (its last profile) or RUN:STEP."""
    from otel_train.profiles.found import read_analysis
    from otel_train.report.profile import comparison

    analyses: list[Analysis] = []
    for wanted in (first, second):
        name, _, step = wanted.rpartition(":")
        numbered = bool(name) and step.isdecimal()
        path, title = _found(name if numbered else wanted, int(step) if numbered else None, None, directory)
        click.echo(f"{'after ' if analyses else 'before'}  {title}")
        analyses.append(read_analysis(path))
    console = open_console()
    for part in comparison(analyses[0], analyses[1], rows, console.width):
        console.print(part)


def _found(wanted: str | None, step: int | None, rank: int | None, directory: Path | None) -> tuple[Path, str]:
    """The trace and what to call it."""
    from otel_train.profiles.found import chosen
    from otel_train.runlog.runs import find_run

    if wanted is not None and Path(wanted).is_file():
        return Path(wanted), wanted
    run = find_run(runs_directory(directory), wanted)
    profile = chosen(run, rank, step)
    assert profile.path is not None
    return profile.path, f"Run {run.id}, rank {profile.rank}, step {profile.step}"


def _show(path: Path, title: str, rows: int, as_json: bool) -> None:
    from otel_train.profiles.found import read_analysis
    from otel_train.report import profile

    analysis = read_analysis(path)
    if as_json:
        content: dict[str, Any] = profile.as_json(analysis)
        click.echo(json.dumps(content, indent=1))
        return
    console = open_console()
    for part in profile.page(analysis, title, rows, console.width):
        console.print(part)
        console.print()
    console.print(f"The trace, for ui.perfetto.dev or chrome://tracing: {path}", style="dim", soft_wrap=True)
