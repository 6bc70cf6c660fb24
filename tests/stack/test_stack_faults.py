"""What goes wrong when the stack is brought up ends in a message that says what to do."""

import os
import shutil
import socket
import subprocess
import sys

import pytest
from click.testing import CliRunner

from otel_train.cli import group
from otel_train.errors import StackError
from otel_train.stack import build, compose, files, native
from otel_train.stack.programs import MODULES


def cli(*arguments, code=0, **environ):
    """A command in this process; returns what it printed."""
    result = CliRunner(env=environ).invoke(group, ["stack", *map(str, arguments)])
    assert code == result.exit_code, result.output
    return result.output


def test_a_port_that_is_taken(programs, tmp_path, offset):
    """Which, who needs it, and how to move; nothing is left running."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 9090 + offset + 40))
        taken.listen()
        said = cli("up", "--native", "--port-offset", offset + 40, "--dir", tmp_path, code=1)
    assert f"port {9090 + offset + 40}, which prometheus needs, is taken" in said
    assert "--port-offset" in said
    assert [] == native.processes(tmp_path)


def test_a_part_that_dies_at_start(programs, tmp_path, offset):
    """Its last lines and its log; those that were started before it are ended."""
    files.write(tmp_path)
    (tmp_path / "collector-config" / "local.yaml").write_text("receivers: {nonsense: {}}\n")
    said = cli("up", "--native", "--port-offset", offset + 50, "--dir", tmp_path, code=1)
    assert "otel-collector ended when it started" in said
    assert "nonsense" in said
    assert "local.yaml was edited, and is left as it is" in said
    assert not [process for process in native.processes(tmp_path) if process.running()]


def test_up_status_open_down(programs, tmp_path, offset, monkeypatch):
    """From nothing and back, by the commands; ``down -v`` leaves no data."""
    where = ("--dir", tmp_path)
    assert "down" in cli("status", *where, code=1)
    said = cli("up", "--native", "--port-offset", offset + 60, *where)
    assert f"export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{4318 + offset + 60}" in said
    assert 4 == cli("status", *where).count("ready")
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    cli("open", *where)
    cli("open", "prometheus", *where)
    assert [f"http://127.0.0.1:{port + offset + 60}" for port in (16686, 9090)] == opened
    assert "only in containers" in cli("status", *where)
    cli("down", "-v", *where)
    assert not (tmp_path / "data").exists()
    assert "nothing is running" in cli("down", *where, PATH="")


def test_files_that_were_edited_are_kept(tmp_path):
    """Ours are brought up to date, edited ones stay; deleting one brings the shipped one back."""
    assert [] == files.write(tmp_path)
    edited = tmp_path / "stack" / "prometheus" / "prometheus.yml"
    shipped = edited.read_text()
    edited.write_text(shipped + "# mine\n")
    assert [edited] == files.write(tmp_path)
    assert edited.read_text().endswith("# mine\n")
    edited.unlink()
    assert [] == files.write(tmp_path)
    assert shipped == edited.read_text()


def test_addresses_for_processes(tmp_path):
    """Services are on loopback, their ports moved, what has another name is left alone."""
    text = (
        "a: jaeger:14317\nb: http://prometheus:9090/api\nc: 0.0.0.0:4317\nd: my-jaeger:1\nf: /var/lib/otelcol/queue\n"
    )
    text += "host: 0.0.0.0\n  port: 18888\n"
    expected = (
        "a: 127.0.0.1:14417\nb: http://127.0.0.1:9190/api\nc: 127.0.0.1:4417\nd: my-jaeger:1\n"
        f"f: {tmp_path}/otelcol/queue\nhost: 127.0.0.1\n  port: 18988\n"
    )
    assert expected == files.natively(text, tmp_path, 100)


def test_no_container_engine(tmp_path, monkeypatch):
    """What was looked for, and the way without."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(StackError, match=r"neither docker compose, docker-compose, podman compose nor.*--native"):
        compose.command()


def test_no_go(tmp_path, monkeypatch):
    """Which programs are missing, and both ways out."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(StackError, match=r"not found: otelcol, alertmanager.*Go.*otel-train stack up"):
        build.build(say=lambda line: None)


@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go")
def test_a_module_that_is_not_what_was_published(tmp_path, monkeypatch):
    """Is not built."""
    from dataclasses import replace

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (module, *_) = MODULES
    monkeypatch.setattr(build, "MODULES", (replace(module, sum="h1:other="),))
    with pytest.raises(StackError, match="pinned is h1:other="):
        build.build(tuple(module.binaries), say=lambda line: None)


def test_the_wheel_brings_the_files(tmp_path):
    """All of them, in the package."""
    root = files.shipped()
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(root)]
    subprocess.run(command, check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    (wheel,) = tmp_path.glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "out", "zip")
    brought = tmp_path / "out" / "otel_train" / "stack" / "files"
    for part in files.PARTS:
        for path in files._files(root / part):
            assert path.read_bytes() == (brought / path.relative_to(root)).read_bytes()
