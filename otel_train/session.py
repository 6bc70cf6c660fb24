"""Puts a run together, and takes it apart, whatever way the process ends.

Nothing here is on the hot path. The training thread meets only the recorder; a keeper thread does the chores, an export
thread exists when there is somewhere to send to.
"""

import atexit
import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_train import active, guard, names
from otel_train.clock import Anchor, Clock
from otel_train.errors import OtelTrainError
from otel_train.identity import Identity, describe_process, identify, script_name
from otel_train.instrumentation import await_training, instrument, is_instrumented, uninstrument
from otel_train.keeper import ALERTS_EVERY_S, GOVERN_EVERY_S, HEALTH_EVERY_S, TICK_S, Keeper, health_event
from otel_train.levels import Levels
from otel_train.profiling import LOOK_EVERY_S, Profiling
from otel_train.recorder import scopes
from otel_train.recorder.calibration import IN_A_LOOP, Calibration, calibrate
from otel_train.recorder.failures import describe
from otel_train.recorder.hot_path import Recorder
from otel_train.recorder.implied import ImpliedSteps
from otel_train.recorder.scalars import Scalars
from otel_train.recorder.signals import signals
from otel_train.runlog.events import Event
from otel_train.runlog.layout import FORMAT_VERSION
from otel_train.runlog.ranklog import RankLog
from otel_train.samplers.hardware import describe_hardware
from otel_train.samplers.sampler import Readings
from otel_train.sampling import Sampling, host_lock, sources
from otel_train.settings import Settings, recordable
from otel_train.software import describe_git, describe_software
from otel_train.store import Store, open_store
from otel_train.version import __version__
from otel_train.watching import Watching, delivery_of

if TYPE_CHECKING:
    from otel_train.alerts.notify import Delivery
    from otel_train.trackers.tracker import Tracker
    from otel_train.tracking import Tracking

KEEPER_STOP_S = 0.5

MOST_CHECKPOINT_FOLDERS = 16
"""Whose file systems are watched: nearly always they share one."""


