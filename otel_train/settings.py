"""Every setting: one frozen object, checked once at ``init()``. Code > environment > file > default.

The table in ``docs/settings.md`` is generated from here (``table``).
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from otel_train import alert_targets
from otel_train.alert_targets import MailTarget, WebhookTarget
from otel_train.errors import SettingsError
from otel_train.setting_values import (
    alert_rules,
    choice,
    default_directory,
    factor,
    flag,
    milliseconds_as_seconds,
    name,
    numbers,
    numbers_or_all,
    one_step_in,
    one_step_in_or_off,
    pairs,
    path,
    positive_seconds,
    run_name,
    sampling_seconds,
    seconds,
    share_or_off,
    size,
    step_ranges,
    tracker_names,
    tracker_seconds,
    whole_number,
)

LEVELS = ("off", "steps", "phases", "gpu")
"""What is recorded: nothing; steps and their waits for data; their phases too; and what those take on a GPU."""

PROTOCOLS = ("http/protobuf", "grpc")

PRESETS: dict[str, dict[str, object]] = {"full_monitoring": {"level": "gpu", "progress": True, "keep_every": "auto"}}
"""Settings that a preset gives; any of them can still be given by itself."""


def setting(
    default: Any, parse: Callable[[object], Any], variable: str | None, doc: str, *, secret: bool = False
) -> Any:
    """A field of ``Settings``: its default (or a function that gives it), parser, environment variable and meaning."""
    metadata = {"parse": parse, "variable": variable, "doc": doc, "secret": secret}
    if callable(default):
        return field(default_factory=default, repr=not secret, metadata=metadata)
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """The settings in force. Made by ``load()``; nothing is checked after that."""

    enabled: bool = setting(
        True, flag, "OTEL_TRAIN_ENABLED", "Record at all. Off by itself where OTEL_SDK_DISABLED=true."
    )
    instrument: bool = setting(
        False,
        flag,
        "OTEL_TRAIN_INSTRUMENT",
        "Zero code: see torch and the frameworks without a word in the script. In the environment it is enough by "
        "itself; see zero-code.md.",
    )
    dir: Path = setting(default_directory, path, "OTEL_TRAIN_DIR", "Where runs are recorded.")
    level: str = setting(
        "gpu",
        choice(*LEVELS),
        "OTEL_TRAIN_LEVEL",
        "off, steps (steps and data waits), phases, or gpu (phases, and what they take on the GPU where there is one): "
        "the highest level; the budget may ask for a lower one.",
    )
    overhead_budget: float | None = setting(
        0.01,
        share_or_off,
        "OTEL_TRAIN_OVERHEAD_BUDGET",
        "What otel_train may cost of a step: 0.01 or 1%. Above it the level goes down. off: no limit.",
    )
    max_disk: int = setting(
        512 * 2**20, size, "OTEL_TRAIN_MAX_DISK", "Bytes kept for each rank of a run; the oldest records go first."
    )
    resource_interval_s: float = setting(
        5.0,
        sampling_seconds,
        "OTEL_TRAIN_RESOURCE_INTERVAL",
        "Seconds between two samples of GPUs, CPUs, memory, disks and network.",
    )
    profile_every: "int | str | None" = setting(
        None,
        one_step_in_or_off,
        "OTEL_TRAIN_PROFILE_EVERY",
        "One step in so many is seen by torch's profiler; auto: as many as half the budget allows; off: none by "
        "itself. See profiles.md.",
    )
    profile_steps: tuple[tuple[int, int], ...] = setting(
        (), step_ranges, "OTEL_TRAIN_PROFILE_STEPS", "Steps to profile, whatever they cost: 100,200-203."
    )
    profile_epochs: tuple[int, ...] = setting(
        (), numbers, "OTEL_TRAIN_PROFILE_EPOCHS", "Epochs of which a step is profiled, after their first 20: 1,5."
    )
    profile_window: int = setting(1, whole_number, "OTEL_TRAIN_PROFILE_WINDOW", "Steps a profile.")
    profile_ranks: tuple[int, ...] | None = setting(
        None, numbers_or_all, "OTEL_TRAIN_PROFILE_RANKS", "Ranks that profile: all, or 0,8."
    )
    profile_shapes: bool = setting(
        False, flag, "OTEL_TRAIN_PROFILE_SHAPES", "With the operators' shapes, and from them FLOPs and MFU."
    )
    profile_stacks: bool = setting(
        False, flag, "OTEL_TRAIN_PROFILE_STACKS", "With Python's stacks: the lines that wait for the GPU."
    )
    profile_memory: bool = setting(
        False, flag, "OTEL_TRAIN_PROFILE_MEMORY", "With the memory that each operator allocates and frees."
    )
    profile_spans: bool = setting(
        False,
        flag,
        "OTEL_TRAIN_PROFILE_SPANS",
        "With the outermost operators as spans, under their phases.",
    )
    profile_on_alert: bool = setting(
        True,
        flag,
        "OTEL_TRAIN_PROFILE_ON_ALERT",
        "Profile a step when steps have become slower (alerts step_time and throughput), at most once in ten minutes.",
    )
    alerts: "Path | bool" = setting(
        True,
        alert_rules,
        "OTEL_TRAIN_ALERTS",
        "on (the built-in rules), off, or a YAML file of rules; see alerts.md.",
    )
    trackers: tuple[str, ...] = setting(
        (),
        tracker_names,
        "OTEL_TRAIN_TRACKERS",
        "Experiment trackers whose open run gets the measures: mlflow, tensorboard, wandb, several with commas; auto: "
        "those in which a run is open; off. See trackers.md.",
    )
    tracker_interval_s: float = setting(
        10.0, tracker_seconds, "OTEL_TRAIN_TRACKER_INTERVAL", "Seconds of the run that a tracker is told in one row."
    )
    tracker_ranks: tuple[int, ...] | None = setting(
        (0,), numbers_or_all, "OTEL_TRAIN_TRACKER_RANKS", "Ranks that tell trackers: all, or 0,8."
    )
    tensorboard_dir: Path | None = setting(
        None,
        path,
        "OTEL_TRAIN_TENSORBOARD_DIR",
        "The log_dir of your SummaryWriter, where trackers has tensorboard. By itself, in zero code: that of the "
        "writer made last.",
    )
    preset: str | None = setting(
        None,
        choice(*PRESETS),
        "OTEL_TRAIN_PRESET",
        "full_monitoring turns on all there is; single settings override it.",
    )
    run_id: str | None = setting(
        None,
        run_name,
        "OTEL_TRAIN_RUN_ID",
        "The id that all ranks share. By itself: from the launcher, or time and chance.",
    )
    progress: bool = setting(False, flag, "OTEL_TRAIN_PROGRESS", "A live display on the terminal of rank 0.")
    total_steps: int | None = setting(
        None, whole_number, "OTEL_TRAIN_TOTAL_STEPS", "Steps the run will have, for the display's remaining time."
    )
    keep_every: "int | str" = setting(
        "auto", one_step_in, "OTEL_TRAIN_KEEP_EVERY", "One step in so many becomes a trace; auto: about one in 5 s."
    )
    slow_factor: float = setting(
        2.0, factor, "OTEL_TRAIN_SLOW_FACTOR", "A step so many times slower than the recent median becomes a trace too."
    )
    exit_timeout_s: float = setting(
        2.0, seconds, "OTEL_TRAIN_EXIT_TIMEOUT", "Seconds that the exit may wait for a backend. The rest stays on disk."
    )
    service_name: str | None = setting(None, name, "OTEL_SERVICE_NAME", "service.name; by itself the script's name.")
    resource_attributes: dict[str, str] = setting(
        dict, pairs, "OTEL_RESOURCE_ATTRIBUTES", "More attributes of the resource: key=value,key2=value2."
    )
    endpoint: str | None = setting(
        None, name, "OTEL_EXPORTER_OTLP_ENDPOINT", "Where OTLP goes. Not set: nothing leaves, the run stays on disk."
    )
    protocol: str | None = setting(
        None,
        choice(*PROTOCOLS),
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "http/protobuf (default), or grpc with the extra of that name.",
    )
    headers: dict[str, str] = setting(
        dict,
        pairs,
        "OTEL_EXPORTER_OTLP_HEADERS",
        "Headers of each request: key=value. Never recorded, never shown.",
        secret=True,
    )
    metric_interval_s: float = setting(
        10.0, positive_seconds, "OTEL_METRIC_EXPORT_INTERVAL", "Time between metric points (the variable is in ms)."
    )
    alert_webhook: tuple[WebhookTarget, ...] = setting(
        (),
        alert_targets.webhooks,
        "OTEL_TRAIN_ALERT_WEBHOOK",
        "URLs that alerts are posted to: Slack, Discord, Teams or plain JSON; see notifications.md. Never recorded, "
        "never shown.",
        secret=True,
    )
    alert_email: MailTarget | None = setting(
        None,
        alert_targets.mail,
        "OTEL_TRAIN_ALERT_EMAIL",
        "Mail server, sender and recipients of alerts: smtps://user@host/?from=…&to=…. Never recorded, never shown.",
        secret=True,
    )
    alert_command: str | None = setting(
        None,
        alert_targets.command,
        "OTEL_TRAIN_ALERT_COMMAND",
        "Command to run for an alert, which it is given as JSON. Never recorded, never shown.",
        secret=True,
    )


SECRET = frozenset(one.name for one in fields(Settings) if one.metadata["secret"])
"""Settings whose value is neither written to the run log nor shown."""

IN_MILLISECONDS = frozenset({"metric_interval_s"})

DECLARATIVE = ("instrumentation/development", "python", "torch")
"""Where ``OTEL_CONFIG_FILE`` has the options of this instrumentation."""


@dataclass(frozen=True)
class Loaded:
    """Settings with the place that each came from."""

    settings: Settings
    sources: dict[str, str]


def load(given: Mapping[str, Any] | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings in force, from code, environment and file. Raises ``SettingsError``."""
    return load_with_sources(given, environ).settings


