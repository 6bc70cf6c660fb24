"""Checkpoints of safetensors, Hugging Face's Trainer, Lightning and Fabric, under zero code."""

import importlib
import os
import time
from pathlib import Path

import pytest
import torch
from checkpoint_hooks import about, checkpoints, hooked, left_out, stage_names, stages

pytestmark = pytest.mark.filterwarnings("ignore")


def folder_size(folder):
    """Bytes of its files."""
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


class Batches(torch.utils.data.Dataset):
    """Eight small samples."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {"x": torch.full((4,), float(index))}


class Model(torch.nn.Module):
    """A linear model that returns its loss, as Hugging Face's do."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, x):
        return {"loss": self.layer(x).square().mean()}


# -- safetensors -------------------------------------------------------------------------------------------------------


def test_safetensors_files(tmp_path, monkeypatch):
    """A file saved and loaded is a checkpoint each, with path and size; a model goes through the same."""
    import safetensors.torch

    monkeypatch.setattr("otel_train.hooks.file_checkpoint.SHORT_NS", 60_000_000_000)
    path = tmp_path / "model.safetensors"
    with hooked() as run:
        safetensors.torch.save_file({"weights": about(2)}, path)
        assert torch.equal(about(2), safetensors.torch.load_file(path)["weights"])
        safetensors.torch.save_model(Model(), str(tmp_path / "tiny.safetensors"))
        safetensors.torch.load_model(Model(), tmp_path / "tiny.safetensors")
    assert [
        ("save", str(path), path.stat().st_size, "safetensors.save_file"),
        ("load", str(path), path.stat().st_size, "safetensors.load_file"),
        ("save", str(tmp_path / "tiny.safetensors"), (tmp_path / "tiny.safetensors").stat().st_size,
         "safetensors.save_file"),
    ] == [
        tuple(
            event.attributes[name]
            for name in ("dl.checkpoint.kind", "dl.checkpoint.path", "dl.checkpoint.size", "code.function.name")
        )
        for event in checkpoints(run)
    ]  # fmt: skip
    assert 1 == left_out(run)


def test_safetensors_that_fail(tmp_path):
    """What has no file to go to is a failed checkpoint, and raises what it always did."""
    import safetensors
    import safetensors.torch

    before = (safetensors.torch.save_file, safetensors.torch.load_file)
    with hooked() as run, pytest.raises((OSError, safetensors.SafetensorError)):
        safetensors.torch.save_file({"weights": about(2)}, tmp_path / "nowhere" / "model.safetensors")
    assert [True] == [event.error is not None for event in checkpoints(run)]
    assert before == (safetensors.torch.save_file, safetensors.torch.load_file)


# -- Hugging Face ------------------------------------------------------------------------------------------------------


def test_the_trainers_checkpoint_is_one(tmp_path):
    """One checkpoint for each folder, between the steps; what is written into it are its stages."""
    from transformers import Trainer, TrainingArguments

    before = Trainer.__dict__["_save_checkpoint"]
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=4, save_steps=2, per_device_train_batch_size=2, report_to=[],
        disable_tqdm=True, remove_unused_columns=False, use_cpu=True, save_strategy="steps",
    )  # fmt: skip
    with hooked() as run:
        Trainer(Model(), arguments, train_dataset=Batches()).train()
    events = checkpoints(run)
    assert [str(tmp_path / "checkpoint-2"), str(tmp_path / "checkpoint-4")] == [
        event.attributes["dl.checkpoint.path"] for event in events
    ]
    assert [folder_size(tmp_path / "checkpoint-2"), folder_size(tmp_path / "checkpoint-4")] == [
        event.attributes["dl.checkpoint.size"] for event in events
    ]
    assert ["transformers.Trainer"] * 2 == [event.attributes["code.function.name"] for event in events]
    assert [1, 3] == [event.step for event in events]
    assert [0, 1, 2, 3] == [step.step for step in run.steps]
    names = {Path(stage.attributes["dl.checkpoint.path"]).name for stage in stages(run)}
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"} <= names
    assert {"torch.save", "safetensors.save_file", "transformers.save_model"} == set(stage_names(run))
    assert before is Trainer.__dict__["_save_checkpoint"]