class Session:
    """One run of this process, from ``init()`` to ``shutdown()``. Any thread may shut it down; twice is once."""

    def __init__(
        self,
        settings: Settings,
        providers: dict[str, Any],
        store: Store,
        identity: Identity,
        clock: Clock,
        delivery: "Delivery | None" = None,
        trackers: "Sequence[Tracker]" = (),
    ) -> None:
        self.settings = settings
        self.providers = providers
        self.store = store
        self.identity = identity
        self.clock = clock
        self.service_name = settings.service_name or script_name()
        self.calibration: Calibration = calibrate()
        self._process_id = os.getpid()
        self._over = threading.Lock()
        self._described = self._describe(Anchor.now(clock))
        store.write_identity(self._described)
        self._undo: list[Callable[[], None]] = [scopes.on_new_phase(self._name_phase)]
        self._checkpoint_folders: dict[str, Path] = {}
        self.recorder = Recorder(
            clock, store.steps(), self._write_event, self._nesting(), with_phases=settings.level != "steps"
        )
        self.implied = ImpliedSteps(self.recorder)
        self.levels = Levels(
            self.recorder, self.implied, self.calibration, settings.level, settings.overhead_budget, store.gpu
        )
        self.scalars = Scalars(
            self.recorder, store.scalars, lambda number, name: store.write_name("scalar", number, name)
        )
        self.profiling = Profiling(settings, store, self.recorder, identity.rank)
        self.alerts = Watching(settings, store, clock, identity, self.recorder.state, delivery, self._write_event)
        self._tracking = self._trackings(trackers)
        self._export: Any = None
        self._progress: Any = None
        self._sampling = Sampling(
            sources(identity, self._watched_paths),
            settings.resource_interval_s,
            self._write_resources,
            host_lock(identity, store.run_folder, socket.gethostname()),
        )
        self._keeper = Keeper(
            [
                (TICK_S, "prepare", self._prepare),
                (float("inf"), "identity", self._complete_identity),
                (HEALTH_EVERY_S, "health", self._write_health),
                (GOVERN_EVERY_S, "governor", lambda: self.levels.govern(RankLog(store).steps)),
                (ALERTS_EVERY_S, "alerts", self.alerts.tick),
                (LOOK_EVERY_S, "profile", self.profiling.look),
            ]
        )

    def start(self) -> None:
        """Record from now on."""
        if self.settings.instrument and not is_instrumented():
            instrument()
            self._undo.append(uninstrument)
        self._undo.append(self.recorder.activate())
        self._undo.append(self.implied.activate())
        self.levels.start()
        self.profiling.start()
        active.session, active.recorder = self, self.recorder
        self._keeper.start()
        self._sampling.start()
        try:
            self._start_export()
        except OtelTrainError:  # a setting that only now shows to be wrong: still at init()
            self.shutdown()
            raise
        except Exception as error:  # noqa: BLE001  as the guard does, for all others
            guard.report("export", error)
        for tracking in self._tracking:
            tracking.start()
        if self.settings.progress and self.identity.rank == 0:
            with guard.guarded("progress"):
                self._start_progress()
        self._undo.append(_at_exit(self._shutdown_at_exit))

    def shutdown(self, error: BaseException | None = None) -> None:
        """End the run: last records sent as far as the exit's time allows, ``run.json`` closed. Never raises."""
        if os.getpid() != self._process_id or not self._over.acquire(blocking=False):
            return
        deadline = time.monotonic() + self.settings.exit_timeout_s
        with guard.guarded("shutdown"):
            self.implied.finish(error)
            self._write_reports()
        if active.session is self:
            active.session = active.recorder = None
        for undo in self._undo:
            with guard.guarded("shutdown"):
                undo()
        with guard.guarded("shutdown"):
            self.profiling.finish(max(deadline - time.monotonic(), 0.0))
            self.scalars.finish()
            self.levels.finish()
            self._keeper.stop(KEEPER_STOP_S)
            self._sampling.stop()
            if not self._keeper.is_alive():
                self.alerts.last_look()
            self._write_health()
        with guard.guarded("progress"):
            if self._progress is not None:
                self._progress.stop()
        with guard.guarded("notifications"):
            self.alerts.close(max(deadline - time.monotonic(), 0.0))
        with guard.guarded("run.json"):
            self._write_end(error)
        for tracking in self._tracking:
            tracking.end_soon()
        with guard.guarded("export"):
            if self._export is not None:
                self._export.finish(deadline)
        for tracking in self._tracking:
            tracking.finish(deadline)

    def _shutdown_at_exit(self) -> None:
        """The process ends. If an exception ended it, the interpreter has just printed it and still knows it."""
        is_interactive = hasattr(sys, "ps1")
        self.shutdown(None if is_interactive else getattr(sys, "last_value", None))

    def abandon(self) -> None:
        """In a forked child: the parent's run is not ours. Nothing is written, closed or sent."""
        for undo in self._undo:
            undo()
        self._undo.clear()

    # -- identity --------------------------------------------------------------------------------------------------

    def _describe(self, anchor: Anchor) -> dict[str, Any]:
        identity, settings = self.identity, self.settings
        described: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "otel_train_version": __version__,
            "run_id": identity.run_id,
            "rank": identity.rank,
            "local_rank": identity.local_rank,
            "world_size": identity.world_size,
            "launcher": identity.launcher,
            "service_name": self.service_name,
            "resource_attributes": settings.resource_attributes,
            "anchor": vars(anchor),
            "process": describe_process(),
            "settings": recordable(settings),
            "calibration": vars(self.calibration),
        }
        return {key: value for key, value in described.items() if value not in (None, {})}

    def _complete_identity(self) -> None:
        """What takes time to find out: hardware, versions, the commit."""
        self._described |= {"hardware": describe_hardware(), "software": describe_software()}
        script = Path(sys.argv[0]).resolve().parent if getattr(sys, "argv", None) else Path.cwd()
        git = describe_git(script if script.is_dir() else Path.cwd())
        self._described |= {"git": git} if git else {}
        self.store.write_identity(self._described)

    def _write_end(self, error: BaseException | None) -> None:
        end: dict[str, Any] = {"unix_ns": time.time_ns(), "monotonic_ns": self.clock()}
        if error is not None:
            end["error"] = describe(error)
        self._described["end"] = end
        self.store.write_identity(self._described)

    def _name_phase(self, phase: scopes.Phase) -> None:
        self.store.write_name("phase", phase.id, phase.name)

    # -- the keeper's duties ---------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self.recorder.steps.prepare()
        self.scalars.prepare()
        self.levels.prepare()
        self.store.check()

    def _write_event(self, event: Event) -> None:
        """Every event of the run; where checkpoints go is worth watching."""
        self.store.write_event(event)
        self.profiling.see(event)
        path = event.attributes.get(names.CHECKPOINT_PATH) if event.kind == names.CHECKPOINT else None
        if path and len(self._checkpoint_folders) < MOST_CHECKPOINT_FOLDERS:
            folder = Path(str(path)).parent
            self._checkpoint_folders.setdefault(str(folder), folder)

    def _write_resources(self, row: Readings) -> None:
        """On the run's own clock, as everything else: the calendar's may be set meanwhile."""
        self.store.write_resources(RankLog(self.store).anchor.to_unix_ns(self.clock()) / 1e9, row)

    def _watched_paths(self) -> list[Path]:
        """The file systems that the run writes to: its record's, and those of its checkpoints."""
        folder = self.store.run_folder
        return [*([folder] if folder is not None else []), *self._checkpoint_folders.values()]

    def _write_health(self) -> None:
        self._write_reports()
        self._sampling.look()
        self.store.write_event(
            health_event(
                self.clock(),
                self._training_ns(),
                self._keeper.cpu_ns
                + self._sampling.cpu_ns
                + self.profiling.digesting_ns
                + (self._export.cpu_ns if self._export is not None else 0)
                + sum(tracking.cpu_ns for tracking in self._tracking),
                self.scalars.dropped + (self._export.dropped if self._export is not None else 0),
                self.recorder.sidelines.left_out,
                self._export.failures if self._export is not None else {},
                self.levels.told(),
                self.alerts.active(),
            )
        )

    def _write_reports(self) -> None:
        for report in tuple(signals.reports):
            with guard.guarded("report"):
                report()

    def _training_ns(self) -> float:
        measured, instrumented = self.calibration, is_instrumented()
        steps, phases = self.recorder.steps.total, self._phases_so_far()
        each_phase_ns = measured.phase_ns + (measured.hook_ns if instrumented else 0.0)
        training_ns = steps * measured.step_ns + phases * each_phase_ns
        return training_ns * (IN_A_LOOP if instrumented else 1.0) + self.levels.marks_ns + self.profiling.training_ns

    def _phases_so_far(self) -> int:
        import numpy as np

        for _, records in RankLog(self.store).steps.read(self._counted):
            self._phases += int(np.sum(records["phase_count"], dtype=np.int64))
            self._counted += len(records)
        return self._phases

    _phases = 0
    _counted = 0

    # -- export and display ----------------------------------------------------------------------------------------

    def _nesting(self) -> Any:
        if not self.providers and "opentelemetry.trace" not in sys.modules:
            return None
        with guard.guarded("nesting"):
            from otel_train.sinks.nesting import step_context

            return step_context(self.identity.run_id, self.identity.rank, self.providers.get("tracer_provider"))
        return None

    def _start_export(self) -> None:
        from otel_train.sending import Sending, wanted

        if wanted(self.settings, self.providers):
            self._export = Sending(self)
            self._export.start()

    def _trackings(self, trackers: "Sequence[Tracker]") -> "list[Tracking]":
        if not trackers:
            return []
        from otel_train.tracking import Tracking

        return [Tracking(tracker, self.settings, RankLog(self.store), self.clock) for tracker in trackers]

    def _start_progress(self) -> None:
        from otel_train.live import Progress

        total = self.settings.total_steps
        self._progress = Progress(total, RankLog(self.store))
        self._progress.start()


