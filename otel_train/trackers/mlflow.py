"""MLflow: metrics at the training's step, tags for alerts and verdict. Through MLflow's client, by the run's id."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from otel_train.trackers.rows import PREFIX, Closing, Row

MOST_A_REQUEST = 1000
"""Metrics that MLflow takes at once."""

RUN_ID = "MLFLOW_RUN_ID"
LONGEST_TAG = 5000


@dataclass(frozen=True)
class MlflowRun:
    """A run, and the server or store that it is in."""

    id: str
    uri: str


class Mlflow:
    """Metrics and tags in the active run of any thread, or else of ``MLFLOW_RUN_ID``. A request may take as long as
    MLflow's own settings allow (minutes, where a server is away): only this thread waits."""

    name = "mlflow"
    merges = False
    takes_late = True

    def open_run(self) -> MlflowRun | None:
        """The latest run that some thread has active; None while the user has not imported MLflow."""
        mlflow, fluent = sys.modules.get("mlflow"), sys.modules.get("mlflow.tracking.fluent")
        if mlflow is None or fluent is None or not hasattr(mlflow, "active_run"):
            return None
        # Runs are active by thread; before MLflow had that, active_run() told those of all threads.
        active = getattr(fluent, "_get_latest_active_run", mlflow.active_run)()
        run_id = active.info.run_id if active is not None else os.environ.get(RUN_ID, "").strip()
        return MlflowRun(run_id, mlflow.get_tracking_uri()) if run_id else None

    def begin(self, run: MlflowRun, run_id: str) -> None:
        """A tag with the id of the record."""
        client_of(run.uri).set_tag(run.id, f"{PREFIX}.run_id", run_id)

    def is_ready(self, run: MlflowRun) -> bool:
        """Always: metrics have steps of their own."""
        return True

    def write(self, run: MlflowRun, rows: Sequence[Row]) -> None:
        """A metric a value; a tag for each rule, with what it last said."""
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, row.unix_ns // 1_000_000, row.step)
            for row in rows
            for name, value in row.values.items()
        ]
        tags = {
            f"{PREFIX}.alert.{alert.rule}": alert.text if alert.fires else f"over. {alert.text}".strip()
            for row in rows
            for alert in row.alerts
        }
        self._log(run, metrics, tags)

    def finish(self, run: MlflowRun, closing: Closing) -> None:
        """The run's measures as metrics, and the sentence as a tag."""
        from mlflow.entities import Metric

        moment_ms = closing.unix_ns // 1_000_000
        metrics = [Metric(name, value, moment_ms, closing.step) for name, value in closing.values.items()]
        self._log(run, metrics, {f"{PREFIX}.verdict": " ".join((closing.sentence, *closing.caveats))})

    def close(self) -> None:
        """Nothing is open."""

    def _log(self, run: MlflowRun, metrics: list[Any], tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        client = client_of(run.uri)
        for start in range(0, len(metrics), MOST_A_REQUEST):
            client.log_batch(run.id, metrics[start : start + MOST_A_REQUEST])
        if tags:
            client.log_batch(run.id, tags=[RunTag(key, text[:LONGEST_TAG]) for key, text in tags.items()])


def client_of(uri: str) -> Any:
    """MLflow's client for a server or store."""
    from mlflow.tracking import MlflowClient

    return MlflowClient(uri)


def tracking_uri() -> str:
    """The server or store of MLflow's variables."""
    import mlflow

    return str(mlflow.get_tracking_uri())


def mlflow_error() -> type[Exception]:
    """What MLflow raises where a server is away, or refuses."""
    from mlflow.exceptions import MlflowException

    return MlflowException  # type: ignore[no-any-return]