def test_a_trainers_checkpoint_that_fails(tmp_path):
    """The error is the checkpoint's and goes on up."""
    from transformers import Trainer, TrainingArguments

    class Failing(Trainer):
        def _save_optimizer_and_scheduler(self, output_dir):
            raise OSError(28, "disk full")

    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=2, save_steps=1, per_device_train_batch_size=2, report_to=[],
        disable_tqdm=True, remove_unused_columns=False, use_cpu=True, save_strategy="steps",
    )  # fmt: skip
    with hooked() as run, pytest.raises(OSError, match="disk full"):
        Failing(Model(), arguments, train_dataset=Batches()).train()
    assert [("OSError", str(tmp_path / "checkpoint-1"))] == [
        (event.error["type"], event.attributes["dl.checkpoint.path"]) for event in checkpoints(run)
    ]


def test_a_model_saved_at_the_end_is_one(tmp_path):
    """Weights and arguments are stages; what else lies in the folder does not count."""
    from transformers import Trainer, TrainingArguments

    (tmp_path / "other").write_bytes(bytes(1000))
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True)
    with hooked() as run:
        Trainer(Model(), arguments).save_model()
    (event,) = checkpoints(run)
    assert (str(tmp_path), folder_size(tmp_path) - 1000) == (
        event.attributes["dl.checkpoint.path"], event.attributes["dl.checkpoint.size"]
    )  # fmt: skip


def test_a_pretrained_model_in_several_files_is_one_checkpoint(tmp_path):
    """The size is that of all its files of weights."""
    from transformers import BertConfig, BertModel, modeling_utils

    before = modeling_utils.safe_save_file
    model = BertModel(BertConfig(hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2))
    with hooked() as run:
        model.save_pretrained(tmp_path, max_shard_size="4MB")
    files = list(tmp_path.glob("*.safetensors"))
    assert 1 < len(files) == stage_names(run).count("safetensors.save_file")
    assert [sum(file.stat().st_size for file in files)] == [
        event.attributes["dl.checkpoint.size"] for event in checkpoints(run)
    ]
    assert before is modeling_utils.safe_save_file


@pytest.mark.parametrize("named_by_it", [False, True])
def test_accelerates_state_is_one(tmp_path, named_by_it):
    """Model, optimizer and random states are stages of one checkpoint, saved and loaded."""
    from accelerate import Accelerator
    from accelerate.utils import ProjectConfiguration

    accelerator = Accelerator(
        cpu=True,
        project_config=ProjectConfiguration(project_dir=str(tmp_path), automatic_checkpoint_naming=named_by_it),
    )
    model = Model()
    accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
    with hooked() as run:
        accelerator.save_state(None if named_by_it else str(tmp_path / "state"))
        folder = tmp_path / ("checkpoints/checkpoint_0" if named_by_it else "state")
        accelerator.load_state(str(folder))
    assert [("save", str(folder), folder_size(folder)), ("load", str(folder), folder_size(folder))] == [
        tuple(event.attributes[f"dl.checkpoint.{name}"] for name in ("kind", "path", "size"))
        for event in checkpoints(run)
    ]
    assert {"torch.save", "safetensors.save_file"} <= set(stage_names(run))


# -- Lightning ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning"])
def lightning(request):
    """Lightning, under either name."""
    return importlib.import_module(request.param)


def module_of(lightning):
    """A module to fit."""

    class Fitted(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch, index):
            return self.layer(batch["x"]).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Fitted()


def trainer_of(lightning, folder, **settings):
    """A quiet trainer that saves at the end of each epoch."""
    callback = lightning.callbacks.ModelCheckpoint(folder, save_top_k=-1, every_n_epochs=1)
    return lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, callbacks=[callback], enable_progress_bar=False,
        enable_model_summary=False, **settings,
    )  # fmt: skip


