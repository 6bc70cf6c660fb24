"""``torch.distributed.checkpoint`` under zero code: saves and loads with their stages, waiting and writing apart."""

import os
import threading
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from checkpoint_hooks import about, checkpoints, hooked, stage_names, stages
from torch.distributed.checkpoint.logger import _dcp_logger

import otel_train

SAVE_STAGES = ["local_step", "global_step", "write_data", "finish_checkpoint"]


def folder_size(folder):
    """Bytes of its files."""
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


class SlowWriter(dcp.FileSystemWriter):
    """Takes so long to write, at least; or fails to."""

    def __init__(self, path, seconds=0.0, error=None):
        super().__init__(path)
        self.seconds = seconds
        self.error = error

    def write_data(self, plan, planner):
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return super().write_data(plan, planner)


class SlowStager(dcp.staging.DefaultStager):
    """Takes so long to copy aside, at least; or fails to."""

    def __init__(self, seconds=0.0, error=None):
        super().__init__(dcp.staging.StagingOptions(False, False, False, False))
        self.seconds = seconds
        self.error = error

    def stage(self, state_dict, **kwargs):
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return super().stage(state_dict, **kwargs)


@pytest.fixture
def group(tmp_path):
    """A gloo group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def state():
    """What is saved: tensors, and something that torch.save is asked for."""
    return {"weights": about(2), "epoch": 3}


@pytest.mark.parametrize("in_group", [False, True], ids=["no_dist", "group"])
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_save_and_a_load(tmp_path, request, in_group):
    """One checkpoint each, with the folder's size, and torch's own stages inside it."""
    if in_group:
        request.getfixturevalue("group")
    folder = tmp_path / "checkpoint"
    with hooked() as run:
        dcp.save(state(), checkpoint_id=folder, no_dist=not in_group)
        assert [*SAVE_STAGES] == [name for name in stage_names(run) if name in SAVE_STAGES]
        loaded = {"weights": torch.zeros_like(about(2)), "epoch": 0}
        dcp.load(loaded, checkpoint_id=folder, no_dist=not in_group)
    assert torch.equal(about(2), loaded["weights"])
    saved, read = checkpoints(run)
    size = folder_size(folder)
    assert {
        "dl.checkpoint.kind": "save",
        "dl.checkpoint.path": str(folder),
        "dl.checkpoint.size": size,
        "dl.checkpoint.rate": size / (saved.duration_ns / 1e9),
        "code.function.name": "dcp.save",
    } == saved.attributes
    assert ("load", "dcp.load", size) == tuple(
        read.attributes[name] for name in ("dl.checkpoint.kind", "code.function.name", "dl.checkpoint.size")
    )
    assert ["local_step", "global_step", "read_data"] == stage_names(run)[-3:]
    for stage in stages(run):
        outer = read if stage.attributes["dl.checkpoint.kind"] == "load" else saved
        assert outer.start_ns <= stage.start_ns <= stage.end_ns <= outer.end_ns


def test_a_writer_that_has_the_path(tmp_path, group):
    """A checkpoint's path is known also where only its writer has it, and where that is given by position."""
    with hooked() as run:
        dcp.save(state(), storage_writer=dcp.FileSystemWriter(tmp_path / "one"))
        dcp.save(state(), dcp.FileSystemWriter(tmp_path / "two"))
    assert [str(tmp_path / "one"), str(tmp_path / "two")] == [
        event.attributes["dl.checkpoint.path"] for event in checkpoints(run)
    ]


def test_what_torch_saves_for_it_is_no_checkpoint(tmp_path, group):
    """Many objects, written by several threads: each goes through torch.save, none is told of."""
    objects = {f"object {index}": ["x" * 1000, index] for index in range(50)}
    with hooked() as run:
        dcp.save({**state(), **objects}, storage_writer=dcp.FileSystemWriter(tmp_path / "c", thread_count=3))
    assert ["dcp.save"] == [event.attributes["code.function.name"] for event in checkpoints(run)]
    assert not {"torch.save"} & set(stage_names(run))
    assert len(stages(run)) < 10


