"""A record that is over, told to a tracker afterwards: the rows of its first rank, and the summary of all its ranks."""

import os
from pathlib import Path
from typing import Any

from otel_train.derive.summary import RunSummary, summarize_run
from otel_train.errors import OtelTrainError
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.runs import Run
from otel_train.trackers.chosen import need
from otel_train.trackers.mlflow import RUN_ID, Mlflow, MlflowRun, client_of, mlflow_error, tracking_uri
from otel_train.trackers.rows import closing_of, rows_of
from otel_train.trackers.tensorboard import TensorBoard
from otel_train.trackers.tracker import Tracker

EVERY_S = 10.0
MOST_ROWS = 20
EXPERIMENT, EXPERIMENT_ID = "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"
FIRST_EXPERIMENT = "0"
STATUSES = {"finished": "FINISHED", "failed": "FAILED", "died": "KILLED"}


def to_tensorboard(run: Run, directory: Path) -> tuple[int, str]:
    """Write a folder of the run's name in ``directory``; how many rows, and where. Raises ``OSError``."""
    need("tensorboard")
    rows = _tell(TensorBoard(directory, run.id), directory, run, summarize_run(run))
    return rows, str(directory / run.id)


def to_mlflow(run: Run) -> tuple[int, str]:
    """Tell MLflow's run ``MLFLOW_RUN_ID``, or one of its own; how many rows, and where.

    Server and experiment are those of MLflow's variables. Raises ``OtelTrainError`` when MLflow refuses.
    """
    need("mlflow")
    summary, uri = summarize_run(run), tracking_uri()
    try:
        client, given = client_of(uri), os.environ.get(RUN_ID, "").strip()
        target = MlflowRun(given or _create(client, summary), uri)
        rows = _tell(Mlflow(), target, run, summary)
        if not given:
            client.set_terminated(target.id, STATUSES.get(summary.state), _ended_ms(summary))
    except mlflow_error() as error:
        first_line = next(iter(str(error).splitlines()), "")
        raise OtelTrainError(
            f"MLflow at {uri} does not take run {run.id}: {first_line}. MLFLOW_TRACKING_URI says where it is"
        ) from error
    return rows, f"run {target.id} of MLflow at {target.uri}"


def _create(client: Any, summary: RunSummary) -> str:
    """A run of that record's name and time, in the experiment of MLflow's variables, or else its first."""
    name = os.environ.get(EXPERIMENT, "").strip()
    found = client.get_experiment_by_name(name) if name else None
    experiment = os.environ.get(EXPERIMENT_ID, "").strip() or FIRST_EXPERIMENT
    if name:
        experiment = found.experiment_id if found is not None else client.create_experiment(name)
    started_ms = int(summary.started_unix_s * 1000)
    return str(client.create_run(experiment, started_ms, run_name=summary.run_id).info.run_id)


def _ended_ms(summary: RunSummary) -> int:
    return closing_of(summary).unix_ns // 1_000_000


def _tell(tracker: Tracker, target: object, run: Run, summary: RunSummary) -> int:
    log = run.ranks()[0]
    tracker.begin(target, run.id)
    rows = list(rows_of(log, EVERY_S, _end_ns(log)))
    for start in range(0, len(rows), MOST_ROWS):
        tracker.write(target, rows[start : start + MOST_ROWS])
    tracker.finish(target, closing_of(summary))
    tracker.close()
    return len(rows)


def _end_ns(log: RankLog) -> int:
    """When the record was over: its last step or event, or its last sample."""
    _, end = log.steps.bounds()
    moments = [int(records["start_ns"][-1] + records["duration_ns"][-1]) for _, records in log.steps.read(end - 1)]
    moments += [event.end_ns for event, _ in log.events()]
    moments += [log.anchor.to_monotonic_ns(unix_s * 1e9) + 1 for unix_s, _, _ in log.resources()]
    return max(moments, default=log.anchor.monotonic_ns)
