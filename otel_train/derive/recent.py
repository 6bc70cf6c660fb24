"""What the last seconds of a run come to: for the live display."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from otel_train.derive.phases import phase_id, used_slots
from otel_train.runlog.layout import DATA_WAIT, EVALUATION, MISSING
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.records import STEP, Records, SegmentReader

WINDOW_S = 10.0
MOST_STEPS = 1024
MOST_SCALARS = 512


@dataclass(frozen=True)
class Recent:
    """The last training step and the rates up to its end; None is not known."""

    step: int | None = None
    epoch: int | None = None
    steps_per_s: float | None = None
    samples_per_s: float | None = None
    tokens_per_s: float | None = None
    wait_share: float | None = None
    """Of the time inside steps; None where no wait was recorded."""
    loss: float | None = None


def recent_of_log(log: RankLog) -> Recent:
    """The last ``WINDOW_S`` seconds, at most ``MOST_STEPS`` steps, of a log that grows. About 0.8 ms."""
    records = last_records(log.steps, MOST_STEPS)
    return recent(records, log.names("phase"), last_loss(log))


def recent(records: Records, phase_names: Mapping[int, str], loss: float | None = None) -> Recent:
    """The same from the last step records, which are in their order."""
    records = records[(records["flags"] & EVALUATION) == 0]
    if not len(records):
        return Recent(loss=loss)
    last = records[-1]
    end_ns = int(last["start_ns"]) + int(last["duration_ns"])
    records = records[records["start_ns"] > end_ns - WINDOW_S * 1e9] if len(records) > 1 else records
    records = records if len(records) else np.array([last], STEP)
    elapsed_s = (end_ns - int(records["start_ns"][0])) / 1e9
    epoch = int(last["epoch"])
    return Recent(
        int(last["step"]),
        None if epoch == MISSING else epoch,
        len(records) / elapsed_s if elapsed_s else None,
        _per_second(records, "samples", elapsed_s),
        _per_second(records, "tokens", elapsed_s),
        _wait_share(records, phase_names),
        loss,
    )


def last_records(reader: SegmentReader, most: int) -> Records:
    """The newest records, at most so many, as a copy."""
    _, end = reader.bounds()
    parts = [records for _, records in reader.read(max(end - most, 0))]
    return np.concatenate(parts) if parts else np.empty(0, reader.dtype)


def last_loss(log: RankLog) -> float | None:
    """The newest value of ``loss``, or else of the first name that ends in it; None where there is none."""
    names = log.names("scalar")
    chosen = next((name for name in names.values() if name == "loss"), None)
    chosen = chosen or next((name for name in names.values() if name.endswith("loss")), None)
    if chosen is None:
        return None
    values = last_records(log.scalars, MOST_SCALARS)
    values = values[values["name"] == next(identity for identity, name in names.items() if name == chosen)]
    return float(values["value"][-1]) if len(values) else None


def _per_second(records: Records, amount: str, elapsed_s: float) -> float | None:
    amounts = records[amount]
    known = amounts != MISSING
    if not known.any() or not elapsed_s:
        return None
    mean = float(amounts[known].mean(dtype=np.float64))
    return mean * len(records) / elapsed_s


def _wait_share(records: Records, phase_names: Mapping[int, str]) -> float | None:
    wait_id = phase_id(dict(phase_names), DATA_WAIT)
    waiting = used_slots(records) & (records["phases"]["phase"] == wait_id)
    stepping_ns = float(records["duration_ns"].sum())
    if wait_id is None or not waiting.any() or not stepping_ns:
        return None
    waited_ns = float(records["phases"]["duration_ns"][waiting].sum(dtype=np.float64))
    return min(waited_ns / stepping_ns, 1.0)