def test_waiting_and_writing_of_an_asynchronous_save_are_apart(tmp_path, group):
    """What the training waited for is staging; the writing names its thread, and has the size."""
    with hooked() as run:
        with otel_train.trace_step():
            pass
        future = dcp.async_save(
            state(), storage_writer=SlowWriter(tmp_path / "c", seconds=0.5), async_stager=SlowStager(seconds=0.2)
        )
        future.result()
    staged, written = checkpoints(run)
    assert (None, "staging", "dcp.async_save") == (
        staged.thread, staged.attributes["dl.checkpoint.mode"], staged.attributes["code.function.name"]
    )  # fmt: skip
    assert 0.2 <= staged.duration_ns / 1e9
    assert staged.end_ns < written.end_ns
    assert "dl.checkpoint.size" not in staged.attributes
    assert written.thread.startswith("AsyncCheckpointExecutor")
    assert 0.5 <= written.duration_ns / 1e9
    assert ("background", folder_size(tmp_path / "c"), str(tmp_path / "c")) == tuple(
        written.attributes[f"dl.checkpoint.{name}"] for name in ("mode", "size", "path")
    )
    threads = {stage.attributes["dl.checkpoint.stage"]: stage.thread for stage in stages(run)}
    assert None is threads["stage_state_dict"]
    assert written.thread == threads["write_data"]


def test_training_goes_on_beside_an_asynchronous_save(tmp_path, group):
    """The step ends where staging begins; those that follow do not wait for the writing."""
    model = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    held = threading.Event()

    class HeldWriter(dcp.FileSystemWriter):
        def write_data(self, plan, planner):
            assert held.wait(60)
            return super().write_data(plan, planner)

    with hooked() as run:
        for index, batch in enumerate(torch.utils.data.DataLoader(torch.randn(4, 4), batch_size=1)):
            optimizer.zero_grad()
            model(batch).sum().backward()
            optimizer.step()
            if index == 1:
                future = dcp.async_save(state(), storage_writer=HeldWriter(tmp_path / "c"))
        held.set()
        future.result()
    staged, written = checkpoints(run)
    records = [record for _, found in run.log.steps.read() for record in found]
    assert [0, 1, 2, 3] == [int(record["step"]) for record in records]
    assert int(records[1]["start_ns"]) + int(records[1]["duration_ns"]) <= staged.start_ns
    assert int(records[3]["start_ns"]) < written.end_ns


def test_a_save_that_fails(tmp_path, group):
    """The checkpoint has the error, and so has the stage that failed; the exception is torch's own."""
    with hooked() as run:
        with pytest.raises(dcp.CheckpointException):
            dcp.save(state(), storage_writer=SlowWriter(tmp_path / "c", error=OSError(28, "disk full")))
        dcp.save(state(), checkpoint_id=tmp_path / "next")
    failed, following = checkpoints(run)
    assert "disk full" in failed.error["message"]
    assert "CheckpointException" in failed.error["type"]
    assert "dl.checkpoint.size" not in failed.attributes
    assert ["write_data"] == [stage.attributes["dl.checkpoint.stage"] for stage in stages(run) if stage.error]
    assert None is following.error


def test_an_asynchronous_save_that_fails(tmp_path, group):
    """While it is staged: a failed checkpoint of the training. While it is written: one of the writing thread."""
    with hooked() as run:
        with pytest.raises(OSError, match="no memory"):
            dcp.async_save(
                state(), checkpoint_id=tmp_path / "a", async_stager=SlowStager(error=OSError(12, "no memory"))
            )
        writer = SlowWriter(tmp_path / "b", error=OSError(28, "disk full"))
        with pytest.raises(dcp.CheckpointException):
            dcp.async_save(state(), storage_writer=writer).result()
    assert [("staging", True, True), ("staging", True, False), ("background", False, True)] == [
        (event.attributes["dl.checkpoint.mode"], event.thread is None, event.error is not None)
        for event in sorted(checkpoints(run), key=lambda event: event.start_ns)
    ]


def test_inside_a_checkpoint_of_the_scripts_own(tmp_path, group):
    """It is a stage of that one, and its own stages are too; nothing counts twice."""
    with hooked() as run, otel_train.trace_checkpoint(tmp_path / "c"):
        dcp.save(state(), checkpoint_id=tmp_path / "c")
    assert [str(tmp_path / "c")] == [event.attributes["dl.checkpoint.path"] for event in checkpoints(run)]
    assert [*SAVE_STAGES, "dcp.save"] == [name for name in stage_names(run) if name in (*SAVE_STAGES, "dcp.save")]


