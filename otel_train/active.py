"""What records in this process now: the one piece of global state, set by ``session`` and read by the public API."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_train.recorder.hot_path import Recorder
    from otel_train.session import Session

session: "Session | None" = None
"""The run between ``init()`` and ``shutdown()``."""

recorder: "Recorder | None" = None
"""Its recorder, while it records."""

going_on: list[object] = []
"""Evaluations and checkpoints that the training thread is in now: the record has them when they are over."""

summary_folders: list[str] = []
"""Where the ``SummaryWriter`` that the script made last writes, as far as a hook has seen one."""
