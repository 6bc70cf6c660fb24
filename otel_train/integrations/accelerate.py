"""Accelerate: the hooks on torch see its training; here is where its ``log()`` goes.

Zero code adds a tracker to those that a script begins with ``init_trackers()``. By hand it is
``Accelerator(log_with=OtelTrainTracker())``.
"""

from collections.abc import Callable
from typing import Any

import otel_train
from otel_train import active, guard
from otel_train.hooks.patching import replace
from otel_train.integrations import missing_package
from otel_train.names import CONFIGURATION, PREFIX
from otel_train.runlog.events import Event

try:
    from accelerate.tracking import GeneralTracker
except ModuleNotFoundError as error:
    raise missing_package(__name__, "accelerate") from error


class OtelTrainTracker(GeneralTracker):
    """A tracker whose values become the run's, at its current step; the configuration becomes an event.

    ``step`` is the script's count and not used: the run knows its steps. Values that are no numbers are left out.
    """

    name = "otel_train"
    requires_logging_directory = False
    main_process_only = True

    def __init__(self, run_name: str = "", **more: Any) -> None:
        super().__init__()
        self.run_name = run_name

    @property
    def tracker(self) -> Any:
        """The run that goes on, as ``get_tracker("otel_train", unwrap=True)`` gives it; None where there is none."""
        return active.session

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """What ``init_trackers(config=…)`` was given."""
        recorder = active.recorder
        if recorder is not None and values:
            plain = {f"{PREFIX}{CONFIGURATION}.{key}": value for key, value in values.items() if _is_plain(value)}
            recorder.sidelines.event(Event(CONFIGURATION, recorder.clock(), attributes=plain))

    def log(self, values: dict[str, Any], step: int | None = None, **more: Any) -> None:
        """Record the numbers among the values. Never waits for a device."""
        otel_train.log(**{name: value for name, value in values.items() if not isinstance(value, str)})


def _is_plain(value: object) -> bool:
    return isinstance(value, (bool, int, float, str))


def install(module: Any) -> Callable[[], None]:
    """Give each ``Accelerator`` a tracker when it begins its own, unless it has ours; returns the undo."""
    begin = module.Accelerator.init_trackers

    def traced_init_trackers(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = begin(self, *args, **kwargs)
        with guard.guarded("accelerate"):
            if self.is_main_process and not any(isinstance(tracker, OtelTrainTracker) for tracker in self.trackers):
                tracker = OtelTrainTracker()
                self.trackers.append(tracker)
                config = kwargs.get("config") or (args[1] if len(args) > 1 else None)
                tracker.store_init_configuration(config or {})
        return result

    return replace(module.Accelerator, "init_trackers", traced_init_trackers)


__all__ = ["OtelTrainTracker"]
