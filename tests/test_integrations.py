"""What frameworks tell a run through their own callbacks: by hand, by zero code, and when things go wrong."""

import pickle
from importlib import import_module

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import otel_train
from otel_train import instrumentation
from otel_train.testing import record


@pytest.fixture(autouse=True)
def no_hooks_left():
    """A callback puts the hooks in place; they are taken back."""
    yield
    instrumentation.uninstrument()


def evaluations(run):
    """Names and batches of a run's evaluations."""
    found = [event.attributes for event in run.events if event.kind == "evaluation"]
    return [(attributes["dl.evaluation.name"], attributes.get("dl.step.count")) for attributes in found]


def values(run, name):
    """Steps and values logged under a name."""
    return [(scalar.step, scalar.value) for scalar in run.scalars if scalar.name == name]


# -- Lightning ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning"])
def lightning(request):
    """Lightning, under each of its names."""
    return pytest.importorskip(request.param)


def callback_for(lightning):
    """The callback of that package, for use by hand."""
    name = lightning.__name__.split(".")[0]
    return import_module(f"otel_train.integrations.{name}").OtelTrainCallback()


def make_module(lightning, fail_at=None):
    """A module with one layer that logs a loss, and fails at a step if told to."""

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch, batch_idx):
            if self.global_step == fail_at:
                raise RuntimeError("bad batch")
            loss = self.layer(batch[0]).square().mean()
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.layer(batch[0]).square().mean())

        def test_step(self, batch, batch_idx):
            self.log("test_loss", self.layer(batch[0]).square().mean())

        def predict_step(self, batch, batch_idx):
            return self.layer(batch[0])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Module()


def make_trainer(lightning, tmp_path, *callbacks, **settings):
    """A trainer without bars, loggers and sanity check."""
    return lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path, callbacks=list(callbacks),
        **{"num_sanity_val_steps": 0, "max_epochs": 2, **settings},
    )  # fmt: skip


def loader(count=16):
    """Batches of four."""
    return DataLoader(TensorDataset(torch.ones(count, 4)), batch_size=4)


def test_lightning_by_hand(lightning, tmp_path):
    """The callback alone, beside a run, gives steps with epochs and phases, evaluations by name, logged values."""
    with record() as run:
        trainer = make_trainer(lightning, tmp_path, callback_for(lightning), num_sanity_val_steps=2)
        module = make_module(lightning)
        trainer.fit(module, loader(), loader(8))
        (tested,) = trainer.test(module, loader(12), verbose=False)
        trainer.predict(module, loader(4))
    assert [0] * 4 + [1] * 4 == [step.epoch for step in run.steps]
    assert [4] * 8 == [step.samples for step in run.steps]
    phases = {phase.name for phase in run.steps[-1].phases} - {"zero_grad"}  # which is there where it was slow
    assert {"data_wait", "forward", "backward", "optimizer"} == phases
    assert [("sanity_check", 2), ("validation", 2), ("validation", 2), ("test", 3), ("predict", 1)] == evaluations(run)
    assert [0, 1, 2, 3, 4, 5, 6, 7] == [step for step, _ in values(run, "loss")]
    assert [3, 7] == [step for step, _ in values(run, "val_loss")]
    assert [(7, tested["test_loss"])] == values(run, "test_loss")
    assert {"loss", "train_loss", "train_loss_epoch", "val_loss", "test_loss"} == {
        scalar.name for scalar in run.scalars
    }


def test_lightning_entry_point(lightning):
    """Lightning's entry point gives a callback where hooks are in place or a run records, and else none."""
    from otel_train.integrations import lightning_events

    give = getattr(lightning_events, lightning.__name__.split(".")[0] + "_callbacks")
    assert [] == give()
    with record():
        assert [type(callback_for(lightning))] == [type(callback) for callback in give()]
    instrumentation.instrument()
    (callback,) = give()
    assert isinstance(callback, lightning.Callback)


def told(run):
    """The run's events, without those that come with any training: what loaders fetched, pauses of the collector."""
    return [event for event in run.events if event.kind not in ("data_loader", "garbage_collection")]


def test_lightning_entry_points_can_be_loaded():
    """Each package's group has one, and it gives nothing while neither hooks are in place nor a run records."""
    from importlib.metadata import entry_points

    for package in ("lightning.pytorch", "pytorch_lightning"):
        (found,) = entry_points(group=f"{package}.callbacks_factory", name="otel_train")
        assert [] == list(found.load()())


def test_two_lightning_callbacks_are_one(lightning, tmp_path):
    """Beside the callback that zero code adds, one added by hand says nothing twice."""
    with record() as run:
        trainer = make_trainer(lightning, tmp_path, callback_for(lightning), callback_for(lightning), max_epochs=1)
        trainer.fit(make_module(lightning), loader(), loader(8))
    assert ["evaluation", "epoch"] == [event.kind for event in told(run) if "checkpoint" not in event.kind]
    assert [0, 1, 2, 3] == [step for step, _ in values(run, "loss")]


