"""What bounds a run: one plain sentence with its evidence, and a word for programs.

A class of time that training can do without (waiting for data, a GPU that waits for launches, checkpoints, evaluation,
time between steps) is named when it takes a quarter of the run; otherwise the largest class inside the step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from otel_train.derive.data_loading import reason
from otel_train.derive.evidence import (
    AVOIDABLE,
    CHECKPOINT,
    COMMUNICATION,
    COMPUTE,
    EVALUATION,
    INPUT,
    LAUNCH,
    OPTIMIZER,
    OUTSIDE,
    PHASE,
    STEP,
    UNKNOWN,
    Evidence,
    gather,
)
from otel_train.derive.scan import RankScan
from otel_train.derive.steps import FEW_STEPS

ENOUGH = 0.25
"""From this share of the time on, something avoidable is what bounds the run."""


@dataclass(frozen=True)
class Verdict:
    """What bounds the run. ``verdict`` is one of this module's words."""

    verdict: str
    sentence: str
    phase: str | None
    """The phase's name where the verdict is ``phase``."""
    share: float | None
    """The part of the judged time that it takes; None where nothing could be judged."""
    shares: dict[str, float]
    """The part that each class takes."""
    judged_steps: int
    caveats: tuple[str, ...]


def judge(scans: Sequence[RankScan]) -> Verdict:
    """Say what bounds the run that these ranks made."""
    return verdict_of(gather(scans))


def verdict_of(evidence: Evidence) -> Verdict:
    """The verdict that the evidence gives."""
    what = _dominant(evidence)
    kind, _, phase = what.partition(":")
    shares = {each: evidence.share(each) for each in evidence.times_s}
    share = evidence.share(what) if kind != UNKNOWN else None
    sentence = f"{kind}: {_SENTENCES[kind](evidence, what)}"
    if kind != INPUT and evidence.step_share(INPUT) >= ENOUGH:
        sentence += f" Inside the steps, input comes first: {_percent(evidence.step_share(INPUT))} is waiting for data."
    return Verdict(kind, sentence, phase or None, share, shares, evidence.steps, _caveats(evidence, kind))


def _dominant(evidence: Evidence) -> str:
    if not evidence.steps or not evidence.run_s:
        return UNKNOWN
    avoidable = max(AVOIDABLE, key=evidence.share)
    if evidence.share(avoidable) >= ENOUGH:
        return avoidable
    return max(evidence.times_s, key=evidence.share)


def _caveats(evidence: Evidence, kind: str) -> tuple[str, ...]:
    caveats = []
    if 0 < evidence.steps <= FEW_STEPS:
        caveats.append(f"Judged on {evidence.steps} steps only, the first ones included: they often are slower.")
    if evidence.gpu_steps and kind in (COMPUTE, OPTIMIZER, STEP, INPUT, LAUNCH):
        caveats.append(f"Judged by GPU time, which is known of {evidence.gpu_steps} steps.")
        if evidence.gpu_busy is None and not evidence.profiled and kind in (COMPUTE, OPTIMIZER):
            caveats.append(
                "Whether the GPU idles between launches is not known: its utilization was sampled too rarely."
            )
    elif evidence.has_gpu and kind in (COMPUTE, OPTIMIZER, STEP, PHASE, INPUT, LAUNCH):
        caveats.append(
            "Phases are host time: the GPU works on after a phase has returned, so a phase that reads a result also "
            "holds the wait for the GPU."
        )
    if evidence.steps and not evidence.has_waits and kind not in (OUTSIDE, UNKNOWN):
        caveats.append("No wait for data is recorded: wrap the loader in otel_train.trace_dataloader to see the input.")
    profiled = _of_profiles(evidence, kind)
    return (*caveats, profiled) if profiled is not None else tuple(caveats)


AGREES = {
    INPUT: {"input"},
    LAUNCH: {"launch", "synchronisation"},
    COMPUTE: {"compute", "memory", "copy"},
    OPTIMIZER: {"compute", "memory"},
    COMMUNICATION: {"communication"},
}
"""By verdict, the profiles' classes that do not contradict it. The others are about what profiles do not see."""