def test_an_asynchronous_save_inside_a_checkpoint_of_the_scripts_own(tmp_path, group):
    """The script's block is what the training waited for: the writing is the checkpoint that counts."""
    with hooked() as run:
        with otel_train.trace_step():
            pass
        with otel_train.trace_checkpoint(tmp_path / "c"):
            future = dcp.async_save(state(), storage_writer=SlowWriter(tmp_path / "c", seconds=0.2))
        future.result()
    assert ["staging", "background"] == [event.attributes["dl.checkpoint.mode"] for event in checkpoints(run)]


def test_torchs_logger_is_as_it_was(tmp_path, group):
    """Hooks add one handler to it, change nothing else, and take it back."""
    before = (list(_dcp_logger.handlers), _dcp_logger.level, _dcp_logger.propagate)
    with hooked():
        assert 1 == len(_dcp_logger.handlers) - len(before[0])
    assert before == (_dcp_logger.handlers, _dcp_logger.level, _dcp_logger.propagate)
    dcp.save(state(), checkpoint_id=tmp_path / "c")


def test_without_a_run_nothing_is_heard(tmp_path, group):
    """A save before a run begins leaves nothing behind for the one in it."""
    from otel_train import instrumentation
    from otel_train.testing import record

    instrumentation.instrument()
    try:
        dcp.save(state(), checkpoint_id=tmp_path / "before")
        with record() as run:
            dcp.save(state(), checkpoint_id=tmp_path / "in")
    finally:
        instrumentation.uninstrument()
    assert [str(tmp_path / "in")] == [event.attributes["dl.checkpoint.path"] for event in checkpoints(run)]


def rank_saves(rank, folder):
    """One of two ranks: saves, loads, and says what it recorded."""
    os.environ["OTEL_TRAIN_RAISE"] = "1"
    os.environ.pop("RANK", None)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'group'}", rank=rank, world_size=2)
    with hooked() as run:
        dcp.save({"shared": about(2), f"own {rank}": about(1)}, checkpoint_id=folder / "c")
        dcp.load({"shared": about(2)}, checkpoint_id=folder / "c")
    dist.destroy_process_group()
    lines = [
        " ".join(str(event.attributes.get(f"dl.checkpoint.{name}")) for name in ("kind", "stage", "size"))
        for event in run.events
        if event.kind.startswith("checkpoint")
    ]
    (folder / f"rank {rank}").write_text("\n".join(lines))


def test_two_ranks(tmp_path):
    """Each has a checkpoint of the whole folder's size; planning is the coordinator's stage, writing everybody's."""
    mp.spawn(rank_saves, (tmp_path,), nprocs=2)
    size = folder_size(tmp_path / "c")
    told = [(tmp_path / f"rank {rank}").read_text().splitlines() for rank in range(2)]
    for lines in told:
        assert {f"save None {size}", f"load None {size}", "save write_data None", "load read_data None"} <= set(lines)
    assert [True, False] == ["save global_step None" in lines for lines in told]
    assert [True, False] == ["save finish_checkpoint None" in lines for lines in told]


def test_a_process_that_writes(tmp_path, monkeypatch):
    """A save by a process beside the training is one by the thread that waits for that process."""
    from torch.distributed.checkpoint._async_process_executor import _AsyncCheckpointProcess

    monkeypatch.setattr(_AsyncCheckpointProcess, "_send", lambda self, request: None)
    monkeypatch.setattr(_AsyncCheckpointProcess, "__del__", lambda self: None)
    metadata = dcp.Metadata({})
    monkeypatch.setattr(_AsyncCheckpointProcess, "_wait_for_response", lambda self: time.sleep(0.1) or metadata)
    process = object.__new__(_AsyncCheckpointProcess)
    with hooked() as run:
        with otel_train.trace_step():
            pass
        thread = threading.Thread(target=lambda: process.save({}, checkpoint_id=tmp_path), name="executor")
        thread.start()
        thread.join()
    (event,) = checkpoints(run)
    assert ("executor", "background", str(tmp_path)) == (
        event.thread, event.attributes["dl.checkpoint.mode"], event.attributes["dl.checkpoint.path"]
    )  # fmt: skip
    assert 0.1 <= event.duration_ns / 1e9
