"""What a training sends through the real collector is in the real Jaeger and Prometheus as it was recorded."""

import os
import time

import pytest
from backends import until

from otel_train import names
from otel_train.runlog.runs import find_run
from otel_train.stack import native

STEPS = 40
METRICS_S = 1
AWAY_STEPS = int(os.environ.get("AWAY_STEPS", "400"))
"""Steps while a part is away; 11000 are about a minute."""


def record_of(tmp_path, run_id, rank=0):
    """A rank's record."""
    return next(log for log in find_run(tmp_path / "runs", run_id).ranks() if log.rank == rank)


def durations_us(log):
    """Of each step, by number."""
    return {int(step["step"]): int(step["duration_ns"]) / 1e3 for _, records in log.steps.read() for step in records}


def intervals_of(log):
    """When each interval of metrics ended in which a step did: Unix time in s, in order."""
    every_ns = METRICS_S * 10**9
    ends = [step["start_ns"] + step["duration_ns"] for _, records in log.steps.read() for step in records]
    numbers = {-((log.anchor.monotonic_ns - int(end)) // every_ns) for end in ends}
    return [(log.anchor.unix_ns + number * every_ns) / 1e9 for number in sorted(numbers)]


def test_spans_are_as_recorded(stack, start_ranks, tmp_path):
    """Two ranks: each step once, both ranks of a step in one trace; parents, links, times and resource."""
    for process in start_ranks(stack.otlp, "spans", STEPS, ranks=2):
        assert 0 == process.wait(120)
    for rank in (0, 1):
        spans = stack.steps("spans", rank, STEPS)
        recorded = durations_us(record_of(tmp_path, "spans", rank))
        assert sorted(recorded) == sorted(span["tags"][names.ITERATION] for span in spans)
        for span in spans:
            assert pytest.approx(recorded[span["tags"][names.ITERATION]], abs=1) == span["duration"]
            assert ["FOLLOWS_FROM"] == [link["refType"] for link in span["references"]]
            assert ("spans", 2) == (span["resource"][names.RUN_ID], span["resource"][names.WORLD_SIZE])
    traces = {}
    for span in stack.spans("spans", "dl.step"):
        traces.setdefault(span["traceID"], set()).add((span["rank"], span["tags"][names.ITERATION]))
    assert [{(0, step), (1, step)} for step in range(STEPS)] == sorted(traces.values(), key=lambda pair: min(pair)[1])


def test_phases_are_in_their_steps(stack, start_ranks, tmp_path):
    """Each phase's parent is its step, its time within it; a checkpoint is a span of an interval; a loss that is no
    number is an event of it."""
    (process,) = start_ranks(stack.otlp, "phases", STEPS, NAN_STEP="9")
    assert 0 == process.wait(120)
    steps = {span["spanID"]: span for span in stack.steps("phases", 0, STEPS)}
    for operation in ("dl.forward", "dl.backward"):
        phases = until(lambda operation=operation: stack.spans("phases", operation), STEPS)
        assert STEPS == len(phases)
        for phase in phases:
            (parent,) = phase["references"]
            step = steps[parent["spanID"]]
            assert ("CHILD_OF", step["traceID"]) == (parent["refType"], phase["traceID"])
            assert step["startTime"] <= phase["startTime"] + 1
            assert phase["startTime"] + phase["duration"] <= step["startTime"] + step["duration"] + 2
    (checkpoint,) = until(lambda: stack.spans("phases", "dl.checkpoint"), 1)
    intervals = until(lambda: stack.spans("phases", "dl.interval"), 1)
    assert checkpoint["references"][0]["spanID"] in {interval["spanID"] for interval in intervals}
    logs = [{field["key"]: field["value"] for field in log["fields"]} for each in intervals for log in each["logs"]]
    (told,) = [log for log in logs if names.SCALAR_NAME in log]
    assert ("loss", 9) == (told[names.SCALAR_NAME], told[names.ITERATION])
    assert told["event"] == "dl.nonfinite"


def test_metrics_are_as_documented(stack, start_ranks, tmp_path):
    """Names with units, labels and values; durations as native histograms, with exemplars that are kept steps."""
    (process,) = start_ranks(stack.otlp, "metrics", STEPS)
    assert 0 == process.wait(120)
    stack.value('dl_step_count_total{dl_run_id="metrics"}', STEPS)
    ((labels, _),) = stack.query('dl_step_count_total{dl_run_id="metrics"}')
    assert {"dl_run_id": "metrics", "dl_rank": "0", "dl_world_size": "1", "job": "metrics"}.items() <= labels.items()
    assert labels["instance"] == "metrics-rank0"
    stack.value('dl_sample_count_total{dl_run_id="metrics"}', 4 * STEPS)
    recorded = durations_us(record_of(tmp_path, "metrics"))
    ((_, total),) = stack.query('histogram_sum(dl_step_duration_seconds{dl_run_id="metrics"})')
    assert pytest.approx(sum(recorded.values()) / 1e6, rel=1e-3) == total
    ((_, count),) = stack.query('histogram_count(dl_step_duration_seconds{dl_run_id="metrics"})')
    assert STEPS == count
    ((_, loss),) = stack.query('dl_loss{dl_run_id="metrics"}')
    assert pytest.approx(1 / STEPS) == loss
    known = {labels["__name__"] for labels, _ in stack.query('{dl_run_id="metrics"}')}
    assert {  # names say unit and type: Prometheus has no other place for them where metrics come by OTLP
        "dl_step_count_total", "dl_sample_count_total", "dl_step_duration_seconds", "dl_phase_duration_seconds",
        "dl_phase_time_seconds_total", "dl_step_rate_per_second", "dl_loss", "dl_checkpoint_duration_seconds",
        "otel_train_overhead_time_seconds_total", "system_cpu_time_seconds_total", "process_memory_usage_bytes",
    } <= known, known  # fmt: skip
    now = time.time()
    (series,) = stack.ask(
        "/api/v1/query_exemplars", query='dl_step_duration_seconds{dl_run_id="metrics"}', start=now - 600, end=now
    )
    traces = {span["traceID"] for span in stack.steps("metrics", 0, STEPS)}
    assert {exemplar["labels"]["trace_id"] for exemplar in series["exemplars"]} <= traces
    assert series["exemplars"]


@pytest.mark.parametrize("part", ["otel-collector", "jaeger", "prometheus"])
def test_a_part_that_goes_and_comes_back(stack, start_ranks, tmp_path, part):
    """Stopped in the middle of a run and started again: each step is in Jaeger once, no step is counted twice."""
    run_id = f"without-{part}"
    over = tmp_path / "over"
    (process,) = start_ranks(stack.otlp, run_id, 10, over, OTEL_METRIC_EXPORT_INTERVAL=str(METRICS_S * 1000))
    stack.steps(run_id, 0, 20)
    native.stop(stack.process(part))
    log = record_of(tmp_path, run_id)
    before = log.steps.bounds()[1]
    until(lambda: range(record_of(tmp_path, run_id).steps.bounds()[1]), before + AWAY_STEPS)
    native.restart(part, stack.directory, stack.offset)
    over.touch()
    assert 0 == process.wait(120)
    recorded = durations_us(record_of(tmp_path, run_id))
    spans = stack.steps(run_id, 0, len(recorded))
    assert sorted(recorded) == sorted(span["tags"][names.ITERATION] for span in spans)
    stack.value(f'dl_step_count_total{{dl_run_id="{run_id}"}}', len(recorded))
    now = time.time()
    (series,) = stack.range_of(f'dl_step_count_total{{dl_run_id="{run_id}"}}', now - 120, now, 1)
    counts = [float(value) for _, value in series["values"]]
    assert counts == sorted(counts)
    intervals = intervals_of(record_of(tmp_path, run_id))
    assert len(intervals) > 3

    def lacking():
        """Intervals without a point, or one in the next. What could not be sent is tried again within 30 s."""
        (raw,) = stack.ask("/api/v1/query", query=f'dl_step_count_total{{dl_run_id="{run_id}"}}[10m]')["result"]
        times = [float(time_s) for time_s, _ in raw["values"]]
        return [end_s for end_s in intervals[:-1] if not any(-0.002 < at - end_s < METRICS_S + 0.002 for at in times)]

    until(lacking, 0, lambda found: found == [])


def test_a_second_up_does_nothing(stack):
    """It says so; the processes are the same."""
    said, before = [], native.processes(stack.directory)
    native.up(stack.directory, stack.offset, said.append)
    assert ["the stack is up already"] == said
    assert before == native.processes(stack.directory)
    assert all(os.path.exists(f"/proc/{process.pid}") for process in before)
