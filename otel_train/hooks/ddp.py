"""DistributedDataParallel: its own times of forward, backward and the reduction of gradients, which is C++."""

import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

from otel_train import active, guard
from otel_train.hooks.patching import all_of, replace
from otel_train.names import DDP, DDP_TIMES
from otel_train.recorder.signals import signals
from otel_train.runlog.events import Event


class _Models:
    """The DDP models of this process."""

    def __init__(self) -> None:
        self._models: list[weakref.ref[Any]] = []

    def add(self, model: Any) -> None:
        """From now on it is asked."""
        self._models.append(weakref.ref(model))

    def report(self) -> None:
        """Every 30 s: ask after the next step, on the training thread. 40 µs a model; it measures the first ten steps
        and then every 100. At the end the training thread itself calls, and is told at once."""
        recorder = active.recorder
        if recorder is None or not self._models:
            return
        if recorder.sidelines.foreign_thread_name() is None:
            self._ask()
        elif self._ask not in recorder.after_step:
            recorder.after_step.append(self._ask)

    def _ask(self) -> None:
        recorder = active.recorder
        if recorder is None:
            return
        if self._ask in recorder.after_step:
            recorder.after_step.remove(self._ask)
        for reference in self._models:
            with guard.guarded("ddp"):
                model = reference()
                times = _times(model) if model is not None else {}
                if times:
                    step = recorder.sidelines.last_step
                    recorder.sidelines.event(Event(DDP, recorder.clock(), step=step, attributes=times))


def _times(model: Any) -> dict[str, float]:
    """Means in s, of those that it has measured: a CPU model measures less than a GPU's."""
    told = model._get_ddp_logging_data()
    return {name: told[key] / 1e9 for key, name in DDP_TIMES.items() if told.get(key, 0) > 0}


def install(module: ModuleType) -> Callable[[], None]:
    """Note each DistributedDataParallel that is made from now on; returns the undo."""
    models, make = _Models(), module.__dict__["DistributedDataParallel"].__init__

    def noted_init(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        models.add(self)

    signals.reports.append(models.report)
    undo = replace(module.__dict__["DistributedDataParallel"], "__init__", noted_init)
    return all_of([lambda: signals.reports.remove(models.report), undo])