def _of_profiles(evidence: Evidence, kind: str) -> str | None:
    """What the profiled steps say, which look into the phases; a contradiction is said to be one."""
    if not evidence.profiled or kind in (CHECKPOINT, EVALUATION, OUTSIDE, UNKNOWN):
        return None
    first = max(evidence.profiled, key=lambda what: evidence.profiled[what])
    number = f"{evidence.profiles} profiled step" + ("s" if evidence.profiles > 1 else "")
    if kind in AGREES and first not in AGREES[kind]:
        return f"The {number} say otherwise: {first} comes first there, with {_percent(evidence.profiled[first])}."
    return f"In the {number} {first} comes first, with {_percent(evidence.profiled[first])}."


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _input(evidence: Evidence, what: str) -> str:
    advice = "Raise num_workers or prefetch_factor of the DataLoader, or make reading and preparing a sample cheaper."
    if evidence.loading is not None:
        advice = reason(evidence.loading, evidence.work_s)
    return f"{_percent(evidence.step_share(INPUT))} of the step time is spent waiting for data. {advice}"


def _compute(evidence: Evidence, what: str) -> str:
    waits = f" and {_percent(evidence.step_share(INPUT))} is waiting for data" if evidence.has_waits else ""
    return (
        f"{_percent(evidence.step_share(COMPUTE))} of the step time is forward and backward{waits}. The model itself "
        "bounds this run."
    )


def _launch(evidence: Evidence, what: str) -> str:
    return (
        f"the GPU ran a kernel in {_percent(evidence.gpu_busy or 0.0)} of the time only, and in "
        f"{_percent(evidence.share(LAUNCH))} of it waited for the host inside the step. Give it more at once: a "
        "larger batch, torch.compile (mode='reduce-overhead' makes CUDA graphs), fused=True for the optimizer; and "
        "read results less often (.item(), .cpu())."
    )


def _optimizer(evidence: Evidence, what: str) -> str:
    return (
        f"{_percent(evidence.step_share(OPTIMIZER))} of the step time is the optimizer. Try its fused=True or "
        "foreach=True, or step once in several batches (gradient accumulation)."
    )


def _communication(evidence: Evidence, what: str) -> str:
    return (
        f"{_percent(evidence.step_share(COMMUNICATION))} of the step time is collective communication, waiting for "
        "slower ranks included."
    )


def _checkpoint(evidence: Evidence, what: str) -> str:
    return (
        f"{_percent(evidence.share(CHECKPOINT))} of the run is spent on checkpoints while training waits. Save less "
        "often, or asynchronously (torch.distributed.checkpoint.async_save)."
    )


def _evaluation(evidence: Evidence, what: str) -> str:
    return f"{_percent(evidence.share(EVALUATION))} of the run is evaluation. Evaluate less often, or on fewer batches."


def _outside(evidence: Evidence, what: str) -> str:
    hint = "Trace what happens there with otel_train.trace_phase or timed."
    if not evidence.has_waits:
        hint = "If the loader is not traced, its waits are in there: wrap it in otel_train.trace_dataloader."
    share = _percent(evidence.share(OUTSIDE))
    return f"{share} of the run passes between steps, in no checkpoint and no evaluation. {hint}"


def _step(evidence: Evidence, what: str) -> str:
    return (
        f"{_percent(evidence.step_share(STEP))} of the step time lies in no phase, so what bounds this run inside the "
        "step is not known. Mark its parts with otel_train.trace_phase."
    )


def _phase(evidence: Evidence, what: str) -> str:
    return f"{_percent(evidence.step_share(what))} of the step time is spent in {what.partition(':')[2]!r}."


def _unknown(evidence: Evidence, what: str) -> str:
    return "no training step is recorded, so there is nothing to judge."


_SENTENCES = {
    INPUT: _input,
    LAUNCH: _launch,
    COMPUTE: _compute,
    OPTIMIZER: _optimizer,
    COMMUNICATION: _communication,
    CHECKPOINT: _checkpoint,
    EVALUATION: _evaluation,
    OUTSIDE: _outside,
    STEP: _step,
    PHASE: _phase,
    UNKNOWN: _unknown,
}
