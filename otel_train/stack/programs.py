"""The programs of the stack as Go modules: versions and sums, pinned. Changed together with docker-compose.yml."""

import hashlib
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path


@dataclass(frozen=True)
class Module:
    """A published Go module, and the binaries built of it."""

    path: str
    version: str
    sum: str
    """Of its content, as go.sum has it."""
    binaries: dict[str, str]
    """The package of each."""
    shown: str
    """The version by which people know it."""
    minutes: float
    """What building it takes on two cores, with nothing cached."""
    tags: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    """Empty files that its sources embed and the module lacks: a web page's."""


BUILDER = Module(
    "go.opentelemetry.io/collector/cmd/builder", "v0.155.0", "h1:YtnuJjozO9wh84gVd9W/e5C6NsLLqbnBYavGBsCgZyw=",
    {"builder": "."}, "0.155.0", 0.3,
)  # fmt: skip
"""Generates the collector's main program from ``builder.yaml``; its modules are pinned in ``go.sum``."""

COLLECTOR = "otelcol"
COLLECTOR_MINUTES = 2.5

MODULES = (
    Module(
        "github.com/prometheus/alertmanager", "v0.34.2", "h1:4oOnHs4J41X9n+7MucFjA3I5i5MtasjWTnIY27q5Qkw=",
        {"alertmanager": "./cmd/alertmanager", "amtool": "./cmd/amtool"}, "0.34.2", 0.5, (), ("ui/app/dist/none",),
    ),
    Module(
        "github.com/jaegertracing/jaeger", "v1.76.0", "h1:sWCOOF1dr+NL0PLil7mFo3BqqQL8k4WiM7aguFbc14g=",
        {"jaeger": "./cmd/jaeger"}, "2.13.0", 3.5,
    ),
    Module(
        "github.com/prometheus/prometheus", "v0.316.0", "h1:f1GRFerhTMKQma+awCoC9T820ecWeGSdF+xAlMHzZzM=",
        {"prometheus": "./cmd/prometheus", "promtool": "./cmd/promtool"}, "3.16.0", 2.5, ("remove_all_sd",),
    ),
)  # fmt: skip

BINARIES = (COLLECTOR, *(binary for module in MODULES for binary in module.binaries))


def cache() -> Path:
    """Where binaries are kept, by what is pinned: another version has another directory."""
    base = os.environ.get("XDG_CACHE_HOME")
    root = (Path(base) if base else Path.home() / ".cache") / "otel_train" / "stack"
    return root / _key()


def collector_files() -> Path:
    """``builder.yaml``, ``go.mod`` and ``go.sum``."""
    return Path(str(resources.files("otel_train"))) / "stack" / "collector"


def _key() -> str:
    pinned = hashlib.sha256(repr((BUILDER, MODULES)).encode())
    for path in sorted(collector_files().iterdir()):
        pinned.update(path.read_bytes())
    return pinned.hexdigest()[:12]
