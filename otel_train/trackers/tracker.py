"""What the way to a tracker has to do."""

from collections.abc import Sequence
from typing import Any, Protocol

from otel_train.trackers.rows import Closing, Row


class Tracker(Protocol):
    """One tracker. One thread calls all of it, which is not the training's; what it raises is said, and tried again.

    It opens no run and ends none, and imports nothing that the user has not imported.
    """

    name: str
    merges: bool
    """Whether what was not written yet is told as one row, rather than a row an interval."""
    takes_late: bool
    """Whether a run that the user has ended still takes values."""

    def open_run(self) -> Any:
        """The run that the user has open now, to be compared with what was open before; None without one."""
        ...

    def begin(self, run: Any, run_id: str) -> None:
        """Say in the user's run which record this is."""
        ...

    def is_ready(self, run: Any) -> bool:
        """Can a row be written without changing what the user logs?"""
        ...

    def write(self, run: Any, rows: Sequence[Row]) -> None:
        """Write some rows, in their order."""
        ...

    def finish(self, run: Any, closing: Closing) -> None:
        """Write the summary. The user's run stays as it is."""
        ...

    def close(self) -> None:
        """Let go of what is open here."""
        ...
