"""Builds the program that reads dashboards by Grafana's schema, beside the stack's programs: run it to build it."""

import hashlib
import subprocess
from pathlib import Path

from otel_train.stack.programs import cache

HERE = Path(__file__).parent / "schema"
SOURCES = b"".join((HERE / name).read_bytes() for name in ("main.go", "go.mod", "go.sum"))
PROGRAM = cache() / "bin" / f"grafana-schema-{hashlib.sha256(SOURCES).hexdigest()[:12]}"

if __name__ == "__main__" and not PROGRAM.is_file():
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["go", "build", "-trimpath", "-o", str(PROGRAM), "."], cwd=HERE, check=True)
