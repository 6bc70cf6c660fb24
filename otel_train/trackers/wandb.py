"""Weights & Biases: values in the rows that the user logs, alerts as its alerts, the summary in the run's summary."""

import sys
from collections.abc import Sequence
from typing import Any

from otel_train.trackers.rows import PREFIX, STEP, Closing, Row

LEVELS = {"info": "INFO", "warning": "WARN", "critical": "ERROR"}


class Wandb:
    """Adds to the row that the user's run has open, and never closes one: a step of ``run.log()`` that we took would
    move the user's own, and a row that we closed would lose what he adds to it. So there is at most one of ours for
    each of his; in between, ours grows."""

    name = "wandb"
    merges = True
    takes_late = False

    def __init__(self) -> None:
        self._written_at: int | None = None

    def open_run(self) -> Any:
        """The process's run; None while the user has not imported wandb, or has no run."""
        run = getattr(sys.modules.get("wandb"), "run", None)
        return None if run is None or run.disabled else run

    def begin(self, run: Any, run_id: str) -> None:
        """Our values are drawn over the training's steps, whatever steps the user's rows have."""
        self._written_at = None
        run.define_metric(f"{PREFIX}/*", step_metric=STEP)
        run.summary[f"{PREFIX}/run_id"] = run_id

    def is_ready(self, run: Any) -> bool:
        """Has the user logged a row since ours?"""
        return self._written_at is None or run.step != self._written_at

    def write(self, run: Any, rows: Sequence[Row]) -> None:
        """Into the row that is open."""
        for row in rows:
            self._written_at = run.step
            run.log({**row.values, STEP: row.step}, commit=False)
            for alert in row.alerts:
                if alert.fires:
                    run.alert(f"{PREFIX}: {alert.rule}", alert.text, LEVELS.get(alert.severity, "INFO"))

    def finish(self, run: Any, closing: Closing) -> None:
        """The run's measures and the sentence, in the summary."""
        run.summary.update({**closing.values, f"{PREFIX}/verdict": " ".join((closing.sentence, *closing.caveats))})

    def close(self) -> None:
        """Nothing is open."""
