"""The rare events of one rank, added up: checkpoints, evaluations, epochs, errors, timed functions."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from otel_train import names
from otel_train.derive.data_loading import DataLoading
from otel_train.derive.phases import PhaseTotal
from otel_train.derive.writer_queue import most_at_once
from otel_train.runlog.events import Event
from otel_train.runlog.layout import DATA_WAIT
from otel_train.runlog.ranklog import RankLog

MOST_PROFILES = 100
INPUT = "input"
"""What blocked the training between its steps: a wait for data that belongs to no step."""


@dataclass
class SpanTotal:
    """Events of one kind and name: how many, how many of them failed, and their time."""

    count: int = 0
    failed: int = 0
    time_s: float = 0.0

    def add(self, event: Event) -> None:
        """Add one event."""
        self.count += 1
        self.failed += event.error is not None
        self.time_s += (event.duration_ns or 0) / 1e9

    def merge(self, other: "SpanTotal") -> None:
        """Add another rank's."""
        self.count += other.count
        self.failed += other.failed
        self.time_s += other.time_s


@dataclass
class CheckpointTotal(SpanTotal):
    """Checkpoints saved, or loaded. Sizes in bytes, of those whose size is known."""

    blocking_s: float = 0.0
    """Time on the training's own thread; the rest was written beside it."""
    size_bytes: int = 0
    sized: int = 0
    sized_s: float = 0.0
    last_unix_s: float | None = None
    """When the last one began."""
    last_step: int | None = None
    last_path: str | None = None
    last_size_bytes: int | None = None
    longest_s: float | None = None
    """The longest one: its writing, where that went on beside the training."""
    staged: list[tuple[int, int]] = field(default_factory=list, repr=False)
    written: list[tuple[int, int]] = field(default_factory=list, repr=False)
    """Of asynchronous saves start and end in ns on the rank's clock: of what the training waited for, of the rest."""
    most_at_once: int = 0
    """The most asynchronous ones that were under way at one moment: the depth of the writer's queue."""
    stages: dict[str, SpanTotal] = field(default_factory=dict)
    """What they were made up of, as far as that is known; stages may lie in each other."""

    @property
    def rate(self) -> float | None:
        """Bytes a second, over the checkpoints whose size is known; None without one."""
        return self.size_bytes / self.sized_s if self.sized_s else None

    def merge(self, other: "SpanTotal") -> None:
        """Add another rank's; the last one is the latest of both."""
        super().merge(other)
        assert isinstance(other, CheckpointTotal)
        self.blocking_s += other.blocking_s
        self.size_bytes += other.size_bytes
        self.sized += other.sized
        self.sized_s += other.sized_s
        self.longest_s = max((each for each in (self.longest_s, other.longest_s) if each is not None), default=None)
        self.most_at_once = max(self.most_at_once, other.most_at_once)
        self.staged, self.written = [], []  # of two clocks
        self.stages = {name: replace(stage) for name, stage in self.stages.items()}
        for name, stage in other.stages.items():
            self.stages.setdefault(name, SpanTotal()).merge(stage)
        if (other.last_unix_s or 0) > (self.last_unix_s or 0):
            self.last_unix_s, self.last_step = other.last_unix_s, other.last_step
            self.last_path, self.last_size_bytes = other.last_path, other.last_size_bytes


@dataclass
class ErrorTotal:
    """Exceptions of one type that left a step, or a phase of a step that went on."""

    type: str
    phase: str | None
    count: int
    last_step: int | None
    message: str

    def merge(self, other: "ErrorTotal") -> None:
        """Add another rank's; step and message stay the first rank's."""
        self.count += other.count


@dataclass
class AlertTotal:
    """One rule: how often it fired, and for how long. Things that it is about (GPUs, file systems) count each."""

    severity: str = ""
    count: int = 0
    time_s: float = 0.0
    """Of those that are over."""
    firing: int = 0
    """Of those, how many were not over at the record's end."""
    last: str = ""
    """What the last one said."""
    since_ns: dict[str, int] = field(default_factory=dict, repr=False)

    def add(self, event: Event) -> None:
        """Add one event of kind ``alert``."""
        told = event.attributes
        label = str(told.get(names.ALERT_LABEL, ""))
        if told.get(names.ALERT_STATE) == names.RESOLVED:
            since_ns = self.since_ns.pop(label, None)
            self.time_s += (event.start_ns - since_ns) / 1e9 if since_ns is not None else 0.0
        else:
            self.count += 1
            self.severity, self.last = str(told.get(names.ALERT_SEVERITY, "")), str(told.get(names.ALERT_SUMMARY, ""))
            self.since_ns[label] = event.start_ns
        self.firing = len(self.since_ns)

    def merge(self, other: "AlertTotal") -> None:
        """Add another rank's."""
        self.count, self.time_s, self.firing = (
            self.count + other.count, self.time_s + other.time_s, self.firing + other.firing
        )  # fmt: skip
        self.last = other.last or self.last


