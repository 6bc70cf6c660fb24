"""What checkpoints and their stages come to: totals, verdict, metrics, intervals, spans, the report."""

import io

from export_setup import MS, SECOND, LogBuilder, attributes, named, run_of, sent
from rich.console import Console

from otel_train.derive.intervals import is_boundary
from otel_train.derive.summary import summarize_run
from otel_train.report.terminal import print_report
from otel_train.runlog.events import Event
from otel_train.runlog.runs import Run

DISK_FULL = {"type": "OSError", "message": "disk full"}


def told(**named_so):
    """Attributes of a checkpoint."""
    return {"dl.checkpoint.kind": "save", **{f"dl.checkpoint.{name}": value for name, value in named_so.items()}}


def asynchronous(directory, rank=0):
    """Steps with an asynchronous save beside them: staged in 0.2 s, written in 4 s."""
    builder = run_of(LogBuilder(directory, rank=rank), 10, 100 * MS)
    begin = builder.end_ns
    builder.event("checkpoint.stage", begin, 150 * MS, step=9, attributes=told(stage="stage_state_dict"))
    builder.event("checkpoint", begin, 200 * MS, step=9, attributes=told(mode="staging", path="/c/9"))
    builder.end_ns = begin + 200 * MS
    run_of(builder, 50, 100 * MS)
    builder.event("checkpoint.stage", begin + SECOND, 3 * SECOND, thread="w", attributes=told(stage="write_data"))
    written = told(mode="background", path="/c/9", size=400)
    builder.event("checkpoint", begin + 200 * MS, 4 * SECOND, step=9, thread="w", attributes=written)
    return builder


def summary_of(builder):
    """The summary of its run."""
    return summarize_run(Run(builder.path.parent)).merged


def test_an_asynchronous_save_counts_once(tmp_path):
    """Its time is that of both parts; what the training waited for is blocking, and the writing has the rate."""
    total = summary_of(asynchronous(tmp_path)).checkpoints["save"]
    assert (1, 0, 4.2, 0.2, 400, 100.0, "/c/9") == (
        total.count, total.failed, round(total.time_s, 6), total.blocking_s, total.size_bytes, total.rate,
        total.last_path,
    )  # fmt: skip
    assert {"stage_state_dict": (1, 0.15), "write_data": (1, 3.0)} == {
        name: (stage.count, stage.time_s) for name, stage in total.stages.items()
    }


def test_a_save_that_fails_before_it_is_written_counts(tmp_path):
    """Nothing will be written: the part that the training waited for is the failed checkpoint."""
    builder = run_of(LogBuilder(tmp_path), 1)
    builder.event("checkpoint", builder.end_ns, SECOND, attributes=told(mode="staging", path="/c/9"), error=DISK_FULL)
    total = summary_of(builder).checkpoints["save"]
    assert (1, 1, 1.0, "/c/9") == (total.count, total.failed, total.blocking_s, total.last_path)


def test_stages_block_nothing_of_their_own(tmp_path):
    """The time between steps is the checkpoint's once, whatever is known of its stages."""
    builder = run_of(LogBuilder(tmp_path), 10, 100 * MS)
    begin = builder.end_ns
    builder.event("checkpoint.stage", begin, SECOND, attributes=told(stage="torch.save"))
    builder.event("checkpoint", begin, 2 * SECOND, attributes=told())
    builder.end_ns = begin + 2 * SECOND
    run_of(builder, 10, 100 * MS)
    assert 2.0 == summary_of(builder).checkpoints["save"].blocking_s
    assert 0.5 == round(summary_of(builder).verdict.shares["checkpoint"], 3)


def test_ranks_add_their_stages(tmp_path):
    """Each rank's own stay as they are."""
    for rank in range(3):
        builder = asynchronous(tmp_path, rank)
    run = summarize_run(Run(builder.path.parent))
    assert (3, 9.0) == (
        run.merged.checkpoints["save"].stages["write_data"].count,
        run.merged.checkpoints["save"].stages["write_data"].time_s,
    )
    assert [1, 1, 1] == [rank.checkpoints["save"].stages["write_data"].count for rank in run.ranks]


def test_metrics_have_mode_and_stage(tmp_path):
    """What blocked and what was written beside are series of their own; the size is the checkpoint's, not a stage's."""
    builder = asynchronous(tmp_path)
    sized = told(stage="torch.save", size=7)
    builder.event("checkpoint.stage", builder.end_ns, SECOND, attributes=sized)
    builder.event("health", builder.end_ns, attributes={"otel_train.checkpoints.left_out": 12})
    with sent(builder.log) as receiver:
        durations = {
            attributes(point)["dl.checkpoint.mode"]: point.sum for point in receiver.points("dl.checkpoint.duration")
        }
        stages = {
            attributes(point)["dl.checkpoint.stage"]: point.sum
            for point in receiver.points("dl.checkpoint.stage.duration")
        }
        assert {400} == {point.as_int for point in receiver.points("dl.checkpoint.size")}
        assert 12 == receiver.points("otel_train.checkpoints.left_out")[-1].as_int
    assert {"staging": 0.2, "background": 4.0} == durations
    assert {"stage_state_dict": 0.15, "write_data": 3.0, "torch.save": 1.0} == stages


def test_spans_are_named_after_the_stage(tmp_path):
    """In the trace of the interval, with the checkpoint; the writing names its thread."""
    with sent(asynchronous(tmp_path).log) as receiver:
        staged, written = named(receiver.spans, "dl.checkpoint")
        (stage,) = named(receiver.spans, "dl.checkpoint.write_data")
    assert (staged.trace_id, staged.trace_id) == (written.trace_id, stage.trace_id)
    assert "w" == attributes(written)["thread.name"] == attributes(stage)["thread.name"]


def test_an_interval_ends_with_the_writing():
    """Not with the part that the training waited for, nor with a stage."""
    assert is_boundary(Event("checkpoint", 0, 1, attributes=told(mode="background")))
    assert is_boundary(Event("checkpoint", 0, 1, attributes=told(mode="staging"), error=DISK_FULL))
    assert not is_boundary(Event("checkpoint", 0, 1, attributes=told(mode="staging")))
    assert not is_boundary(Event("checkpoint.stage", 0, 1, attributes=told(stage="write_data")))


def test_the_report_shows_what_was_beside_the_training_and_the_stages(tmp_path):
    """In the rows below the checkpoints."""
    builder = asynchronous(tmp_path)
    builder.event("health", builder.end_ns, attributes={"otel_train.checkpoints.left_out": 1200})
    file = io.StringIO()
    print_report(summarize_run(Run(builder.path.parent)), Console(file=file, width=100), False)
    shown = file.getvalue()
    lines = [line.split() for line in shown.splitlines()]
    (row,) = [line for line in lines if line[:2] == ["checkpoint", "save"]]
    assert "1 4.20 s 400 B, 100 B/s, 4.00 s beside the training, 9" == " ".join(row[2:])
    at = lines.index(row)
    file = io.StringIO()
    print_report(summarize_run(Run(builder.path.parent)), Console(file=file, width=60), False)
    assert ["checkpoint", "save", "1", "4.20", "s"] in [line.split()[:5] for line in file.getvalue().splitlines()]
    assert [["write_data", "1", "3.00", "s"], ["stage_state_dict", "1", "150", "ms"]] == lines[at + 1 : at + 3]
    assert "1,200 calls of torch.save, torch.load and the like were small or read data: no checkpoints." in shown
