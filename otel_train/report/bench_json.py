"""A benchmark as one JSON object. Every key is always there; what is not known is null."""

from typing import Any

from otel_train.bench.judging import Estimate, Judged
from otel_train.bench.memory_sweep import Swept, how
from otel_train.bench.reading import RunRead
from otel_train.derive.catalogue import Measure
from otel_train.report.bench import Told, conclusion, ranked
from otel_train.report.bench_sweep import gpu_peak

SCHEMA_VERSION = 1


def as_dict(told: Told) -> dict[str, Any]:
    """The benchmark: its plan, what is known of each cell, and each run."""
    outcome, plan = told.outcome, told.plan
    return {
        "schema_version": SCHEMA_VERSION,
        "name": told.name,
        "command": list(plan.command),
        "metric": outcome.metric.name,
        "unit": outcome.metric.unit,
        "better": "higher" if outcome.higher_is_better else "lower",
        "margin": plan.margin,
        "seed": plan.seed,
        "rounds_planned": plan.repeat,
        "rounds": outcome.rounds,
        "ended": outcome.reason,
        "clear": outcome.judgement.is_clear,
        "level": outcome.judgement.level if outcome.judgement.looks else None,
        "best": _settings(outcome.judgement.best.settings) if outcome.judgement.best else None,
        "conclusion": conclusion(told),
        "cells": [_cell(judged) for judged in ranked(outcome)],
        "runs": [_run(read, outcome.metric) for read in outcome.runs],
        "sweep": _sweep(told.swept, outcome.metric) if told.swept else None,
    }


def _settings(settings: Any) -> dict[str, str]:
    return {each.name: each.value for each in settings}


def _cell(judged: Judged) -> dict[str, Any]:
    return {
        "settings": _settings(judged.cell.settings),
        "verdict": judged.verdict,
        "mean": _estimate(judged.mean),
        "against_best": _estimate(judged.ratio),
    }


def _estimate(found: Estimate | None) -> dict[str, Any] | None:
    return None if found is None else vars(found) | {}


def _run(read: RunRead, metric: Measure) -> dict[str, Any]:
    record = read.record
    return {
        "run_id": record.run_id,
        "settings": _settings(record.cell.settings),
        "round": record.round_number,
        "status": record.status,
        "exit_code": record.exit_code,
        "wall_s": record.wall_s,
        "value": read.value(metric),
        "warm_up_steps": read.skipped,
        "problem": read.problem,
        "last_lines": read.tail if read.problem else [],
        "peak_process_bytes": record.peak_bytes,
        "peak_gpu_bytes": gpu_peak(read),
        "oom_kills": record.oom_kills,
        "out_of_memory": read.out_of_memory.as_dict() if read.out_of_memory else None,
    }


def _sweep(swept: Swept, metric: Measure) -> dict[str, Any]:
    return {
        "sizes": [{"size": size, "what": how(read), **_run(read, metric)} for size, read in sorted_runs(swept)],
        "largest_that_fits": swept.largest,
        "smallest_that_does_not": swept.too_large,
        "whole": swept.is_whole,
    }


def sorted_runs(swept: Swept) -> list[tuple[int, RunRead]]:
    """By size, ascending."""
    return sorted(swept.runs, key=lambda run: run[0])