def begin(settings: Settings, providers: dict[str, Any], clock: Clock, store: Store | None = None) -> Session:
    """Put a run together and start it; ``store`` where it is not to be on disk. Raises ``OSError`` without memory."""
    guard.forget()
    delivery = delivery_of(settings)
    identity = identify(run_id=settings.run_id)
    trackers = _trackers(settings, identity.rank)
    if store is None:
        store, run_id = open_store(settings.dir, identity.run_id, identity.rank, settings.max_disk)
        identity = Identity(run_id, identity.rank, identity.local_rank, identity.world_size, identity.launcher)
    session = Session(settings, providers, store, identity, clock, delivery, trackers)
    session.start()
    return session


def _trackers(settings: Settings, rank: int) -> "Sequence[Tracker]":
    """The trackers that are asked for. Raises ``SettingsError``: before anything of the run is there."""
    if not settings.trackers:
        return ()
    from otel_train.trackers.chosen import chosen_trackers

    return chosen_trackers(settings, rank)


def is_being_spawned() -> bool:
    """Is this the main script's top level, imported again by a worker that multiprocessing spawns?"""
    process = getattr(sys.modules.get("multiprocessing.process"), "current_process", lambda: None)()
    return bool(getattr(process, "_inheriting", False))


def _at_exit(end: Callable[[], None]) -> Callable[[], None]:
    """Call ``end`` when the process exits; returns the undo. A forked child of multiprocessing skips ``atexit``."""
    atexit.register(end)
    finalizer: Any = None
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        finalizer = Finalize(None, end, exitpriority=100)

    def undo() -> None:
        atexit.unregister(end)
        if finalizer is not None:
            finalizer.cancel()

    return undo


def _after_fork_in_child() -> None:
    session, active.session, active.recorder = active.session, None, None
    active.going_on.clear()
    active.summary_folders.clear()
    if session is not None:
        with contextlib.suppress(Exception):
            session.abandon()
            await_training()


os.register_at_fork(after_in_child=_after_fork_in_child)
