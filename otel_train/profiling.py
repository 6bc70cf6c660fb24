"""Which steps torch's profiler sees, and what becomes of them.

The training thread starts and stops the profiler, between two steps. A thread beside it has torch write the trace. A
process of its own at a low priority reads and judges it, and packs it with the step's phases; its answer becomes an
event. On the thread that would take the GIL from the training for 15 µs an event: it is done there, a little at a time,
where there are few CPUs or no folder.
"""

import contextlib
import json
import math
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING

from otel_train import guard, names
from otel_train.profiles.schedule import ALERTED, BLOCK, REQUESTED, Schedule
from otel_train.profiles.window import Window
from otel_train.recorder.signals import nothing
from otel_train.runlog.events import Event
from otel_train.runlog.layout import EVALUATION, PROFILE_REQUEST, PROFILED
from otel_train.runlog.ranklog import RankLog
from otel_train.settings import Settings
from otel_train.store import Store

if TYPE_CHECKING:
    from otel_train.hooks.profiler import TorchProfiler
    from otel_train.recorder.hot_path import Recorder

ALERTING = ("step_time", "throughput")
"""Rules whose alert is worth a profile."""
ALERT_EVERY_S = 600.0
LOOK_EVERY_S = 2.0
"""For a request: on a file system that a thousand ranks share, looking is not free."""
DUTY = 0.2
"""The part of the time in which the digesting thread may hold the GIL."""
LONGEST_PAUSE_S = 0.05
CPUS_FOR_A_PROCESS = 4
"""With fewer, starting Python once more costs the training more than the GIL does."""


