"""From a chart to a trace: of each stretch of metrics, the slowest step whose trace is kept."""

from dataclasses import dataclass

import numpy as np
from opentelemetry.sdk.metrics import Exemplar

from otel_train.derive.kept import HISTORY, Keeping
from otel_train.runlog.layout import EVALUATION, MISSING
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.records import Records
from otel_train.sinks import ids


@dataclass
class ExemplarFinder:
    """Sees the steps in the log's order, and decides on each as the traces' export does, without a word from it."""

    log: RankLog
    keeping: Keeping
    steps: int
    """The ordinal of the next step."""
    found: Exemplar | None = None

    def __post_init__(self) -> None:
        for first, records in self.log.steps.read(max(self.steps - HISTORY, 0)):
            if first >= self.steps:
                break
            self.keeping.recall(records[: self.steps - first])

    def see(self, first: int, records: Records) -> None:
        """Steps from an ordinal on."""
        kept = np.array(self.keeping.decide(first, records).kept, np.int64)
        kept = kept[(records["flags"][kept] & EVALUATION) == 0]
        if len(kept):
            slowest = records[kept[np.argmax(records["duration_ns"][kept])]]
            if self.found is None or int(slowest["duration_ns"]) / 1e9 > self.found.value:
                self.found = self._exemplar(slowest)

    def take(self) -> Exemplar | None:
        """The slowest since the last call."""
        found, self.found = self.found, None
        return found

    def _exemplar(self, record: np.void) -> Exemplar:
        epoch = int(record["epoch"])
        which = (int(record["step"]), None if epoch == MISSING else epoch, False)
        end_ns = self.log.anchor.to_unix_ns(int(record["start_ns"] + record["duration_ns"]))
        return Exemplar(
            None, int(record["duration_ns"]) / 1e9, end_ns,
            ids.step_span_id(self.log.run_id, self.log.rank, *which), ids.step_trace_id(self.log.run_id, *which),
        )  # fmt: skip
