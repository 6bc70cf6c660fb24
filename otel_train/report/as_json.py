"""The report as JSON. The keys are stable within a ``schema_version``: new ones may come, none goes or changes meaning.

Every key is always there; what is not recorded is null. ``_s`` is seconds, ``_bytes`` bytes, ``share`` a part of 1.
Sums are over all ranks; ``docs/report.md`` tells each key.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from otel_train.derive.data_loading import DataLoading
from otel_train.derive.event_totals import CheckpointTotal
from otel_train.derive.gpu import GpuTotals
from otel_train.derive.imbalance import Imbalance
from otel_train.derive.loading_advice import advise
from otel_train.derive.packing import Packing
from otel_train.derive.projection import Projection
from otel_train.derive.scalar_totals import ScalarTotal
from otel_train.derive.summary import RunSummary, Summary

SCHEMA_VERSION = 1


def run_as_dict(run: RunSummary, projections: Sequence[Projection] = ()) -> dict[str, Any]:
    """The whole report: the run, its ranks merged, and each rank. Holds no value that JSON has not."""
    first = run.identities[min(run.identities)]
    content = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.run_id,
        "path": run.path,
        "state": run.state,
        "service_name": first.get("service_name"),
        "world_size": first.get("world_size"),
        "started_unix_s": run.started_unix_s,
        "bottleneck": asdict(run.merged.verdict),
        "advice": [asdict(advice) for advice in advise(run.loading_facts)],
        "merged": summary_as_dict(run.merged),
        "ranks": [
            {
                "rank": summary.ranks[0],
                "state": run.states[summary.ranks[0]],
                "host": run.identities[summary.ranks[0]].get("process", {}).get("host"),
                "hardware": run.identities[summary.ranks[0]].get("hardware"),
                "waiting": _waiting(run.imbalance, summary.ranks[0]),
                **summary_as_dict(summary),
            }
            for summary in run.ranks
        ],
        "slowest_rank": run.slowest_rank,
        "imbalance": {
            "mean_s": run.imbalance.mean_s,
            "last_rank": run.imbalance.last_rank,
            "steps": run.imbalance.steps,
            "on_gpu": run.imbalance.on_gpu,
        }
        if run.imbalance
        else None,
        "mean_step": asdict(run.mean_step) if run.mean_step else None,
        "disagreements": list(run.disagreements),
        "hardware": first.get("hardware"),
        "software": first.get("software"),
        "git": first.get("git"),
        "projections": [asdict(projection) for projection in projections],
    }
    cleaned: dict[str, Any] = without_nonfinite(content)
    return cleaned


def summary_as_dict(summary: Summary) -> dict[str, Any]:
    """The measures of one rank or of all."""
    return {
        "steps": asdict(summary.counts),
        "time": asdict(summary.span) if summary.span else None,
        "throughput": {
            "steps_per_s": asdict(summary.steps_per_s),
            "samples_per_s": asdict(summary.samples_per_s),
            "tokens_per_s": asdict(summary.tokens_per_s),
        },
        "step_time": asdict(summary.step_time) if summary.step_time else None,
        "step_time_curve_s": summary.step_time_curve,
        "step_time_distribution": asdict(summary.distribution) if summary.distribution else None,
        "changes": [asdict(change) for change in summary.changes],
        "phases": [asdict(phase) for phase in summary.phases],
        "starvation": asdict(summary.starvation) if summary.starvation else None,
        "gpu": _gpu(summary.gpu) if summary.gpu else None,
        "data_loading": _loading(summary.loading) if summary.loading else None,
        "queue": asdict(summary.queue) if summary.queue else None,
        "packing_efficiency": summary.packing_efficiency,
        "packing": _packing(summary.packing) if summary.packing else None,
        "gpus": [{**asdict(device), "watts": device.watts} for device in summary.devices],
        "memory": asdict(summary.memory),
        "slowest_steps": [asdict(slow) for slow in summary.slowest],
        "failed_steps": summary.failed_steps,
        "errors": [asdict(error) for error in summary.errors],
        "last_epoch": summary.last_epoch,
        "epochs": asdict(summary.epochs),
        "evaluations": {name: asdict(total) for name, total in summary.evaluations.items()},
        "evaluation_steps_s": summary.evaluation_s,
        "checkpoints": {kind: _checkpoint(total) for kind, total in summary.checkpoints.items()},
        "checkpoint_share": summary.checkpoint_share,
        "timed": {name: asdict(total) for name, total in summary.timed.items()},
        "phases_outside_steps": {name: asdict(total) for name, total in summary.outside_phases.items()},
        "alerts": {
            rule: {key: value for key, value in asdict(total).items() if key != "since_ns"}
            for rule, total in summary.alerts.items()
        },
        "profiles": [asdict(profile) for profile in summary.profiles],
        "other_events": {kind: asdict(total) for kind, total in summary.other_events.items()},
        "scalars": {name: _scalar(total) for name, total in summary.scalars.items()},
        "resources": {
            name: {"max": total.max, "mean": total.mean, "last": total.last, "min": total.min}
            for name, total in summary.resources.items()
        },
        "overhead_s": summary.overhead_s,
        "records_dropped": summary.records_dropped,
        "checkpoints_left_out": summary.checkpoints_left_out,
    }


def without_nonfinite(value: Any) -> Any:
    """The same with null in place of each not-a-number and infinity: JSON has neither."""
    if isinstance(value, dict):
        return {key: without_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nonfinite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _waiting(waiting: Imbalance | None, rank: int) -> dict[str, float] | None:
    if waiting is None or rank not in waiting.waits_s:
        return None
    return {"mean_s": waiting.waits_s[rank], "last_share": waiting.last[rank]}


def _checkpoint(total: CheckpointTotal) -> dict[str, Any]:
    content = asdict(total)
    for name in ("sized", "sized_s", "staged", "written"):
        del content[name]
    known = total.sized > 0
    return {
        **content,
        "mean_s": total.time_s / total.count if total.count else None,
        "size_bytes": total.size_bytes if known else None,
        "rate_bytes_per_s": total.rate,
    }


def _packing(packing: Packing) -> dict[str, Any]:
    return {**asdict(packing), "efficiency": packing.efficiency, "low_share": packing.low_share}


def _loading(loading: DataLoading) -> dict[str, Any]:
    content = asdict(loading)
    del content["worker_batches"], content["worker_s"]
    slowest = [asdict(worker) for worker in loading.slowest_workers]
    return {**content, "fetch_s": loading.fetch_s, "slowest_workers": slowest, "worker_imbalance": loading.imbalance}


def _gpu(totals: GpuTotals) -> dict[str, Any]:
    content = asdict(totals)
    content["per_step_s"] = {name: totals.per_step_s(name) for name in content.pop("times_s")}
    return content


def _scalar(total: ScalarTotal) -> dict[str, Any]:
    content = asdict(total)
    del content["sums"], content["counts"]
    return {**content, "curve": total.curve}
