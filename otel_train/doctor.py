"""What ``otel-train doctor`` looks at: each check says what it found, and what to do where that is a problem."""

import ctypes.util
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from otel_train.probe import Answer, probe, probe_connection
from otel_train.runlog.layout import SEGMENT_BYTES
from otel_train.runlog.storage import Folder
from otel_train.settings import Settings
from otel_train.version import __version__

OK, NOTE, PROBLEM = "ok", "note", "problem"

PACKAGES = ("torch", "opentelemetry-sdk", "numpy")

SIGNALS = ("TRACES", "METRICS", "LOGS")


@dataclass(frozen=True)
class Check:
    """One finding. ``note`` is worth knowing and no problem."""

    name: str
    status: str
    text: str


def examine(settings: Settings, environ: Mapping[str, str] = os.environ) -> list[Check]:
    """All checks. Nothing is raised; the directory is really written to and the endpoint really asked."""
    return [
        check_recording(settings),
        check_directory(settings.dir, settings.max_disk),
        check_endpoint(settings, environ),
        check_gpu(),
    ]


def versions() -> dict[str, str | None]:
    """Versions by name; None where a package is not installed. Nothing is imported for it."""
    found: dict[str, str | None] = {"otel-train": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def check_recording(settings: Settings) -> Check:
    """Would a run be recorded at all?"""
    if not settings.enabled:
        return Check("recording", NOTE, "is off (OTEL_TRAIN_ENABLED or OTEL_SDK_DISABLED)")
    if settings.level == "off":
        return Check("recording", NOTE, "is off (OTEL_TRAIN_LEVEL)")
    return Check("recording", OK, f"is on, level {settings.level}")


def check_directory(directory: Path, needed_bytes: int) -> Check:
    """Create what a run creates there, a preallocated and mapped file, and remove it again."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=directory) as trial:
            segment = Folder(Path(trial)).create_mapped("steps-00000000.bin", SEGMENT_BYTES)
            segment[-1] = 1
            segment.close()
        free = shutil.disk_usage(directory).free
    except OSError as error:
        remedy = "Set OTEL_TRAIN_DIR to a directory that can be written; until then runs are kept in memory only"
        return Check("directory", PROBLEM, f"{directory} cannot be written: {error.strerror or error}. {remedy}")
    if free < needed_bytes:
        short = f"{free >> 20:,} MiB are free, a rank may take {needed_bytes >> 20:,} MiB (OTEL_TRAIN_MAX_DISK)"
        return Check("directory", NOTE, f"{directory} can be written; {short}")
    return Check("directory", OK, f"{directory} can be written, {free >> 30:,} GiB are free")


def check_endpoint(
    settings: Settings,
    environ: Mapping[str, str],
    ask: Callable[[str, Mapping[str, str]], Answer] = probe,
    connect: Callable[[str], Answer] = probe_connection,
) -> Check:
    """Is somebody there, and does it take OTLP?"""
    is_grpc = settings.protocol == "grpc"
    places = _places(settings, environ, is_grpc)
    if not places:
        return Check(
            "endpoint", NOTE, "is not set: nothing leaves this machine. Set OTEL_EXPORTER_OTLP_ENDPOINT to send"
        )
    answers = [connect(place) if is_grpc else ask(place, settings.headers) for place in places]
    return Check(
        "endpoint",
        OK if all(answer.ok for answer in answers) else PROBLEM,
        "; ".join(answer.text for answer in answers),
    )


def _places(settings: Settings, environ: Mapping[str, str], is_grpc: bool) -> list[str]:
    """Where the signals that are on go: each address of a signal's own, and the common one once."""
    places: list[str] = []
    common = (settings.endpoint or "").rstrip("/")
    for signal in SIGNALS:
        if environ.get(f"OTEL_{signal}_EXPORTER", "").strip().lower() == "none":
            continue
        own = environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "").strip()
        if own:
            places.append(own)
        elif common and not any(place.startswith(common) for place in places):
            places.append(common if is_grpc else f"{common}/v1/{signal.lower()}")
    return list(dict.fromkeys(places))


def check_gpu() -> Check:
    """Can NVIDIA's GPUs be read? A machine without one is no problem."""
    from otel_train.samplers.hardware import describe_hardware

    described = describe_hardware()
    gpus = described.get("gpus", [])
    if gpus:
        models = ", ".join(sorted({str(gpu.get("model")) for gpu in gpus}))
        return Check("GPU", OK, f"NVML loads: {len(gpus)} × {models}, driver {described.get('driver', 'unknown')}")
    if ctypes.util.find_library("nvidia-ml"):
        return Check(
            "GPU", NOTE, "NVML is there but shows no GPU: is the driver loaded, and the device in this container?"
        )
    return Check("GPU", NOTE, "no NVIDIA driver library (NVML) on this machine: runs are recorded without GPU identity")
