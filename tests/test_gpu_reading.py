"""What readers make of GPU times: the report, the verdict, spans and metrics. And how events become times."""

import io
from pathlib import Path

import pytest
from log_builder import MS, LogBuilder

from otel_train import names
from otel_train.derive.aggregate import Aggregate, add_gpu
from otel_train.derive.bottleneck import judge
from otel_train.derive.gpu import GpuTotals, gpu_times, merged_gpu, scan_gpu
from otel_train.derive.scan import scan_rank
from otel_train.derive.summary import summarize
from otel_train.export.trace_source import TraceSource
from otel_train.hooks.gpu_timing import slots
from otel_train.report.as_json import summary_as_dict
from otel_train.report.sections import phases
from otel_train.runlog.events import Event, EventWriter
from otel_train.runlog.layout import COUNT_SHIFT
from otel_train.runlog.storage import Memory

HOST = [("data_wait", 0, 60 * MS), ("forward", 60 * MS, 2 * MS), ("backward", 62 * MS, 3 * MS)]
"""A host that waits long for data and launches quickly."""


def built(gpu, steps=40, every=4, memory=(0, -1, -1, -1)):
    """A log of steps of 100 ms, one in ``every`` with GPU times."""
    builder = LogBuilder(Path(), storage=Memory())
    for number in range(steps):
        builder.step(number, 100 * MS, HOST)
        if number % every == 0:
            builder.gpu(number, gpu, memory)
    return builder.log


BUSY = {"data_wait": 1 * MS, "forward": 30 * MS, "backward": 60 * MS, "optimizer": 5 * MS}
IDLE = {"data_wait": 59 * MS, "forward": 10 * MS, "backward": 20 * MS, "optimizer": 5 * MS}


def test_waiting_is_judged_by_what_the_gpu_waited():
    """The host waits 60 % of the step; where the GPU works meanwhile, that is no bound, and where it idles it is."""
    busy, idle = (judge([scan_rank(built(gpu))]) for gpu in (BUSY, IDLE))
    assert ("compute", 0.9) == (busy.verdict, pytest.approx(busy.share))
    assert ("input", 0.59) == (idle.verdict, pytest.approx(idle.share))
    assert "Judged by GPU time, which is known of 10 steps." in busy.caveats
    assert not any("host time" in caveat for caveat in busy.caveats)


def test_a_phase_of_the_script_is_named():
    """What it takes on the GPU is its own time, not time in no phase."""
    verdict = judge([scan_rank(built({"forward": 30 * MS, "update": 60 * MS}))])
    assert ("phase", "update", 0.6) == (verdict.verdict, verdict.phase, pytest.approx(verdict.share))


def utilized(gpu, utilization, own=True, samples=4):
    """The log of such a run with the GPU's utilization, sampled while it trained; before it the GPU was idle."""
    builder = LogBuilder(Path(), storage=Memory())
    attributes = (("hw.id", "GPU-1"), *((("otel_train.gpu.own", "true"),) if own else ()))
    builder.resources(0, {("hw.gpu.utilization", attributes): 0.0})
    for number in range(100):
        builder.step(number, 100 * MS, HOST)
        builder.gpu(number, gpu)
        if number >= 100 - samples:
            builder.resources(builder.end_ns, {("hw.gpu.utilization", attributes): utilization})
    return builder.log


def test_a_gpu_that_waits_for_launches():
    """Phases fill the step on the GPU too, since each lasts from its first kernel to its last: yet it idles in them."""
    verdict = judge([scan_rank(utilized(BUSY, 0.2))])
    assert ("launch", 0.79) == (verdict.verdict, pytest.approx(verdict.share))
    assert "ran a kernel in 20 % of the time only" in verdict.sentence
    assert pytest.approx(1.0) == sum(verdict.shares.values())
    assert pytest.approx(0.9 * 0.2 / 0.99) == verdict.shares["compute"]


@pytest.mark.parametrize("log", [utilized(BUSY, 0.93), utilized(BUSY, 0.2, own=False), utilized(BUSY, 0.2, samples=2)])
def test_a_gpu_that_works(log):
    """It works nearly all the time, or it is another one, or hardly anything is known of it."""
    assert "compute" == judge([scan_rank(log)]).verdict


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"memory": 0.7, "launch": 0.3}, "In the 2 profiled steps memory comes first, with 60 %."),
        ({"launch": 0.7, "compute": 0.3}, "The 2 profiled steps say otherwise: launch comes first there, with 60 %."),
    ],
)
def test_profiles_refine_the_verdict_or_contradict_it(shares, said):
    """What they say stands beside it; a contradiction is called one. A profiled block is no step."""
    log = built(BUSY)
    first = max(shares, key=shares.get)
    events = EventWriter(log.storage, 1 << 30)
    for step, given in ((1, shares), (2, {first: 0.5, "input": 0.5})):
        told = {names.PROFILE_SHARES: given, names.PROFILE_BOUND: first}
        events.write(Event(names.PROFILE, 0, 1, step=step, attributes=told))
    block = {names.PROFILE_SHARES: {"input": 1.0}, names.PROFILE_NAME: "warm-up"}
    events.write(Event(names.PROFILE, 0, 1, attributes=block))
    verdict = judge([scan_rank(log)])
    assert ("compute", said) == (verdict.verdict, verdict.caveats[-1])


