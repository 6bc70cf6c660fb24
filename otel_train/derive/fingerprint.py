"""What a comparison needs of a run, in a few KB: how long its steady steps take, of what, on which machine, with what.

It can be kept when the run is gone (``baselines``), as JSON.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from otel_train.derive.catalogue import resource_mean
from otel_train.derive.difference import FEWEST, MEAN, MEDIAN, Estimate, estimate
from otel_train.derive.phases import OTHER
from otel_train.derive.secrets import setting_without_secrets, without_secrets
from otel_train.derive.steady import Steady, steady_run
from otel_train.derive.steps import Column
from otel_train.derive.summary import RunSummary, summarize_run
from otel_train.errors import ComparisonError
from otel_train.resource_names import COUNTER, RESOURCES, series_of
from otel_train.runlog.runs import Run

UNDISTURBED = "undisturbed"
QUANTILE = 0.05
"""Whatever else a machine does makes a phase longer, never shorter: one step in twenty saw little of it."""
STRETCHES, SHORTEST = 10, 5
"""A run is cut into ten stretches, or fewer of at least five steps: batch means, after B. Schmeiser, "Batch size
effects in the analysis of simulation output", Operations Research 1982."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class PhaseTimes:
    """A phase of the steady steps, s a step, by ``mean`` and ``undisturbed`` time; and of each stretch of the run."""

    times_s: dict[str, float]
    stretches_s: dict[str, list[float]]


@dataclass(frozen=True)
class Fingerprint:
    """A run as comparisons see it. ``None`` and what is not there is not known."""

    run_id: str
    started_unix_s: float
    world_size: int
    steps: int
    """Steady ones."""
    left_out: dict[str, int]
    estimates: dict[str, Estimate]
    """``median`` and ``mean`` step time."""
    quantiles_s: dict[str, float]
    samples_per_s: float | None
    tokens_per_s: float | None
    """Over the time inside steady steps."""
    samples_a_step: float | None
    tokens_a_step: float | None
    phases: dict[str, PhaseTimes]
    """Of depth 0, and ``other``: their means add up to the mean step."""
    resources: dict[str, float]
    """By metric, the mean of its samples while the run trained; not of running totals."""
    facts: dict[str, dict[str, str]]
    """``hardware``, ``software``, ``git`` and ``settings``, flat and as text."""
    on_gpu: dict[str, PhaseTimes] = field(default_factory=dict)
    """The phases as the GPU took them, and ``other``; none where fewer than 20 steady steps were timed there."""

    def by_the_gpu(self) -> "Fingerprint":
        """The same run, with the phases as the GPU took them."""
        return replace(self, phases=self.on_gpu)

    @property
    def is_by_the_gpu(self) -> bool:
        """Are ``phases`` those of the GPU?"""
        return self.phases is self.on_gpu

    @property
    def pace_varies(self) -> float:
        """How far the machine's pace varies within the run, as a logarithm: p75 of the steps beside p5."""
        low, high = self.quantiles_s["p5"], self.quantiles_s["p75"]
        return math.log(high / low) if low > 0 else math.inf

    @property
    def undisturbed_varies(self) -> float:
        """The same of undisturbed times: the middle stretch of the run beside the one that took least."""
        stretches = [phase.stretches_s[UNDISTURBED] for phase in self.phases.values()]
        together = [sum(times) for times in zip(*stretches, strict=True)]
        return math.log(statistics.median(together) / min(together)) if min(together, default=0.0) > 0 else math.inf

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it; an error that is not known is null."""
        content = asdict(self)
        for each in content["estimates"].values():
            each.update({key: None for key in ("error",) if not np.isfinite(each[key])})
        rounded: dict[str, Any] = _rounded(content)
        return rounded

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Fingerprint":
        """What ``to_json`` gave. Raises ``ComparisonError``."""
        try:
            fields = {"on_gpu": {}, **content}
            fields = {key: fields[key] for key in cls.__dataclass_fields__}
            fields["estimates"] = {key: _estimate(each) for key, each in content["estimates"].items()}
            for phases in ("phases", "on_gpu"):
                fields[phases] = {key: PhaseTimes(**each) for key, each in fields[phases].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ComparisonError(f"what is kept of a run is not whole: {error}. Set the baseline again") from error
        return cls(**fields)


def fingerprint(run: Run) -> Fingerprint:
    """Read a run. Raises ``RunLogError``; a run without steps has no steps, which a comparison says."""
    return fingerprint_of(steady_run(run), summarize_run(run))


def fingerprint_of(steady: Steady, summary: RunSummary) -> Fingerprint:
    """The same of what was read."""
    first = summary.identities[min(summary.identities)]
    times = steady.durations_s
    quantiles = np.quantile(times, QUANTILES).tolist() if steady.count else []
    return Fingerprint(
        summary.run_id,
        summary.started_unix_s,
        int(first.get("world_size") or len(summary.ranks)),
        steady.count,
        steady.left_out,
        {name: estimate(times, name) for name in (MEDIAN, MEAN)} if steady.count else {},
        {f"p{share * 100:g}": value for share, value in zip(QUANTILES, quantiles, strict=False)},
        _rate(steady.samples, times),
        _rate(steady.tokens, times),
        _each(steady.samples),
        _each(steady.tokens),
        {name: phase_times(own) for name, own in steady.phases_s.items()} if steady.count else {},
        _resources(summary),
        facts_of(first),
        phases_on_gpu(steady),
    )


def phase_times(times_s: Column) -> PhaseTimes:
    """Of the times of a phase in each step, at least one."""
    count = max(min(STRETCHES, len(times_s) // SHORTEST), 1) if len(times_s) >= FEWEST else 1
    parts = np.array_split(times_s, count)
    return PhaseTimes(
        {name: of(times_s) for name, of in STATISTICS.items()},
        {name: [of(part) for part in parts] for name, of in STATISTICS.items()},
    )


def phases_on_gpu(steady: Steady) -> dict[str, PhaseTimes]:
    """The phases of the steps that were timed on the GPU, and ``other``: what the step takes more than these.

    A host that is ahead is in one step while the GPU is in another. So ``other`` is no step's: it is of each stretch.
    """
    timed = steady.timed_on_gpu
    if np.count_nonzero(timed) < FEWEST:
        return {}
    phases = {name: phase_times(times[timed]) for name, times in steady.on_gpu_s.items()}
    step, together = phase_times(steady.durations_s[timed]), phase_times(steady.together_on_gpu_s)
    phases[OTHER] = PhaseTimes(
        {name: max(step.times_s[name] - together.times_s[name], 0.0) for name in STATISTICS},
        {
            name: [max(a - b, 0.0) for a, b in zip(step.stretches_s[name], together.stretches_s[name], strict=True)]
            for name in STATISTICS
        },
    )
    return phases


def _mean(times_s: Column) -> float:
    return float(times_s.mean())


def _undisturbed(times_s: Column) -> float:
    return max(float(np.quantile(times_s, QUANTILE)), 0.0)


STATISTICS = {UNDISTURBED: _undisturbed, MEAN: _mean}


def facts_of(identity: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Of ``run.json`` what can differ between runs, in words."""
    hardware = identity.get("hardware") or {}
    software = {**(identity.get("software") or {})}
    software |= {name: hardware[name] for name in ("driver", "cuda_driver") if hardware.get(name)}
    software["otel_train"] = str(identity.get("otel_train_version", "?"))
    process = identity.get("process") or {}
    own = {"command": " ".join(without_secrets(process.get("command", ())[1:])), "host": process.get("host")}
    given = identity.get("settings") or {}
    known = {name: setting_without_secrets(name, value) for name, value in given.items() if value is not None}
    settings = {**own, "world_size": identity.get("world_size"), **known}
    git = identity.get("git") or {}
    parts = {"hardware": _hardware(hardware), "software": software, "settings": settings, "git": git}
    return {
        part: {key: str(value) for key, value in known.items() if value is not None} for part, known in parts.items()
    }