def load_with_sources(given: Mapping[str, Any] | None = None, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Like ``load``, and where each value comes from. Raises ``SettingsError``."""
    values: dict[str, Any] = {}
    sources = {known.name: "default" for known in fields(Settings)}

    def take(source: str, key: str, raw: object, parse: Callable[[object], Any], called: str) -> None:
        try:
            values[key] = parse(raw)
        except ValueError as error:
            shown = "(hidden)" if key in SECRET else repr(raw)
            raise SettingsError(f"{called} is {shown}; allowed is {error}. {_remedy(source, called)}") from None
        sources[key] = source

    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        values["enabled"], sources["enabled"] = False, "OTEL_SDK_DISABLED"
    layers = [_from_declarative(environ), _from_file(environ), _from_environment(environ), _from_code(given or {})]
    preset = next((raw for layer in reversed(layers) for _, key, raw, _, _ in layer if key == "preset"), None)
    for key, value in PRESETS.get(str(preset), {}).items():
        values[key], sources[key] = value, f"preset {preset}"
    for layer in layers:
        for entry in layer:
            take(*entry)
    settings = Settings(**values)
    _check_endpoint(settings)
    return Loaded(settings, sources)


def _check_endpoint(settings: Settings) -> None:
    """An address without its scheme is the commonest slip; gRPC does without one."""
    endpoint = settings.endpoint
    if endpoint is None or settings.protocol == "grpc" or re.match(r"https?://[^/\s]+", endpoint):
        return
    example = f"http://{endpoint}" if re.fullmatch(r"[\w.-]+(:\d+)?", endpoint) else "http://localhost:4318"
    raise SettingsError(f"the OTLP endpoint is {endpoint!r}; allowed is a URL with http:// or https://. Try {example}")


Entry = tuple[str, str, object, Callable[[object], Any], str]
"""Source, setting, raw value, parser, and what the user called it."""


def _from_code(given: Mapping[str, Any]) -> list[Entry]:
    known = {one.name: one for one in fields(Settings)}
    for key in given:
        if key not in known:
            raise SettingsError(f"init() got {key!r}; allowed are {', '.join(known)}")
    return [
        ("code", key, raw, known[key].metadata["parse"], f"init({key}=…)")
        for key, raw in given.items()
        if raw is not None
    ]


def _from_environment(environ: Mapping[str, str]) -> list[Entry]:
    entries: list[Entry] = []
    for known in fields(Settings):
        variable = known.metadata["variable"]
        raw = environ.get(variable, "")
        if raw.strip():
            parse = milliseconds_as_seconds if known.name in IN_MILLISECONDS else known.metadata["parse"]
            entries.append((variable, known.name, raw, parse, variable))
    return entries


def _from_file(environ: Mapping[str, str]) -> list[Entry]:
    at = environ.get("OTEL_TRAIN_CONFIG", "").strip()
    return _entries_of(at, _read_yaml("OTEL_TRAIN_CONFIG", at, environ)) if at else []


def _from_declarative(environ: Mapping[str, str]) -> list[Entry]:
    """The options of this instrumentation in OpenTelemetry's declarative configuration."""
    at = environ.get("OTEL_CONFIG_FILE", "").strip()
    content = _read_yaml("OTEL_CONFIG_FILE", at, environ) if at else {}
    for key in DECLARATIVE:
        content = content.get(key) or {} if isinstance(content, dict) else {}
    return _entries_of(f"{at} ({'.'.join(DECLARATIVE)})", content) if content else []


def _read_yaml(variable: str, at: str, environ: Mapping[str, str]) -> Any:
    """The content of a file, with ``${NAME}`` and ``${NAME:-default}`` from the environment."""
    import yaml

    def value_of(match: "re.Match[str]") -> str:
        return environ.get(match[1]) or match[2] or ""

    try:
        text = re.sub(r"\$\{(?:env:)?(\w+)(?::-([^}]*))?\}", value_of, Path(at).expanduser().read_text())
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise SettingsError(f"{variable}={at} cannot be read as YAML: it is wrong{_place(error)}") from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"{variable}={at} cannot be read as YAML: {error}") from error


