"""``otel-train check``: does a run meet what it has to."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from otel_train.cli.options import directory_option, json_option, open_console, run_argument, runs_directory
from otel_train.errors import OtelTrainError

if TYPE_CHECKING:
    from otel_train.derive.summary import RunSummary
    from otel_train.requirements.judging import Verdict

STANDARD_OUTPUT = "-"
SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"


@click.command("check")
@run_argument
@click.option(
    "--requirements",
    "file",
    required=True,
    type=click.Path(path_type=Path),
    help="What measures have to be: YAML.",
)
@click.option("--junit", type=click.Path(path_type=Path), help="Also write JUnit's XML to this file.")
@click.option(
    "--markdown", is_flag=False, flag_value=STANDARD_OUTPUT, metavar="[FILE]",
    help="Also write Markdown to this file; without a name, to standard output in place of the table.",
)  # fmt: skip
@json_option
@directory_option
def command(
    wanted: str | None, file: Path, junit: Path | None, markdown: str | None, as_json: bool, directory: Path | None
) -> None:
    """Judge RUN by a file of requirements: PASS, FAIL or NO DATA for each.

    Exits with 0 when all pass, with 1 when one fails, and with 2 when one has no data, the file is wrong or the run
    cannot be read.
    """
    if as_json and markdown == STANDARD_OUTPUT:
        raise click.UsageError("--json and --markdown both write to standard output: give --markdown a file.")
    try:
        run, verdicts = _judged(file, wanted, directory)
        _show(verdicts, run, as_json, markdown)
        if junit is not None:
            _write_junit(verdicts, run, junit)
    except BrokenPipeError:
        raise
    except (OtelTrainError, OSError) as error:
        raise _NotJudged(str(error)) from error
    from otel_train.requirements.judging import EXIT_CODES, outcome

    raise click.exceptions.Exit(EXIT_CODES[outcome(verdicts)])


def _judged(file: Path, wanted: str | None, directory: Path | None) -> "tuple[RunSummary, list[Verdict]]":
    from otel_train.derive.summary import summarize_run
    from otel_train.requirements.forms import with_baselines
    from otel_train.requirements.judging import judge
    from otel_train.requirements.reading import check_rules, read_requirements
    from otel_train.runlog.runs import find_run

    requirements, runs = read_requirements(file), runs_directory(directory)
    run = summarize_run(find_run(runs, wanted))
    requirements = with_baselines(requirements, lambda baseline: summarize_run(find_run(runs, baseline)))
    if any(requirement.name.startswith("alert.") for requirement in requirements):
        check_rules(requirements, _known_rules(run))
    return run, judge(requirements, run)


def _known_rules(run: "RunSummary") -> set[str]:
    """Built-in rules, those of OTEL_TRAIN_ALERTS, and those that were in force in the run on any rank."""
    from otel_train.alerts.rules import built_in, rules_in_force
    from otel_train.settings import load

    setting = load().alerts
    own = rules_in_force(setting) if isinstance(setting, Path) else []
    watched = {rule for rank in run.ranks for rule in rank.watched_rules or ()}
    return {*built_in(), *(rule.name for rule in own), *watched, *run.merged.alerts}


def _show(verdicts: "list[Verdict]", run: "RunSummary", as_json: bool, markdown: str | None) -> None:
    from otel_train.report.verdicts import as_dict, print_verdicts

    if as_json:
        click.echo(json.dumps(as_dict(verdicts, run), indent=2, allow_nan=False))
    elif markdown != STANDARD_OUTPUT:
        print_verdicts(verdicts, run, open_console())
    if markdown is not None:
        _write_markdown(verdicts, run, markdown)


def _write_markdown(verdicts: "list[Verdict]", run: "RunSummary", to: str) -> None:
    """The job's summary of GitHub's actions is added to: others write there too."""
    from otel_train.report.verdicts_markdown import markdown

    text = markdown(verdicts, run)
    if to == STANDARD_OUTPUT:
        open_console().file.write(text)
        return
    mode = "a" if to == os.environ.get(SUMMARY_VARIABLE) else "w"
    with Path(to).expanduser().open(mode, encoding="utf-8", errors="replace") as file:
        file.write(text)


def _write_junit(verdicts: "list[Verdict]", run: "RunSummary", to: Path) -> None:
    from otel_train.report.verdicts_junit import junit

    to.expanduser().write_bytes(junit(verdicts, run))


class _NotJudged(click.ClickException):
    """Ends with 2: 1 is for a run that fails."""

    exit_code = 2
