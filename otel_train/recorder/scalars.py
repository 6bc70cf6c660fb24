"""What ``log()`` was told: one fixed-size record a value, a name table, and a word when a value is not finite."""

import math
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from otel_train import guard
from otel_train.hooks.device_scalars import DeviceScalars, is_tensor
from otel_train.names import NONFINITE, NONFINITE_COUNT, SCALAR_NAME, SCALAR_VALUE
from otel_train.recorder.hot_path import Recorder
from otel_train.runlog.events import Event
from otel_train.runlog.layout import SCALAR_STRUCT
from otel_train.runlog.segments import SegmentWriter

SECOND_NS = 1_000_000_000
EVENT_EVERY_NS = 60 * SECOND_NS
"""A name that stays not-a-number makes one event a minute; every value is recorded and counted."""

MOST_NAMES = 1000
"""Names a run. A loop that makes up names would otherwise fill memory and backends."""


class Scalars:
    """Records values by name. About 1 µs a value; any thread."""

    def __init__(
        self, recorder: Recorder, writer: Callable[[], SegmentWriter], write_name: Callable[[int, str], None]
    ) -> None:
        self._recorder = recorder
        self._open_writer = writer
        self._writer: SegmentWriter | None = None
        self._write_name = write_name
        self._names: dict[str, int] = {}
        self._lock = threading.Lock()
        self._nonfinite: Counter[str] = Counter()
        self._said_ns: dict[str, int] = {}
        self._device = DeviceScalars(self._append, recorder.after_step)

    def log(self, values: dict[str, Any]) -> None:
        """Record values under their names, at the current step or else the last. Nothing is raised."""
        recorder = self._recorder
        now, step = recorder.clock(), recorder.state.number
        for name, value in values.items():
            if value is None:
                continue
            try:
                identity = self._names.get(name)
                if identity is None:
                    identity = self._name(name)
                if type(value) is float or type(value) is int or not is_tensor(value):
                    self._append(step, now, identity, float(value.item() if hasattr(value, "item") else value))
                elif recorder.sidelines.foreign_thread_name() is None:
                    self._device.take(value, step, now, identity)
                else:
                    raise ValueError("a tensor on a device is only read from the training thread")
            except Exception as error:  # noqa: BLE001  a value is anything, and so is what its float() raises
                guard.warn_once(f"log {name}", "log(%s=…) is not recorded: %s", name, error)
        self._device.resolve()

    def prepare(self) -> None:
        """Off the training thread: have the next segment ready."""
        if self._writer is not None:
            self._writer.prepare()

    def finish(self) -> None:
        """Read what is still on its way from a device."""
        self._device.finish()

    @property
    def dropped(self) -> int:
        """Values on a device that could not be copied aside."""
        return self._device.dropped

    def _append(self, step: int, time_ns: int, name: int, value: float) -> None:
        with self._lock:
            writer = self._writer
            if writer is None:
                writer = self._writer = self._open_writer()
            writer.append(SCALAR_STRUCT, step, time_ns, name, 0, value)
        if not math.isfinite(value):
            self._say(next(known for known, identity in self._names.items() if identity == name), value, step, time_ns)

    def _name(self, name: str) -> int:
        with self._lock:
            if name not in self._names:
                if len(self._names) >= MOST_NAMES:
                    raise ValueError(f"{MOST_NAMES} names are in use; the step belongs into the value, not the name")
                self._write_name(len(self._names), name)
                self._names[name] = len(self._names)
        return self._names[name]

    def _say(self, name: str, value: float, step: int, time_ns: int) -> None:
        self._nonfinite[name] += 1
        said = self._said_ns.get(name)
        if said is not None and time_ns - said < EVENT_EVERY_NS:
            return
        self._said_ns[name] = time_ns
        attributes = {SCALAR_NAME: name, SCALAR_VALUE: str(value), NONFINITE_COUNT: self._nonfinite[name]}
        self._recorder.sidelines.event(
            Event(NONFINITE, time_ns, step=step if step >= 0 else None, attributes=attributes)
        )
