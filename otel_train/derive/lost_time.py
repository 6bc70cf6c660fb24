"""Where a step at more ranks loses time: what each class takes of a unit of work more than in the baseline.

``p`` ranks spend ``p * step_s`` rank-seconds on the work of a step. What they spend on a unit of it more than the ranks
of the baseline is lost; since the same classes make up both, each class's difference is its part of the loss.
"""

import math

from otel_train.derive.evidence import COMMUNICATION, COMPUTE, INPUT, LAUNCH, OPTIMIZER
from otel_train.derive.mean_step import IMBALANCE, MeanStep
from otel_train.derive.work import work_of

DATA, OTHER = "data", "other"
PARTS = {INPUT: DATA, COMMUNICATION: COMMUNICATION, IMBALANCE: IMBALANCE, LAUNCH: LAUNCH, COMPUTE: COMPUTE,
         OPTIMIZER: OPTIMIZER}  # fmt: skip
"""Parts of the lost time by class; all other classes are ``other``."""

ALL_PARTS = (*PARTS.values(), OTHER)


def lost_time(baseline: MeanStep, run: MeanStep, unit: str) -> dict[str, float]:
    """Where a step of the run loses time against the baseline, in s of each rank; the parts add up to all of it.

    A part that neither run has recorded is left out. DDP reduces gradients inside ``backward``: what backward takes
    longer than forward's change explains (the model is the same in both runs, so is its ratio) is communication.
    """
    share = work_of(run, unit) / run.workers / (work_of(baseline, unit) / baseline.workers)
    differences = {
        what: run.times_s.get(what, 0.0) - share * baseline.times_s.get(what, 0.0)
        for what in (*baseline.times_s, *run.times_s)
    }
    parts = {name: differences[what] for what, name in PARTS.items() if what in differences}
    hidden = _hidden_communication(baseline, run)
    if hidden is not None:
        parts[COMPUTE] -= hidden
        parts[COMMUNICATION] = parts.get(COMMUNICATION, 0.0) + hidden
    parts[OTHER] = run.step_s - share * baseline.step_s - math.fsum(parts.values())
    return parts


def _hidden_communication(baseline: MeanStep, run: MeanStep) -> float | None:
    """None where forward and backward are not known of both, or there is nothing to communicate with."""
    if run.workers <= baseline.workers or not baseline.forward_s or not run.forward_s:
        return None
    ratio = (baseline.times_s.get(COMPUTE, 0.0) - baseline.forward_s) / baseline.forward_s
    return max(run.times_s.get(COMPUTE, 0.0) - run.forward_s * (1 + ratio), 0.0)
