"""Kept steps, intervals and events as spans, as a backend receives them."""

from export_setup import MS, SECOND, LogBuilder, attributes, named, recorded, run_of, sent

from otel_train.runlog.layout import CHILD_SPANS, EVALUATION, FAILED, MERGED

MINUTE = 60 * SECOND
ALL = {"keep_every": 1}


def error(step, at_ns, phase=None, kind="ValueError"):
    told = {"error.type": kind, **({"dl.phase": phase} if phase else {})}
    failure = {"type": kind, "message": "no"}
    return {"kind": "error", "start_ns": at_ns, "step": step, "error": failure, "attributes": told}


def linked(span):
    return [(link.trace_id, link.span_id) for link in span.links]


def own(span):
    return span.trace_id, span.span_id


def test_a_step_has_its_phases_as_children(tmp_path):
    """A kept step is a root span with what was recorded of it, and each phase is a child, at its own time."""
    builder = LogBuilder(tmp_path, settings=ALL, monotonic_ns=5 * SECOND)
    builder.step(7, 10 * MS, [("data_wait", 0, MS), ("forward", 2 * MS, 3 * MS)], samples=32, tokens=4096, epoch=2)
    with sent(builder.log) as receiver:
        (step,) = named(receiver.spans, "dl.step")
        (forward,) = named(receiver.spans, "dl.forward")
    start = 1_735_689_600 * SECOND
    assert (start, start + 10 * MS) == (step.start_time_unix_nano, step.end_time_unix_nano)
    assert b"" == step.parent_span_id
    assert (step.trace_id, step.span_id) == (forward.trace_id, forward.parent_span_id)
    assert (start + 2 * MS, start + 5 * MS) == (forward.start_time_unix_nano, forward.end_time_unix_nano)
    assert {
        "dl.iteration": 7,
        "dl.mode": "training",
        "dl.step.kept": "sampled",
        "dl.epoch": 2,
        "dl.batch_size": 32,
        "dl.token.count": 4096,
    } == attributes(step)
    assert {"dl.phase": "forward"} == attributes(forward)


def test_nested_phases_nest(tmp_path):
    """A phase one level deeper is the child of the phase that began last before it."""
    builder = LogBuilder(tmp_path, settings=ALL)
    inner = [("attention", MS, MS, 1), ("attention", 4 * MS, MS, 1), ("softmax", 4 * MS + 1000, 1000, 2)]
    builder.step(0, 10 * MS, [("first", 0, 3 * MS), ("second", 3 * MS, 3 * MS), *inner])
    with sent(builder.log) as receiver:
        spans = {span.span_id: span for span in receiver.spans}
        parents = sorted((span.name, spans[span.parent_span_id].name) for span in spans.values() if span.parent_span_id)
    assert [
        ("dl.attention", "dl.first"),
        ("dl.attention", "dl.second"),
        ("dl.first", "dl.step"),
        ("dl.second", "dl.step"),
        ("dl.softmax", "dl.attention"),
    ] == parents


def test_merged_phases_say_how_many_they_are(tmp_path):
    """A slot for several occurrences is one span with their number and the sum of their times."""
    builder = LogBuilder(tmp_path, settings=ALL)
    builder.step(0, 10 * MS, [("micro", MS, 8 * MS, 0, 40)], flags=MERGED)
    with sent(builder.log) as receiver:
        (span,) = named(receiver.spans, "dl.micro")
    assert {"dl.phase": "micro", "dl.phase.count": 40, "dl.phase.time": 0.008} == attributes(span)


def test_a_step_has_one_trace_on_all_ranks(tmp_path):
    """Ranks put their spans of a step into the same trace, each under its own span; steps and runs differ."""
    traces = {}
    for run, rank in (("a", 0), ("a", 1), ("b", 0)):
        builder = LogBuilder(tmp_path, run, rank, settings=ALL, unix_ns=rank + 1)
        builder.step(1200, 10 * MS, epoch=1)
        builder.step(1201, 10 * MS, epoch=1)
        builder.step(1200, 10 * MS, epoch=2)
        builder.step(1200, 10 * MS, epoch=1, flags=EVALUATION)
        with sent(builder.log) as receiver:
            traces[run, rank] = [own(span) for span in named(receiver.spans, "dl.step")]
    assert [trace for trace, _ in traces["a", 0]] == [trace for trace, _ in traces["a", 1]]
    everything = [one for each in traces.values() for one in each]
    assert 12 == len(set(everything)) == len({span for _, span in everything})
    assert 8 == len({trace for trace, _ in everything})