@dataclass(frozen=True)
class Profiled:
    """A profile: of a step, or of a block that has a name."""

    step: int | None
    name: str | None
    reason: str
    bound: str
    """The class that took most of it."""
    shares: dict[str, float]
    """By class."""
    operator: str | None
    """What took most of the host's time."""
    path: str | None
    """Its trace, where it was kept."""


@dataclass
class EventScan:
    """What one rank's events come to."""

    to_unix_ns: Callable[[int], int]
    checkpoints: dict[str, CheckpointTotal] = field(default_factory=dict)
    """By kind: ``save``, ``load``."""
    evaluations: dict[str, SpanTotal] = field(default_factory=dict)
    epochs: SpanTotal = field(default_factory=SpanTotal)
    last_epoch: int | None = None
    """The last epoch that ended."""
    timed: dict[str, SpanTotal] = field(default_factory=dict)
    outside: dict[str, PhaseTotal] = field(default_factory=dict)
    """Phases outside steps or on other threads, by name."""
    errors: dict[tuple[str, str | None], ErrorTotal] = field(default_factory=dict)
    alerts: dict[str, AlertTotal] = field(default_factory=dict)
    """By rule."""
    profiles: list[Profiled] = field(default_factory=list)
    """The newest ``MOST_PROFILES``."""
    others: dict[str, SpanTotal] = field(default_factory=dict)
    """Events of every other kind, those of later versions too."""
    loading: dict[bool, DataLoading] = field(default_factory=dict)
    """What loaders fetched: by whether they feed the training."""
    health: dict[str, Any] = field(default_factory=dict)
    """The last word of otel_train on itself; empty before the first."""
    blocking: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Start and end, on the rank's monotonic clock in ns, of what kept the training thread: by ``checkpoint``, … ."""
    settings: list[tuple[int, str, str]] = field(default_factory=list)
    """What was set differently: when, in ns on the rank's clock; ``level`` or ``loader``; and to what, in words."""
    _loader: str = ""
    _failed_steps: set[int | None] = field(default_factory=set)

    def add(self, event: Event) -> None:
        """Add one event."""
        add = _ADD.get(event.kind)
        if add is None:
            self.others.setdefault(event.kind, SpanTotal()).add(event)
        else:
            add(self, event)

    @property
    def training_loading(self) -> DataLoading:
        """The loaders that feed the training; all of them, where none is known to."""
        return self.loading.get(True) or self.loading.get(False) or DataLoading()

    def block(self, what: str, event: Event) -> None:
        """Note that the event kept the training thread from its steps; no other thread does."""
        if event.thread is None and event.duration_ns:
            self.blocking.setdefault(what, []).append((event.start_ns, event.end_ns))


def scan_events(log: RankLog) -> EventScan:
    """Read the events of a rank, one at a time."""
    scan = EventScan(log.anchor.to_unix_ns)
    for event, _ in log.events():
        scan.add(event)
    _drop_errors_told_twice(scan)
    for total in scan.checkpoints.values():
        total.most_at_once = most_at_once(total.staged, total.written)
    return scan


def _add_checkpoint(scan: EventScan, event: Event) -> None:
    """Add one; of an asynchronous save the part that blocked is time of the checkpoint that is written beside it."""
    scan.block(names.CHECKPOINT, event)
    attributes = event.attributes
    total = _checkpoints_like(scan, event)
    seconds = (event.duration_ns or 0) / 1e9
    if event.thread is None:
        total.blocking_s += seconds
    mode = attributes.get(names.CHECKPOINT_MODE)
    if mode == names.STAGING and event.error is None:
        total.time_s += seconds
        total.staged.append((event.start_ns, event.end_ns))
        return
    if mode == names.BACKGROUND:
        total.written.append((event.start_ns, event.end_ns))
    total.add(event)
    total.longest_s = max(total.longest_s or 0.0, seconds)
    size = attributes.get(names.CHECKPOINT_SIZE)
    if size is not None:
        total.size_bytes += int(size)
        total.sized += 1
        total.sized_s += seconds
    total.last_unix_s = scan.to_unix_ns(event.start_ns) / 1e9
    total.last_step, total.last_path = event.step, attributes.get(names.CHECKPOINT_PATH)
    total.last_size_bytes = None if size is None else int(size)


def _add_checkpoint_stage(scan: EventScan, event: Event) -> None:
    name = str(event.attributes.get(names.CHECKPOINT_STAGE, "?"))
    _checkpoints_like(scan, event).stages.setdefault(name, SpanTotal()).add(event)


def _checkpoints_like(scan: EventScan, event: Event) -> CheckpointTotal:
    kind = str(event.attributes.get(names.CHECKPOINT_KIND, "save"))
    return scan.checkpoints.setdefault(kind, CheckpointTotal())


