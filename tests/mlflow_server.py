"""MLflow's real tracking server on loopback, to be killed and started again on the same database."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path


class MlflowServer:
    """One server; ``uri`` stays the same when it is started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> "MlflowServer":
        """Start it, and wait until it serves. Raises ``RuntimeError`` with what it said when it ends instead."""
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(self.port)),
            *("--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db"),
            *("--artifacts-destination", str(self._folder / "artifacts")),
        ]
        environ = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.process = subprocess.Popen(
            command, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        said = []
        for line in self.process.stdout:
            said.append(line)
            if "Application startup complete" in line:
                threading.Thread(target=self.process.stdout.read, daemon=True).start()  # or it blocks on a full pipe
                return self
        raise RuntimeError("".join(said))

    def kill(self) -> None:
        """SIGKILL it and its workers, as when a machine goes away. Twice is once."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