def test_a_failed_step_says_why(tmp_path):
    """The step and the phase that the exception left have status ERROR and the exception's type; others do not."""
    builder = LogBuilder(tmp_path)
    run_of(builder, 2)
    builder.event(**error(2, builder.end_ns + 9 * MS, "backward"))
    builder.event(**error(2, builder.end_ns + 10 * MS))
    run_of(builder, 1, flags=FAILED)
    with sent(builder.log) as receiver:
        failed = {span.name: span for span in receiver.spans if span.status.code == 2}
    assert {"dl.step", "dl.backward"} == set(failed)
    assert "failed" == attributes(failed["dl.step"])["dl.step.kept"]
    assert ["ValueError"] * 2 == [attributes(span)["error.type"] for span in failed.values()]
    assert "no" == failed["dl.step"].status.message


def test_a_phase_may_fail_in_a_step_that_goes_on(tmp_path):
    """An exception caught inside the step marks its phase only."""
    builder = LogBuilder(tmp_path, settings=ALL)
    builder.event(**error(0, 5 * MS, "forward"))
    run_of(builder, 1)
    with sent(builder.log) as receiver:
        assert ["dl.forward"] == [span.name for span in receiver.spans if span.status.code == 2]


def test_a_failure_whose_event_is_gone(tmp_path):
    """A failed step without its error event is an error of unknown type, by the conventions' word for it."""
    builder = run_of(LogBuilder(tmp_path), 1, flags=FAILED)
    with sent(builder.log) as receiver:
        (step,) = named(receiver.spans, "dl.step")
    assert (2, "_OTHER") == (step.status.code, attributes(step)["error.type"])


def test_an_error_is_found_by_the_next_process(tmp_path):
    """The event was read by an export that ended before the step's record: the next one still knows the type."""
    builder = run_of(LogBuilder(tmp_path), 1)
    builder.event(**error(1, builder.end_ns + 10 * MS))
    with sent(builder.log):
        pass
    run_of(builder, 1, flags=FAILED)
    with sent(builder.log) as receiver:
        (step,) = named(receiver.spans, "dl.step")
    assert "ValueError" == attributes(step)["error.type"]


def test_steps_with_spans_of_the_application_are_kept(tmp_path):
    """Spans that the application made inside a step have their parent."""
    builder = run_of(LogBuilder(tmp_path), 1)
    run_of(builder, 1, flags=CHILD_SPANS)
    with sent(builder.log) as receiver:
        reasons = [attributes(step)["dl.step.kept"] for step in named(receiver.spans, "dl.step")]
    assert ["sampled", "child_spans"] == reasons


def test_evaluation_steps_say_so(tmp_path):
    """A kept step of an evaluation is told apart by its mode."""
    builder = run_of(LogBuilder(tmp_path, settings=ALL), 1, flags=EVALUATION)
    with sent(builder.log) as receiver:
        (step,) = named(receiver.spans, "dl.step")
    assert "evaluation" == attributes(step)["dl.mode"]


def test_the_start_up_is_a_trace_of_its_own(tmp_path):
    """From the process's start to the first step, with what was timed before it."""
    unix_ns = 1_735_689_600 * SECOND
    builder = LogBuilder(tmp_path, process={"started_unix_ns": unix_ns - 3 * SECOND})
    builder.event("timed", SECOND, SECOND, attributes={"code.function.name": "load_corpus"})
    run_of(builder, 1, start_ns=5 * SECOND)
    with sent(builder.log) as receiver:
        (startup,) = named(receiver.spans, "dl.startup")
        (timed,) = named(receiver.spans, "load_corpus")
    assert (unix_ns - 3 * SECOND, unix_ns + 5 * SECOND) == (startup.start_time_unix_nano, startup.end_time_unix_nano)
    assert own(startup) == (timed.trace_id, timed.parent_span_id)
    assert [] == linked(startup)


def test_intervals_end_at_checkpoints_and_epochs(tmp_path):
    """Each interval ends with the event that ends it, is linked to the one before, and counts its steps."""
    builder = run_of(LogBuilder(tmp_path), 10, 100 * MS)
    builder.event("checkpoint", builder.end_ns, SECOND, attributes={"dl.checkpoint.kind": "save"})
    run_of(builder, 1, 100 * MS, start_ns=builder.end_ns + SECOND)
    builder.event("checkpoint", builder.end_ns, SECOND, attributes={"dl.checkpoint.kind": "load"})
    run_of(builder, 3, 100 * MS)
    builder.event("epoch", 0, builder.end_ns, attributes={"dl.epoch": 0})
    builder.save_identity(end={"unix_ns": 0, "monotonic_ns": builder.end_ns + SECOND})
    with sent(builder.log) as receiver:
        intervals = [*named(receiver.spans, "dl.startup"), *named(receiver.spans, "dl.interval")]
        (epoch,) = named(receiver.spans, "dl.epoch")
        checkpoints = named(receiver.spans, "dl.checkpoint")
    assert [0, 1, 2] == [attributes(span)["dl.interval.index"] for span in intervals]
    assert [10, 4] == [attributes(span)["dl.step.count"] for span in intervals[1:]]
    assert [[own(intervals[0])], [own(intervals[1])]] == [linked(span) for span in intervals[1:]]
    assert own(intervals[2]) == (epoch.trace_id, epoch.parent_span_id)
    assert [own(intervals[1]), own(intervals[2])] == [(span.trace_id, span.parent_span_id) for span in checkpoints]