def test_lightning_resumes(lightning, tmp_path):
    """A training that goes on from a checkpoint numbers its steps and epochs from there, in a run of its own."""
    with record():
        trainer = make_trainer(lightning, tmp_path, callback_for(lightning), max_epochs=1)
        trainer.fit(make_module(lightning), loader())
        trainer.save_checkpoint(tmp_path / "one.ckpt")
    with record() as run:
        trainer = make_trainer(lightning, tmp_path, callback_for(lightning), max_epochs=2)
        trainer.fit(make_module(lightning), loader(), ckpt_path=tmp_path / "one.ckpt")
    assert [(4, 1), (5, 1), (6, 1), (7, 1)] == [(step.step, step.epoch) for step in run.steps]


def test_a_second_lightning_training_goes_on_counting(lightning, tmp_path):
    """Two trainings in one run share no step number."""
    with record() as run:
        for _ in range(2):
            make_trainer(lightning, tmp_path, callback_for(lightning), max_epochs=1).fit(
                make_module(lightning), loader()
            )
    assert list(range(8)) == [step.step for step in run.steps]


def test_lightning_fails(lightning, tmp_path):
    """An exception is the step's and the epoch's, it goes on up as it is, and a next training begins afresh."""
    with record() as run:
        with pytest.raises(RuntimeError, match="bad batch"):
            make_trainer(lightning, tmp_path, callback_for(lightning)).fit(make_module(lightning, fail_at=2), loader())
        failed = len(run.steps)
        make_trainer(lightning, tmp_path, callback_for(lightning), max_epochs=1).fit(make_module(lightning), loader())
    epochs = [event for event in run.events if event.kind == "epoch"]
    assert [{"type": "RuntimeError", "message": "bad batch"}, None] == [event.error for event in epochs]
    assert not any(step.failed for step in run.steps[:2])
    assert [4] * 4 == [step.samples for step in run.steps[failed:]][-4:]


def test_validation_in_the_middle_of_an_accumulation(lightning, tmp_path):
    """A step that a validation interrupts has its own samples only."""
    with record() as run:
        trainer = make_trainer(
            lightning, tmp_path, callback_for(lightning), max_epochs=1, accumulate_grad_batches=4, val_check_interval=2
        )
        trainer.fit(make_module(lightning), loader(32), loader(24))
    assert [16, 16] == [step.samples for step in run.steps]
    assert 4 == len(evaluations(run))


def test_lightning_reads_ahead(lightning, tmp_path):
    """Where Lightning takes a batch before it begins (no length), it is the evaluation's.

    A batch read ahead in training counts where it is read: twice in the first step of a pass, none in the last."""

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(torch.ones(12, 4))

    def collate(rows):
        return [torch.stack(rows)]

    stream = DataLoader(Stream(), batch_size=4, collate_fn=collate)
    with record() as run:
        trainer = make_trainer(lightning, tmp_path, callback_for(lightning), max_epochs=2)
        trainer.fit(make_module(lightning), stream, stream)
    assert [8, 4, None] * 2 == [step.samples for step in run.steps]
    assert [("validation", 3)] * 2 == evaluations(run)
    longest = max(step.duration_s for step in run.steps if step.step)
    assert all(event.duration_ns / 1e9 > 0 for event in told(run))
    assert longest < sum(event.duration_ns for event in told(run)) / 1e9


def test_lightning_callback_travels(lightning):
    """A callback can be pickled, as launchers that spawn their ranks do."""
    assert type(callback_for(lightning)) is type(pickle.loads(pickle.dumps(callback_for(lightning))))


# -- Hugging Face's Trainer --------------------------------------------------------------------------------------------


class Ids(Dataset):
    """Eight rows of token ids."""

    def __len__(self):
        return 16

    def __getitem__(self, index):
        ids = torch.arange(6) % 10
        return {"input_ids": ids, "labels": ids}