class Profiling:
    """The profiles of a run. ``look`` is the keeper's duty, ``see`` anybody's, the rest the training thread's."""

    def __init__(self, settings: Settings, store: Store, recorder: "Recorder", rank: int) -> None:
        self._settings = settings
        self._store = store
        self._recorder = recorder
        self._mine = settings.profile_ranks is None or rank in settings.profile_ranks
        self._schedule = Schedule(settings)
        self._began_ns = recorder.clock()
        self._alerted_s = -math.inf
        self._profiler: TorchProfiler | None = None
        self._window: Window | None = None
        self._digesting: threading.Thread | None = None
        self._undo: list[Callable[[], None]] = []
        self._request = None if store.run_folder is None else Path(store.location) / PROFILE_REQUEST
        self.training_ns = self.digesting_ns = 0
        """What profiling has cost the training so far, and the CPU time of the digesting threads."""
        self._warm = False

    def start(self) -> None:
        """Take the steps that the settings name."""
        if self._mine and not self._schedule.is_over(0):
            self._arm()

    def finish(self, timeout_s: float) -> None:
        """The run is over: a profile that is being digested has so long."""
        self._give_up()
        if self._digesting is not None:
            self._digesting.join(timeout_s)
            if self._digesting.is_alive():
                guard.warn_once("late profile", "the last profile was not ready when the run ended, and is lost")
        while self._undo:
            self._undo.pop()()

    def look(self) -> None:
        """Has ``otel-train profile run`` asked for a profile?"""
        if self._request is None or not self._mine:
            return
        with contextlib.suppress(FileNotFoundError):
            content = self._request.read_text()
            self._request.unlink()
            asked = json.loads(content)
            self._ask(int(asked["at_step"]), int(asked["steps"]), REQUESTED)

    def begin_block(self, name: str) -> bool:
        """Profile what follows on this thread; False where that cannot be now."""
        state = self._recorder.state
        inside = state.start_ns is not None and get_ident() == state.thread
        if not self._mine or not self._begin(Window(state.number if inside else None, BLOCK, 0, name)):
            return False
        if inside:
            self._mark()
        return True

    def end_block(self) -> None:
        """The block is over, on the thread that began it."""
        if self._window is not None and self._window.name is not None:
            self._end(self._window)

    def see(self, event: Event) -> None:
        """An event of the run: an alert on the step's time is worth a look."""
        firing = event.kind == names.ALERT and event.attributes.get(names.ALERT_STATE) == "firing"
        if not (firing and self._mine and self._settings.profile_on_alert):
            return
        if event.attributes.get(names.ALERT_RULE) in ALERTING and time.monotonic() - self._alerted_s > ALERT_EVERY_S:
            self._alerted_s = time.monotonic()
            self._ask(0, None, ALERTED)

    def _ask(self, at_step: int, steps: int | None, reason: str) -> None:
        self._schedule.ask(at_step, steps, reason)
        self._arm()

    def _arm(self) -> None:
        with guard.guarded("profile"):
            self._ready()  # from now on, so that a profiler of the user's is seen when it is prepared
        if self._step_over not in self._recorder.after_step:
            self._recorder.after_step.append(self._step_over)

    def _interrupted(self) -> None:
        """An evaluation, a checkpoint or a new epoch comes before the next step: that is profiled another time."""
        window = self._window
        if window is not None and self._give_up():
            self._ask(0, window.left, window.reason)

    def _give_up(self) -> bool:
        """End a window without a profile; False if there was none."""
        window, self._window = self._window, None
        self._recorder.interrupted = nothing
        if window is None or self._profiler is None:
            return False
        with guard.guarded("profile"):
            self._profiler.abandon()
        return True

    # -- the training thread, after each step while something is to be profiled ------------------------------------

    def _step_over(self) -> None:
        state = self._recorder.state
        window = self._window
        if state.flags & EVALUATION:
            return
        if window is not None:
            if window.name is not None:
                return
            window.steps += 1
            window.left -= 1
            if window.left <= 0 or self._profiler is None or not self._profiler.is_on:
                self._end(window)
            else:
                self._mark()
            return
        upcoming = state.number + 1
        steps, reason = self._schedule.wanted(upcoming, state.epoch, self._recorder.clock() - self._began_ns)
        if steps and self._begin(Window(upcoming, reason, steps)):
            self._recorder.interrupted = self._interrupted
            self._mark()
            state.resumed_ns = self._recorder.clock()
        elif steps and reason in (REQUESTED, ALERTED):
            self._schedule.ask(0, steps, reason)  # as soon as it can be
        elif self._schedule.is_over(upcoming):
            self._recorder.after_step.remove(self._step_over)

    def _begin(self, window: Window) -> bool:
        if self._window is not None or (self._digesting is not None and self._digesting.is_alive()):
            return False
        profiler = self._ready()
        if profiler is None:
            return False
        hindrance = profiler.hindrance()
        if hindrance is not None:
            guard.warn_once(f"profile {hindrance}", "otel_train leaves out a profile: %s", hindrance)
            return False
        window.spans = self._settings.profile_spans
        began_ns = self._recorder.clock()
        profiler.start()
        window.began_ns, window.epoch = self._recorder.clock(), self._recorder.state.epoch
        took_ns = window.began_ns - began_ns
        self.training_ns += took_ns
        if self._warm:  # the first start makes ready what the others find
            window.cost_ns = took_ns
        self._window, self._warm = window, True
        return True

    def _ready(self) -> "TorchProfiler | None":
        torch = sys.modules.get("torch")
        if self._profiler is None and torch is not None:
            from otel_train.hooks.profiler import TorchProfiler

            wanted = self._settings
            self._profiler = TorchProfiler(torch, wanted.profile_shapes, wanted.profile_stacks, wanted.profile_memory)
            self._undo.append(self._profiler.install())
        return self._profiler

    def _mark(self) -> None:
        """The next step's record says that it was profiled."""
        self._recorder.state.step_flags |= PROFILED
        self._recorder.settle()

    def _end(self, window: Window) -> None:
        self._window = None
        self._recorder.interrupted = nothing
        window.ended_ns = self._recorder.clock()
        save = self._profiler.stop() if self._profiler is not None else None
        now_ns = self._recorder.clock()
        if window.name is None:
            self._recorder.state.resumed_ns = now_ns
        window.cost_ns += now_ns - window.ended_ns
        self.training_ns += now_ns - window.ended_ns
        if save is None:
            guard.warn_once("profile lost", "a profile of otel_train's is lost: another profiler began")
            return
        self._digesting = threading.Thread(
            target=self._digest, args=(window, save, threading.get_native_id()), name="otel_train.profile", daemon=True
        )
        self._digesting.start()

    # -- the digesting thread --------------------------------------------------------------------------------------

    def _digest(self, window: Window, save: Callable[[Path], None], thread: int) -> None:
        with guard.guarded("profile"), tempfile.TemporaryDirectory(prefix="otel_train-") as scratch:
            trace = Path(scratch) / "trace.json"
            save(trace)
            event, usual_ns, cpu_ns = self._judged(window, trace, thread)
            self._store.write_event(event)
            own_ns = time.thread_time_ns()
            self.digesting_ns += own_ns + cpu_ns
            if window.name is None and usual_ns and event.duration_ns is not None:
                slower_ns = max(event.duration_ns - usual_ns * window.steps, 0.0)
                self.training_ns += int(slower_ns)
                self._schedule.spread(window.cost_ns + slower_ns + own_ns, usual_ns)

    def _judged(self, window: Window, trace: Path, thread: int) -> tuple[Event, float, int]:
        """The event, the usual step's time and the CPU time of the other process; without one, here, bit by bit."""
        from otel_train.profiles.beside import NoProcess, digest_beside
        from otel_train.profiles.digest import digest

        if self._store.run_folder is not None and len(os.sched_getaffinity(0)) >= CPUS_FOR_A_PROCESS:
            try:
                return digest_beside(Path(self._store.location), window, trace, thread)
            except NoProcess as reason:
                guard.warn_once("profile process", "profiles are read in the training's own process: %s", reason)
        folder = None if self._store.run_folder is None else Path(self._store.location)
        return *digest(RankLog(self._store), folder, window, trace, thread, _paced()), 0


def _paced() -> Callable[[], None]:
    """Pauses for so long that this thread works ``DUTY`` of the time."""
    last = time.perf_counter()

    def pause() -> None:
        nonlocal last
        worked = time.perf_counter() - last
        time.sleep(min(worked * (1 / DUTY - 1), LONGEST_PAUSE_S))
        last = time.perf_counter()

    return pause