def test_intervals_last_ten_minutes_at_most(tmp_path):
    """Without a checkpoint an interval ends after ten minutes; a gap in the run makes no empty ones."""
    builder = run_of(LogBuilder(tmp_path), 25, MINUTE)
    run_of(builder, 1, MINUTE, start_ns=builder.end_ns + 500 * MINUTE)
    with sent(builder.log) as receiver:
        intervals = named(receiver.spans, "dl.interval")
        lasted = [span.end_time_unix_nano - span.start_time_unix_nano for span in intervals]
    assert [10 * MINUTE, 10 * MINUTE, 10 * MINUTE, 10 * MINUTE] == lasted
    assert [1, 2, 3, 4] == [attributes(span)["dl.interval.index"] for span in intervals]


def test_a_step_is_linked_to_its_interval(tmp_path):
    """The link of a kept step leads to the root span of the interval in which it ended."""
    builder = run_of(LogBuilder(tmp_path, settings=ALL), 2, MINUTE)
    builder.event("epoch", 0, builder.end_ns)
    run_of(builder, 1, MINUTE)
    with sent(builder.log) as receiver:
        first, second = (own(span) for span in named(receiver.spans, "dl.interval"))
        assert [[first], [first], [second]] == [linked(span) for span in named(receiver.spans, "dl.step")]


def test_any_event_with_a_duration_is_a_span(tmp_path):
    """A kind nobody has heard of is a span with its attributes, thread, step and error."""
    builder = run_of(LogBuilder(tmp_path), 1)
    failure = {"type": "OSError", "message": "full"}
    builder.event("novel", 3 * MS, MS, step=4, thread="writer", error=failure, attributes={"a": [1, 2], "b": {"c": 1}})
    builder.event("phase", 4 * MS, MS, attributes={"dl.phase": "upload"})
    with sent(builder.log) as receiver:
        (novel,) = named(receiver.spans, "dl.novel")
        assert 1 == len(named(receiver.spans, "dl.upload"))
    assert {
        "a": [1, 2],
        "b": "{'c': 1}",
        "dl.iteration": 4,
        "thread.name": "writer",
        "error.type": "OSError",
    } == attributes(novel)
    assert (2, "full") == (novel.status.code, novel.status.message)


def test_ids_are_unique(tmp_path):
    """No two spans of a long run share an id."""
    builder = LogBuilder(tmp_path, settings=ALL)
    for _ in range(30):
        run_of(builder, 20, SECOND)
        builder.event("checkpoint", builder.end_ns, SECOND)
    spans = recorded(builder.log).traces.items
    assert 30 * (20 * 4 + 1) + 31 == len(spans) == len({span.ids[1] for span in spans})


def test_slow_steps_that_the_limit_left_out_are_counted(tmp_path):
    """The interval says how many slow steps did not become traces."""
    builder = run_of(LogBuilder(tmp_path, settings={"keep_every": 10**9}), 100, 10 * MS)
    for _ in range(5):
        run_of(builder, 10, 10 * MS)
        run_of(builder, 1, 50 * MS)
    with sent(builder.log) as receiver:
        (interval,) = named(receiver.spans, "dl.interval")
        slow = [span for span in named(receiver.spans, "dl.step") if attributes(span)["dl.step.kept"] == "slow"]
    assert (1, 4) == (len(slow), attributes(interval)["otel_train.slow_steps.suppressed"])


def test_what_has_no_duration_is_an_event_of_its_interval(tmp_path):
    """A loss that is no number, an alert, memory that ran out: in the interval in which it happened, with its step."""
    builder = LogBuilder(tmp_path, settings={"keep_every": 1000})
    builder.step(0, SECOND)
    builder.event("nonfinite", SECOND, step=0, attributes={"dl.scalar.name": "loss"})
    builder.event("checkpoint", SECOND, SECOND)
    builder.step(1, SECOND, start_ns=2 * SECOND)
    builder.event("out_of_memory", 3 * SECOND, step=1)
    builder.event("alert", 3 * SECOND, attributes={"otel_train.alert.rule": "oom"})
    with sent(builder.log) as receiver:
        intervals = named(receiver.spans, "dl.interval")
        told = [[event.name for event in span.events] for span in intervals]
        first = intervals[0].events[0]
    assert [["dl.nonfinite"], ["dl.out_of_memory", "otel_train.alert"]] == told
    assert {"dl.scalar.name": "loss", "dl.iteration": 0} == {
        each.key: each.value.string_value or each.value.int_value for each in first.attributes
    }
