"""How much of a rank's log a backend has acknowledged, as the exporter's cursor says it."""

import json

from otel_train.runlog.layout import CURSOR
from otel_train.runlog.ranklog import RankLog

SIGNALS_OF_STEPS = ("traces", "metrics")


def unacknowledged_steps(log: RankLog) -> int | None:
    """Steps that a backend has not acknowledged, in traces or metrics; None when none of them was ever sent."""
    try:
        cursor = json.loads(log.storage.read(CURSOR))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    places = [cursor[signal].get("steps", 0) for signal in SIGNALS_OF_STEPS if signal in cursor]
    return max(log.steps.bounds()[1] - min(places), 0) if any(places) else None