def _place(error: Exception) -> str:
    """Where the file is wrong; what stands there may be a secret, and YAML's own error quotes it."""
    mark = getattr(error, "problem_mark", None)
    return f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _entries_of(at: str, content: Any) -> list[Entry]:
    if not isinstance(content, dict):
        raise SettingsError(f"{at} holds {type(content).__name__}; allowed is a mapping of settings: level: steps")
    known = {one.name: one for one in fields(Settings)}
    for key in content:
        if key not in known:
            raise SettingsError(f"{at} has {key!r}; allowed are {', '.join(known)}")
    return [
        (at, key, raw, known[key].metadata["parse"], f"{key} in {at}")
        for key, raw in content.items()
        if raw is not None
    ]


def _remedy(source: str, called: str) -> str:
    return "Change the call." if source == "code" else f"Change or remove {called}."


def explain(loaded: Loaded) -> list[tuple[str, str, str, str]]:
    """For each setting: name, value as text (a secret's is hidden), source, environment variable."""
    rows = []
    for known in fields(Settings):
        value = getattr(loaded.settings, known.name)
        shown = "(hidden)" if known.name in SECRET and value else _text(value)
        rows.append((known.name, shown, loaded.sources[known.name], known.metadata["variable"]))
    return rows


def _text(value: object) -> str:
    if value is None or value in ({}, ()):
        return "-"
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, tuple) and all(isinstance(item, str | int) for item in value):
        return ",".join(map(str, value))
    return str(value)


def recordable(settings: Settings) -> dict[str, Any]:
    """The settings as ``run.json`` holds them, without secrets."""
    content = {one.name: getattr(settings, one.name) for one in fields(Settings) if one.name not in SECRET}
    at = None if settings.tensorboard_dir is None else str(settings.tensorboard_dir)
    return {**content, "dir": str(settings.dir), "alerts": _text(settings.alerts), "tensorboard_dir": at}


def table() -> str:
    """The settings as a Markdown table, for ``docs/settings.md``."""
    lines = ["| variable | in code and YAML | default | meaning |", "|---|---|---|---|"]
    defaults = {**{one.name: one.default for one in fields(Settings)}, "dir": "~/.local/state/otel_train"}
    defaults |= {"max_disk": "512MiB", "resource_attributes": None, "headers": None}
    for one in fields(Settings):
        variable, doc = one.metadata["variable"], one.metadata["doc"]
        lines.append(f"| `{variable}` | `{one.name}` | {_text(defaults[one.name])} | {doc} |")
    return "\n".join(lines)