def _hardware(hardware: Mapping[str, Any]) -> dict[str, str]:
    """CPU, memory in GiB, GPUs by model: what a run's speed depends on, not which of several alike it was."""
    described: dict[str, str] = {}
    cpu = hardware.get("cpu")
    if cpu:
        described["cpu"] = f"{cpu.get('count', '?')} x {cpu.get('model', '?')}"
    if hardware.get("memory_bytes"):
        described["memory"] = f"{round(hardware['memory_bytes'] / 2**30)} GiB"
    models = [str(gpu.get("model")) for gpu in hardware.get("gpus", ())]
    if models:
        described["gpus"] = ", ".join(f"{models.count(model)} x {model}" for model in sorted(set(models)))
    return described


def _resources(summary: RunSummary) -> dict[str, float]:
    metrics = dict.fromkeys(series_of(column)[0] for column in summary.merged.resources)
    wanted = [name for name in metrics if name not in RESOURCES or RESOURCES[name].instrument != COUNTER]
    means = {name: resource_mean(summary, name) for name in wanted}
    return {name: mean for name, mean in means.items() if mean is not None}


def _rate(amounts: Column, times_s: Column) -> float | None:
    known = ~np.isnan(amounts)
    passed = float(times_s[known].sum())
    return float(amounts[known].sum()) / passed if passed else None


def _each(amounts: Column) -> float | None:
    known = amounts[~np.isnan(amounts)]
    return statistics.fmean(known) if len(known) else None


def _estimate(content: Mapping[str, Any]) -> Estimate:
    error = content["error"]
    return Estimate(content["value"], float("inf") if error is None else error, content["freedom"], content["steps"])


def _rounded(value: Any) -> Any:
    """Six digits: ten times what any of it is known to."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) and abs(value) < 1e8 else value