def test_lightnings_checkpoint_is_one(lightning, tmp_path):
    """Serialising and writing are one checkpoint of the file's size; each of both is a stage."""
    before = lightning.Trainer.__dict__["save_checkpoint"]
    with hooked() as run:
        module = module_of(lightning)
        trainer_of(lightning, tmp_path).fit(module, torch.utils.data.DataLoader(Batches(), batch_size=4))
    events = checkpoints(run)
    assert {str(path) for path in tmp_path.iterdir()} == {event.attributes["dl.checkpoint.path"] for event in events}
    assert 2 == len(events)
    assert ["lightning.Trainer"] * 2 == [event.attributes["code.function.name"] for event in events]
    assert [os.stat(event.attributes["dl.checkpoint.path"]).st_size for event in events] == [
        event.attributes["dl.checkpoint.size"] for event in events
    ]
    assert "lightning.write" in stage_names(run)
    assert [0, 1, 2, 3] == [step.step for step in run.steps]
    assert before is lightning.Trainer.__dict__["save_checkpoint"]


def test_lightning_that_writes_beside_the_training(lightning, tmp_path):
    """What the training waited for is staging; the file is the writing thread's, and has the size."""
    io = lightning.plugins.io

    class SlowIO(io.TorchCheckpointIO):
        def save_checkpoint(self, checkpoint, path, storage_options=None):
            checkpoint = {**checkpoint, "slow": SlowState()}
            super().save_checkpoint(checkpoint, path, storage_options)

    with hooked() as run:
        trainer = trainer_of(lightning, tmp_path, plugins=[io.AsyncCheckpointIO(SlowIO())])
        trainer.fit(module_of(lightning), torch.utils.data.DataLoader(Batches(), batch_size=4))
    staged = [event for event in checkpoints(run) if event.thread is None]
    written = [event for event in checkpoints(run) if event.thread is not None]
    assert ["staging", "staging"] == [event.attributes["dl.checkpoint.mode"] for event in staged]
    assert ["background", "background"] == [event.attributes["dl.checkpoint.mode"] for event in written]
    assert all(event.duration_ns >= 200_000_000 for event in written)
    assert [os.stat(event.attributes["dl.checkpoint.path"]).st_size for event in written] == [
        event.attributes["dl.checkpoint.size"] for event in written
    ]
    assert not any("dl.checkpoint.size" in event.attributes for event in staged)


class SlowState:
    """Takes a fifth of a second to pickle."""

    def __reduce__(self):
        time.sleep(0.2)
        return (int, ())


def test_a_lightning_checkpoint_that_fails(lightning, tmp_path):
    """The error is the checkpoint's and goes on up."""
    module = module_of(lightning)
    trainer = trainer_of(lightning, tmp_path / "a")
    with hooked() as run:
        trainer.fit(module, torch.utils.data.DataLoader(Batches(), batch_size=4))
        before = len(checkpoints(run))
        (tmp_path / "file").write_text("no folder")
        with pytest.raises(OSError):  # noqa: PT011
            trainer.save_checkpoint(tmp_path / "file" / "model.ckpt")
    (failed,) = checkpoints(run)[before:]
    assert ("lightning.Trainer", True) == (failed.attributes["code.function.name"], failed.error is not None)


def test_fabric_saves_and_loads(tmp_path):
    """Fabric's own save and load are a checkpoint each, with torch.save a stage of it."""
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    state = {"weights": about(2)}
    with hooked() as run:
        fabric.save(tmp_path / "model.ckpt", state)
        fabric.load(tmp_path / "model.ckpt", state)
    size = (tmp_path / "model.ckpt").stat().st_size
    assert [("save", "lightning.write", size), ("load", "lightning.read", size)] == [
        tuple(event.attributes[name] for name in ("dl.checkpoint.kind", "code.function.name", "dl.checkpoint.size"))
        for event in checkpoints(run)
    ]
    assert ["torch.save", "torch.load"] == stage_names(run)