def test_a_gpu_that_waits_for_data():
    """An idle GPU whose idleness the wait for data explains does not wait for launches as well."""
    verdict = judge([scan_rank(utilized(IDLE, 0.45))])
    assert ("input", None) == (verdict.verdict, verdict.shares.get("launch"))


def test_gpu_that_runs_behind_the_host():
    """More GPU time than step time (the host's clock ends a step before the GPU does): shares stay within one."""
    verdict = judge([scan_rank(built({"forward": 150 * MS, "backward": 50 * MS}))])
    assert ("compute", 1.0) == (verdict.verdict, pytest.approx(verdict.share))


def test_totals_of_ranks():
    """Times are added, memory is the highest of any rank; a rank without any changes nothing."""
    log = built(BUSY, memory=(2, 100, 300, 200))
    one = scan_gpu(log)
    both = merged_gpu([one, GpuTotals(), scan_gpu(built(IDLE, memory=(1, 100, 500, 100)))])
    assert (10, 0.03, 200, 300, 2) == (
        one.steps,
        pytest.approx(one.per_step_s("forward")),
        one.peak_bytes,
        one.reserved_bytes,
        one.retries,
    )
    assert both is not None
    assert (20, pytest.approx(0.02), 200, 500, 2) == (
        both.steps,
        both.per_step_s("forward"),
        both.peak_bytes,
        both.reserved_bytes,
        both.retries,
    )
    assert merged_gpu([GpuTotals()]) is None


def test_report_tells_host_and_gpu_apart():
    """A column of its own in the text, and keys of their own in JSON; neither without GPU times."""
    summary = summarize([scan_rank(built(BUSY))])
    from rich.console import Console

    console = Console(width=100, record=True, file=io.StringIO())
    console.print(phases(summary, 10))
    shown = console.export_text()
    assert "on the GPU" in shown
    assert "30.0 ms" in next(line for line in shown.splitlines() if "forward" in line)
    content = summary_as_dict(summary)["gpu"]
    assert pytest.approx(0.06) == content["per_step_s"]["backward"]
    assert 10 == content["steps"]
    builder = LogBuilder(Path(), storage=Memory())
    builder.step(0, 100 * MS, HOST)
    assert summary_as_dict(summarize([scan_rank(builder.log)]))["gpu"] is None


def test_spans_have_the_gpu_time_of_their_phase():
    """Of steps that were timed; the others have none, not zero."""
    log = built(BUSY)
    spans = [span for batch in TraceSource(log, 2, 2.0).batches({}, True) for span in batch.items]
    steps = {span.ids[0]: span.attributes[names.ITERATION] for span in spans if span.name == "dl.step"}
    forwards = {steps[span.ids[0]]: span.attributes for span in spans if span.name == "dl.forward"}
    assert pytest.approx(0.03) == forwards[4][names.GPU_TIME]
    assert names.GPU_TIME not in forwards[2]


def test_metric_is_a_histogram_of_timed_steps():
    """By phase, beside the host's."""
    log, aggregate = built(BUSY), Aggregate()
    for _, records in log.gpu.read():
        add_gpu(aggregate, records, log.names("phase"))
    histogram = aggregate.histograms[names.GPU_PHASE_DURATION, ((names.PHASE, "forward"),)]
    assert (10, pytest.approx(0.3)) == (histogram.count, histogram.sum)


def test_times_of_chosen_steps():
    """Looked up by number."""
    log = built(BUSY)
    assert {4: pytest.approx({name: ns / 1e9 for name, ns in BUSY.items()})} == gpu_times(
        log, [3, 4, 5], log.names("phase")
    )


class PassedEvent:
    """An event that the GPU passed at a time in ms."""

    def __init__(self, at_ms):
        self.at_ms = at_ms

    def elapsed_time(self, later):
        return later.at_ms - self.at_ms


def test_events_become_times():
    """Pairs of one phase are added up; an edge without its other is left out."""
    wait, forward, optimizer = 1, 4, 6
    edges = [(wait, 0, 0), (wait, 1, 2), (forward, 0, 3), (forward, 1, 5), (forward, 0, 6), (forward, 1, 9)]
    edges += [(optimizer, 0, 10), (optimizer, 0, 12), (optimizer, 1, 13), (7, 1, 14), (wait, 0, 20)]
    marks = [(phase << 1 | end, PassedEvent(at)) for phase, end, at in edges]
    assert [
        wait | 1 << COUNT_SHIFT, 2e6, forward | 2 << COUNT_SHIFT, 5e6, optimizer | 1 << COUNT_SHIFT, 1e6
    ] == slots(marks)  # fmt: skip