def make_hf_trainer(tmp_path, callbacks=(), **settings):
    """A Trainer of the smallest GPT-2 there is: batches of four, four steps an epoch."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    config = transformers.GPT2Config(vocab_size=10, n_positions=8, n_embd=8, n_layer=1, n_head=1)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=4, report_to="none", disable_tqdm=True, use_cpu=True,
        logging_steps=2, **{"save_strategy": "no", "max_steps": 4, **settings},
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config)
    return transformers.Trainer(model, arguments, train_dataset=Ids(), eval_dataset=Ids(), callbacks=list(callbacks))


def hf_callback():
    """The callback, for use by hand."""
    pytest.importorskip("transformers")
    from otel_train.integrations.transformers import OtelTrainCallback

    return OtelTrainCallback()


def test_trainer_by_hand(tmp_path):
    """The callback alone, beside a run, gives steps with epochs, evaluations by name, and what is logged."""
    with record() as run:
        trainer = make_hf_trainer(tmp_path, [hf_callback()])
        trainer.train()
        trainer.evaluate()
        trainer.predict(Ids())
    assert [(number, 0) for number in range(4)] == [(step.step, step.epoch) for step in run.steps]
    assert [("validation", 2), ("test", 2)] == evaluations(run)
    assert [1, 3] == [step for step, _ in values(run, "loss")]
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged == [value for _, value in values(run, "loss")]
    assert {"grad_norm", "learning_rate", "eval_loss"} < {scalar.name for scalar in run.scalars}


def test_trainer_by_zero_code(tmp_path):
    """Each Trainer gets one callback while hooks are in place; afterwards the class is as it was."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    before = dict(vars(transformers.Trainer))
    instrumentation.instrument()
    own = type(hf_callback())
    for given in ((), (hf_callback(),)):
        trainer = make_hf_trainer(tmp_path, given)
        assert 1 == sum(isinstance(callback, own) for callback in trainer.callback_handler.callbacks)
    instrumentation.uninstrument()
    assert before == dict(vars(transformers.Trainer))
    trainer = make_hf_trainer(tmp_path)
    assert not any(isinstance(callback, own) for callback in trainer.callback_handler.callbacks)


def test_trainer_begins_the_run(tmp_path):
    """Zero code's run begins with the training, so that its first epoch is seen from its start."""
    begun = []
    instrumentation.instrument(lambda: begun.append(otel_train.init()))
    trainer = make_hf_trainer(tmp_path)
    assert [] == begun
    trainer.train()
    assert 1 == len(begun)
    otel_train.shutdown()


def test_trainer_resumes(tmp_path):
    """A training that goes on from a checkpoint numbers its steps and epochs from there."""
    with record():
        make_hf_trainer(tmp_path, [hf_callback()], save_strategy="steps", save_steps=2, max_steps=2).train()
    with record() as run:
        trainer = make_hf_trainer(tmp_path, [hf_callback()], max_steps=6)
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert [(2, 0), (3, 0), (4, 1), (5, 1)] == [(step.step, step.epoch) for step in run.steps]


def test_trainer_evaluation_fails(tmp_path):
    """An exception in an evaluation is the evaluation's, and goes on up as it is."""

    def fail(prediction):
        raise KeyError("metric")

    with record() as run:
        trainer = make_hf_trainer(tmp_path, [hf_callback()])
        trainer.compute_metrics = fail
        with pytest.raises(KeyError, match="metric"):
            trainer.evaluate()
    assert [{"type": "KeyError", "message": "'metric'"}] == [event.error for event in told(run)]


# -- Accelerate --------------------------------------------------------------------------------------------------------


def accelerator(**settings):
    """An Accelerator on the CPU."""
    return pytest.importorskip("accelerate").Accelerator(cpu=True, **settings)


def test_accelerate_by_hand():
    """The tracker takes what the script logs, numbers and tensors of one; its configuration is an event."""
    pytest.importorskip("accelerate")
    from otel_train.integrations.accelerate import OtelTrainTracker

    with record() as run:
        own = accelerator(log_with=OtelTrainTracker())
        own.init_trackers("project", config={"lr": 0.1, "name": "x", "nothing": None})
        own.log({"loss": 0.5, "accuracy": torch.tensor(0.25), "note": "text"}, step=3)
        assert own.get_tracker("otel_train", unwrap=True) is not None
        own.end_training()
    assert [("loss", 0.5), ("accuracy", 0.25)] == [(scalar.name, scalar.value) for scalar in run.scalars]
    (event,) = run.events
    assert ("configuration", {"dl.configuration.lr": 0.1, "dl.configuration.name": "x"}) == (
        event.kind,
        event.attributes,
    )


def test_accelerate_by_zero_code():
    """A script's trackers get ours beside them, once, while hooks are in place; afterwards the class is as it was."""
    accelerate = pytest.importorskip("accelerate")
    before = dict(vars(accelerate.Accelerator))
    with record() as run:
        instrumentation.instrument()
        own = accelerator()
        own.init_trackers("project", {"seed": 1})
        own.init_trackers("project")
        own.log({"loss": 0.5})
    assert [0.5] == [scalar.value for scalar in run.scalars]
    assert [{"dl.configuration.seed": 1}] == [event.attributes for event in told(run)]
    instrumentation.uninstrument()
    assert before == dict(vars(accelerate.Accelerator))


def test_a_framework_that_is_not_there(monkeypatch):
    """Importing an integration without its framework says what is missing and what to type."""
    import sys

    monkeypatch.setitem(sys.modules, "transformers.trainer_callback", None)
    monkeypatch.delitem(sys.modules, "otel_train.integrations.transformers", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"needs the package transformers\. Type: pip install transformers"):
        import_module("otel_train.integrations.transformers")
