"""``otel-train run``: any training script, module or launcher, with nothing in it changed."""

import os
import shutil
import site
import sys
from pathlib import Path
from typing import Any

import click

from otel_train.errors import SettingsError
from otel_train.settings import load

PTH = "otel_train.pth"

OPTIONS = {
    "directory": "OTEL_TRAIN_DIR",
    "run_id": "OTEL_TRAIN_RUN_ID",
    "service_name": "OTEL_SERVICE_NAME",
    "level": "OTEL_TRAIN_LEVEL",
    "endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT",
    "preset": "OTEL_TRAIN_PRESET",
    "progress": "OTEL_TRAIN_PROGRESS",
}
"""The variable that each option sets."""


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-m", "module", metavar="MODULE", help="Run a module, as python -m does.")
@click.option("--dir", "directory", help="Where the run is recorded.")
@click.option("--run-id", help="The id that all ranks share.")
@click.option("--service-name", help="service.name; by itself the script's name.")
@click.option("--level", help="off, steps, phases or gpu.")
@click.option("--endpoint", help="Where OTLP goes: http://collector:4318.")
@click.option("--preset", help="full_monitoring turns on all there is.")
@click.option("--progress", is_flag=True, default=None, help="A live display on the terminal.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[SCRIPT.py | COMMAND] [ARGS]...")
def command(module: str | None, arguments: tuple[str, ...], **options: Any) -> None:
    """Run a training unedited, and record it.

    \b
      otel-train run train.py --lr 3e-4
      otel-train run -m package.train
      otel-train run torchrun --nproc-per-node 8 train.py
      torchrun --nproc-per-node 8 --no-python otel-train run train.py

    Settings come from the environment; the options set the commonest. What runs is exactly what python or the command
    would have run: the same process, arguments, signals and exit code.
    """
    environment = {**os.environ, "OTEL_TRAIN_INSTRUMENT": "true"}
    environment |= {OPTIONS[name]: _text(value) for name, value in options.items() if value is not None}
    try:
        load(environ=environment)
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    if not is_autoloaded():
        raise click.ClickException(
            f"{sys.executable} does not load otel_train by itself: {PTH} is in none of its site-packages. Install "
            "otel-train there with pip (a folder on PYTHONPATH is not enough), or write "
            "otel_train.init(instrument=True) into the script."
        )
    line = command_line(module, arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(line[0], line, environment)
    except OSError as error:
        raise click.ClickException(f"{line[0]} cannot be run: {error.strerror}") from error


def command_line(module: str | None, arguments: tuple[str, ...]) -> list[str]:
    """What is to be executed for a script, a module or a command. Raises ``click.UsageError`` where it is none."""
    if module is not None:
        return [sys.executable, "-m", module, *arguments]
    if not arguments:
        raise click.UsageError("what is to be run is missing: train.py, -m MODULE, or a command")
    first = arguments[0]
    if first.endswith(".py") or Path(first, "__main__.py").is_file():
        return [sys.executable, *arguments]
    if shutil.which(first) is None:
        raise click.UsageError(f"{first!r} is neither a Python script nor a command on the PATH")
    return list(arguments)


def is_autoloaded() -> bool:
    """Does this Python read ``otel_train.pth`` when it starts?"""
    folders = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    return any(Path(folder, PTH).is_file() for folder in folders)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
