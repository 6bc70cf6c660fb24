"""``otel-train stack``: a collector, Jaeger, Prometheus, Alertmanager and Grafana on this machine."""

import shutil
import webbrowser
from pathlib import Path

import click

from otel_train.cli.options import open_console

directory_option = click.option(
    "--dir", "directory", type=click.Path(file_okay=False, path_type=Path),
    help="Where its files are. Default: ~/.local/share/otel_train/stack.",
)  # fmt: skip


@click.group("stack")
def command() -> None:
    """Run a local collector, Jaeger, Prometheus, Alertmanager and Grafana."""


@command.command("up")
@click.option("--native", is_flag=True, help="As plain processes, without Docker and without Grafana.")
@click.option(
    "--port-offset", "offset", default=0, show_default=True, type=click.IntRange(0, 40000),
    help="Added to each port. With --native.",
)  # fmt: skip
@directory_option
def up(native: bool, offset: int, directory: Path | None) -> None:
    """Start it, wait until each part is ready, and say where to look and what to set."""
    from otel_train.stack import compose, files
    from otel_train.stack import native as plain

    if offset and not native:
        raise click.UsageError("--port-offset is for --native: the ports of containers are in docker-compose.yml")
    where = _prepared(directory)
    for path in files.write(where):
        click.echo(f"{path} was edited, and is left as it is. Delete it to get the shipped one", err=True)
    if native:
        plain.up(where, offset, lambda line: click.echo(line, err=True))
    else:
        if any(process.running() for process in plain.processes(where)):
            raise click.ClickException("it runs as plain processes. First type: otel-train stack down")
        compose.up(where)
    _show(where)


@command.command("down")
@click.option("--volumes", "-v", is_flag=True, help="Delete what it has stored, too.")
@directory_option
def down(volumes: bool, directory: Path | None) -> None:
    """Stop it. What it has stored stays."""
    from otel_train.stack import compose
    from otel_train.stack import native as plain

    where = _directory(directory)
    if plain.processes(where):
        plain.down(where, lambda line: click.echo(line, err=True))
        if volumes:
            for stored in (where / "data", where / "logs"):
                if stored.is_dir():
                    shutil.rmtree(stored)
    elif (where / "docker-compose.yml").is_file() and (compose.running(where) or (volumes and compose.is_there())):
        compose.down(where, volumes)
    else:
        click.echo("nothing is running")


@command.command("status")
@directory_option
def status(directory: Path | None) -> None:
    """Say which parts run, which are ready, and where each is. Exits with 1 if a part is not ready."""
    if not _show(_directory(directory)):
        raise SystemExit(1)


@command.command("open")
@click.argument("part", type=click.Choice(["grafana", "jaeger", "prometheus", "alertmanager"]), required=False)
@directory_option
def open_page(part: str | None, directory: Path | None) -> None:
    """Open PART's page in a browser. Default: Grafana's, or Jaeger's where there is no Grafana."""
    from otel_train.stack.services import SERVICES

    running, offset = _running(_directory(directory))
    wanted = [part] if part else ["grafana", "jaeger"]
    service = next((each for name in wanted for each in SERVICES if each.name == name and name in running), None)
    if service is None:
        raise click.ClickException(f"{' and '.join(wanted)}: not running. Type: otel-train stack up")
    address = str(service.page_url(offset))
    click.echo(address)
    if not webbrowser.open(address):
        click.echo("no browser was found on this machine", err=True)


@command.command("build")
def build_programs() -> None:
    """Build what --native needs, and amtool and promtool beside it, before it is needed."""
    from otel_train.stack.build import build
    from otel_train.stack.programs import cache

    build(say=lambda line: click.echo(line, err=True))
    click.echo(cache() / "bin")


def _directory(directory: Path | None) -> Path:
    from otel_train.stack.files import default_directory

    return (directory or default_directory()).resolve()


def _prepared(directory: Path | None) -> Path:
    where = _directory(directory)
    where.mkdir(parents=True, exist_ok=True)
    return where


def _running(where: Path) -> tuple[list[str], int]:
    """Names of the parts that run, and the offset of their ports."""
    from otel_train.stack import compose, native

    started = native.processes(where)
    if started:
        return [process.name for process in started if process.running()], started[0].offset
    return (compose.running(where) if (where / "docker-compose.yml").is_file() else []), 0


def _show(where: Path) -> bool:
    """Print the parts; returns whether all of them are ready."""
    from rich.table import Table
    from rich.text import Text

    from otel_train.stack import native
    from otel_train.stack.services import SERVICES, environment

    running, offset = _running(where)
    started = bool(native.processes(where))
    table = Table(box=None, pad_edge=False)
    for heading in ("part", "state", "page"):
        table.add_column(heading)
    states = []
    for service in SERVICES:
        if started and service.program is None:
            table.add_row(service.name, Text("only in containers", "dim"), "")
            continue
        state = "down" if service.name not in running else "ready" if native.is_ready(service, offset) else "not ready"
        states.append(state)
        page = service.page_url(offset) if service.name in running else None
        table.add_row(service.name, Text(state, "green" if state == "ready" else "red"), page or "")
    console = open_console()
    console.print(table)
    if "ready" in states:
        console.print("\nTo send a training here:")
        for name, value in environment(offset).items():
            console.print(f"  export {name}={value}", soft_wrap=True, highlight=False)
    elif "down" in states and len(set(states)) == 1:
        console.print("\nStart it: otel-train stack up (without containers: --native)")
    return set(states) == {"ready"}
