"""``otel-train demo``: trains a small real model, and explains the run."""

import os
import subprocess
import sys
import time
from importlib import resources, util
from pathlib import Path

import click

from otel_train.cli.options import directory_option, open_console, runs_directory

SCRIPT = "char_gpt.py"


@click.command("demo")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=30, show_default=True, help="How long.")
@click.option(
    "--slow-dataset", type=click.FloatRange(min=0), metavar="MS", help="Milliseconds that each sample is made to take."
)
@directory_option
def command(seconds: float, slow_dataset: float | None, directory: Path | None) -> None:
    """Train a character-level GPT on the text of Python's own library, then show what was recorded."""
    if util.find_spec("torch") is None:
        raise click.ClickException(
            "otel-train demo trains a model with PyTorch, which is not installed. Type: pip install 'otel-train[demo]'"
        )
    run_id = time.strftime("demo-%Y%m%d-%H%M%S")
    where = runs_directory(directory)
    environment = {**os.environ, "OTEL_TRAIN_DIR": str(where), "OTEL_TRAIN_RUN_ID": run_id, "OTEL_TRAIN_PROGRESS": "1"}
    arguments = [sys.executable, str(example_path()), "--seconds", f"{seconds:g}"]
    if slow_dataset is not None:
        arguments += ["--slow-dataset", f"{slow_dataset:g}"]
    click.echo(f"Training a small GPT for about {seconds:g} s: {arguments[1]}")
    code = _run(arguments, environment)
    if not code or (where / run_id).is_dir():
        _show(run_id, where)
    if code:
        raise click.ClickException(f"the training ended with exit code {code}")


def example_path() -> Path:
    """Where the example is: in the installed package, or in the repository of an editable install."""
    package = Path(str(resources.files("otel_train")))
    candidates = [package / "examples" / SCRIPT, package.parent / "examples" / SCRIPT]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise click.ClickException(f"{SCRIPT} is in neither {candidates[0].parent} nor {candidates[1].parent}")
    return found


def _run(arguments: list[str], environment: dict[str, str]) -> int:
    with subprocess.Popen(arguments, env=environment) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the terminal sends it to the training too, which then ends by itself
            process.wait()
            return 0


def _show(run_id: str, where: Path) -> None:
    from otel_train.derive.summary import summarize_run
    from otel_train.report.terminal import print_report
    from otel_train.runlog.runs import find_run

    console = open_console()
    console.print()
    print_report(summarize_run(find_run(where, run_id)), console, brief=True)
    click.echo("What to type next:")
    for typed, meaning in (
        (f"otel-train report {run_id}", "the whole report"),
        ("otel-train demo --slow-dataset 30", "the same with a slow dataset: see what bounds it then"),
        (f"otel-train export {run_id} --to csv", "every step as a row"),
        (f"otel-train push {run_id} --endpoint http://localhost:4318", "send it to an OTLP backend"),
    ):
        click.echo(f"  {typed}\n      {meaning}")
