"""The command line ``otel-train``: one file a command, imported when it is called."""

from importlib import import_module

import click

from otel_train.errors import OtelTrainError
from otel_train.version import __version__

COMMANDS = (
    "demo", "run", "ls", "report", "check", "compare", "baseline", "profile", "plot", "scaling", "bench", "tune",
    "alerts", "export", "push", "stack", "doctor",
)  # fmt: skip
"""Each is the module of that name here, with a ``command``. In the order in which a newcomer meets them."""


class Commands(click.Group):
    """Finds a command by its module's name, and says errors of ours in one line, without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"otel_train.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except (OtelTrainError, OSError) as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="otel-train")
def group() -> None:
    """OpenTelemetry for PyTorch training: look at recorded runs, and send them on.

    RUN is an id, the beginning of one, or a path; left out, it is the latest run.
    """


def main() -> None:
    """Run the command line. Exits with 1 when something is wrong, with 2 when the command was not understood."""
    group(prog_name="otel-train")
