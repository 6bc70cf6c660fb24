"""What several commands share: their options, the directory of runs, the console."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

directory_option = click.option(
    "--dir", "directory", type=click.Path(path_type=Path), help="Where runs are recorded. Default: OTEL_TRAIN_DIR."
)
run_argument = click.argument("wanted", metavar="[RUN]", required=False)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table; what is missing is null.")


def runs_directory(option: Path | None) -> Path:
    """The directory given, or else the one that the settings in force name. Raises ``SettingsError``."""
    if option is not None:
        return option.expanduser()
    from otel_train.settings import load

    return load().dir


def open_console() -> "Console":
    """Standard output: coloured on a terminal, plain text elsewhere. Characters that it cannot write become ``?``."""
    from rich.console import Console

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    return Console(highlight=False)
