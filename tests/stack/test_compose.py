"""The shipped compose file itself, brought up by podman around the real programs: all of it but Grafana."""

import contextlib
import os
import resource
import shutil
import subprocess
import threading

import pytest
import yaml
from backends import Stack, until
from click.testing import CliRunner
from docker_compose import PROGRAM

from otel_train.cli import group
from otel_train.stack import build, files
from otel_train.stack.services import SERVICES

DOCKERFILE = """
FROM scratch
COPY {program} /bin/{program}
COPY busybox /bin/wget
ENTRYPOINT ["/bin/{program}"]
"""
"""An image around a program, under the official one's name. The file's health checks need wget, which the official
images have: Jaeger's is Alpine, Prometheus' and Alertmanager's are busybox."""
WITHOUT_GRAFANA = "services: {grafana: {profiles: [none]}}\n"
SERVED = [service for service in SERVICES if service.program]


@pytest.fixture
def engine(programs, tmp_path, monkeypatch):
    """podman with images of the names that the file pins, serving Docker's API."""
    lacking = [name for name in ("podman", "runc", "busybox") if shutil.which(name) is None]
    lacking += [] if PROGRAM.is_file() else ["docker-compose (python tests/stack/docker_compose.py)"]
    if lacking:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"not found: {', '.join(lacking)}")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    configuration = tmp_path / "containers.conf"
    configuration.write_text(
        f'[engine]\nruntime = "runc"\n[containers]\ndefault_ulimits = ["nofile={most}:{most}", "nproc=4096:4096"]\n'
    )
    monkeypatch.setenv("CONTAINERS_CONF", str(configuration))
    socket = f"unix://{tmp_path}/podman.sock"
    monkeypatch.setenv("DOCKER_HOST", socket)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker-compose").symlink_to(PROGRAM)
    images = yaml.safe_load((files.shipped() / "docker-compose.yml").read_text())["services"]
    for service in SERVED:
        make_image(images[service.name]["image"], service.program, tmp_path / service.name)
    server = subprocess.Popen(["podman", "system", "service", "-t", "0", socket])
    until(lambda: [socket] if (tmp_path / "podman.sock").exists() else [], 1)
    yield
    server.terminate()
    server.wait()


def make_image(name, program, folder):
    """A program as an image."""
    folder.mkdir()
    shutil.copy(build.program(program), folder / program)
    shutil.copy(shutil.which("busybox"), folder / "busybox")
    (folder / "Dockerfile").write_text(DOCKERFILE.format(program=program))
    subprocess.run(["podman", "build", "--quiet", "--tag", name, str(folder)], check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def health_checks():
    """podman leaves the file's health checks to systemd's timers: here they are run in their place."""
    over = threading.Event()

    def run():
        while not over.wait(0.5):
            for service in SERVED:
                check = ["podman", "healthcheck", "run", f"otel-train-{service.name}-1"]
                subprocess.run(check, capture_output=True)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def cli(*arguments):
    """A command in this process; returns what it printed."""
    result = CliRunner().invoke(group, ["stack", *map(str, arguments)])
    assert 0 == result.exit_code, result.output
    return result.output


def test_up_train_down(engine, tmp_path, start_ranks):
    """``otel-train stack up`` starts it; a training's spans and metrics are there; ``down -v`` leaves nothing."""
    directory = tmp_path / "stack"
    directory.mkdir()
    (directory / "docker-compose.override.yml").write_text(WITHOUT_GRAFANA)
    try:
        with health_checks():
            said = cli("up", "--dir", directory)
        assert "export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318" in said
        assert 4 == said.count("ready")
        stack = Stack(directory, 0)
        (process,) = start_ranks(stack.otlp, "contained", 40)
        assert 0 == process.wait(120)
        stack.steps("contained", 0, 40)
        stack.value('dl_step_count_total{dl_run_id="contained"}', 40)
        assert {"ok", "unknown"} >= {
            rule["health"] for found in stack.ask("/api/v1/rules")["groups"] for rule in found["rules"]
        }
    finally:
        cli("down", "-v", "--dir", directory)
    for what, column in (("ps", "Names"), ("volume", "Name"), ("network", "Name")):
        listed = ["podman", what, *(["ls"] if what != "ps" else ["--all"]), "--format", f"{{{{.{column}}}}}"]
        left = subprocess.run(listed, capture_output=True, text=True, check=True)
        assert "otel-train" not in left.stdout