def _add_evaluation(scan: EventScan, event: Event) -> None:
    scan.block(names.EVALUATION_KIND, event)
    name = str(event.attributes.get(names.EVALUATION_NAME, "validation"))
    scan.evaluations.setdefault(name, SpanTotal()).add(event)


def _add_epoch(scan: EventScan, event: Event) -> None:
    scan.epochs.add(event)
    number = event.attributes.get(names.EPOCH_NUMBER)
    scan.last_epoch = int(number) if isinstance(number, int) else scan.last_epoch


def _add_timed(scan: EventScan, event: Event) -> None:
    scan.timed.setdefault(str(event.attributes.get(names.TIMED_NAME, "?")), SpanTotal()).add(event)


def _add_phase(scan: EventScan, event: Event) -> None:
    name = str(event.attributes.get(names.PHASE, "?"))
    if name in (DATA_WAIT, names.DATA_LOADER_START):
        scan.block(INPUT, event)
    count = int(event.attributes.get(names.PHASE_COUNT, 1))
    scan.outside.setdefault(name, PhaseTotal()).merge(PhaseTotal((event.duration_ns or 0) / 1e9, count))


def _add_error(scan: EventScan, event: Event) -> None:
    error = event.error or {}
    kind, phase = error.get("type", "?"), event.attributes.get(names.PHASE)
    if phase is None:
        scan._failed_steps.add(event.step)
    total = scan.errors.setdefault((kind, phase), ErrorTotal(kind, phase, 0, None, ""))
    total.count += 1
    total.last_step, total.message = event.step, error.get("message", "")


def _drop_errors_told_twice(scan: EventScan) -> None:
    """An exception that left a phase and then its step is one error: the step's."""
    told = {kind for kind, phase in scan.errors if phase is None}
    for (kind, phase), total in list(scan.errors.items()):
        if phase is not None and kind in told and total.last_step in scan._failed_steps:
            del scan.errors[kind, phase]


def _add_health(scan: EventScan, event: Event) -> None:
    scan.health = event.attributes


def _add_loading(scan: EventScan, event: Event) -> None:
    trains = bool(event.attributes.get(names.LOADER_TRAINS))
    scan.loading.setdefault(trains, DataLoading()).add(event)
    if trains:
        _add_loader(scan, event)


LOADER_SETTINGS = {
    names.LOADER_WORKERS: "workers",
    names.LOADER_PREFETCH: "batches ahead for each",
    names.LOADER_BATCH_SIZE: "samples a batch",
}


def _add_loader(scan: EventScan, event: Event) -> None:
    """Note it where a loader with other settings feeds the training than before."""
    told = event.attributes
    described = ", ".join(f"{told[name]} {what}" for name, what in LOADER_SETTINGS.items() if name in told)
    if described != scan._loader:
        if scan._loader:
            scan.settings.append((event.start_ns, "loader", f"the loader has {described} (before: {scan._loader})"))
        scan._loader = described


def _add_level(scan: EventScan, event: Event) -> None:
    scan.others.setdefault(event.kind, SpanTotal()).add(event)
    told = event.attributes
    cost = f", as it cost {told[names.LEVEL_SHARE]:.2%} of a step" if names.LEVEL_SHARE in told else ""
    what = f"otel_train records at level {told.get(names.LEVEL_NAME)}{cost}".replace("%", " %")
    scan.settings.append((event.start_ns, "level", what))


def _add_alert(scan: EventScan, event: Event) -> None:
    scan.alerts.setdefault(str(event.attributes.get(names.ALERT_RULE, "?")), AlertTotal()).add(event)


def _add_profile(scan: EventScan, event: Event) -> None:
    told = event.attributes
    operators = told.get(names.PROFILE_OPERATORS) or [[None]]
    profile = Profiled(
        event.step, told.get(names.PROFILE_NAME), str(told.get(names.PROFILE_REASON, "?")),
        str(told.get(names.PROFILE_BOUND, "?")), dict(told.get(names.PROFILE_SHARES, {})), operators[0][0],
        told.get(names.PROFILE_PATH),
    )  # fmt: skip
    scan.profiles[:] = [*scan.profiles, profile][-MOST_PROFILES:]


def _add_nothing(scan: EventScan, event: Event) -> None:
    """Running totals are metrics, and nothing that a report counts."""


_ADD: dict[str, Callable[[EventScan, Event], None]] = {
    names.CHECKPOINT: _add_checkpoint,
    names.CHECKPOINT_STAGE_KIND: _add_checkpoint_stage,
    names.EVALUATION_KIND: _add_evaluation,
    names.EPOCH: _add_epoch,
    names.TIMED: _add_timed,
    names.PHASE_EVENT: _add_phase,
    names.ERROR: _add_error,
    names.HEALTH: _add_health,
    names.DATA_LOADER: _add_loading,
    names.COLLECTIVES: _add_nothing,
    names.ALERT: _add_alert,
    names.PROFILE: _add_profile,
    names.LEVEL: _add_level,
}
