"""``timed``: what any function of the program took, beyond the steps."""

import sys
import time
from typing import TYPE_CHECKING, Any

from otel_train.event_scope import EventScope
from otel_train.names import TIMED, TIMED_CPU_TIME, TIMED_NAME, TIMED_PEAK_MEMORY, TIMED_READ, TIMED_WRITTEN

if TYPE_CHECKING:
    from otel_train.recorder.hot_path import Recorder

KIBIBYTE = 1024


class Timed(EventScope):
    """A function or block, with the process's CPU seconds, peak memory growth (bytes) and bytes read and written."""

    kind = TIMED

    def __init__(self, name: str) -> None:
        super().__init__({TIMED_NAME: name})
        self._before: dict[str, float] = {}

    def begun(self, recorder: "Recorder") -> None:
        self._before = usage()

    def ended(self, recorder: "Recorder", duration_ns: int) -> dict[str, Any]:
        after = usage()
        return {name: after[name] - before for name, before in self._before.items() if name in after}


def usage() -> dict[str, float]:
    """Running totals of this process, all threads: what the platform does not tell is missing.

    Bytes are those of read and write calls (``rchar``, ``wchar`` of Linux), from the page cache as well as the disk;
    memory that is mapped is not among them.
    """
    totals: dict[str, float] = {TIMED_CPU_TIME: time.process_time()}
    if sys.platform != "win32":
        import resource

        unit = 1 if sys.platform == "darwin" else KIBIBYTE
        totals[TIMED_PEAK_MEMORY] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    try:
        with open("/proc/self/io", "rb") as file:
            fields = dict(line.split(b": ") for line in file.read().splitlines())
    except OSError:
        return totals
    totals[TIMED_READ] = int(fields[b"rchar"])
    totals[TIMED_WRITTEN] = int(fields[b"wchar"])
    return totals
