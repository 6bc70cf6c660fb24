"""``trace_dataloader`` stands for the loader in every way, and counts without reading a value."""

import copy
import itertools
import pickle

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import otel_train
from otel_train.batches import counter_for
from otel_train.runlog.layout import MISSING
from otel_train.testing import record


def make_loader(**settings):
    """Ten samples of three features, with labels, in batches of four."""
    return DataLoader(TensorDataset(torch.zeros(10, 3), torch.zeros(10)), batch_size=4, **settings)


def test_it_stands_for_the_loader():
    """Length, dataset, samplers and every other attribute are the loader's, to read and to set."""
    loader = make_loader()
    traced = otel_train.trace_dataloader(loader)
    assert (3, 4) == (len(traced), traced.batch_size)
    assert traced.dataset is loader.dataset
    assert traced.sampler is loader.sampler
    assert traced.batch_sampler is loader.batch_sampler
    traced.note = "set"
    assert "set" == loader.note
    with pytest.raises(AttributeError):
        traced.nothing_of_that_name  # noqa: B018


def test_twice_is_once():
    """Tracing a traced loader changes nothing: no wait counts double."""
    traced = otel_train.trace_dataloader([[1, 2]])
    assert otel_train.trace_dataloader(traced) is traced


def test_truth():
    """A loader is as true as it is without us, also one that has no length."""
    assert otel_train.trace_dataloader(iter([1]))
    assert not otel_train.trace_dataloader([])


def test_epochs():
    """It can be iterated again each epoch; an epoch ends with no error and no event."""
    with record() as run:
        traced = otel_train.trace_dataloader(make_loader())
        for _ in range(2):
            for _ in traced:
                with otel_train.trace_step():
                    pass
    assert [4, 4, 2] * 2 == [step.samples for step in run.steps]
    assert [] == run.events


def test_it_survives_copies_and_pickles():
    """A copy, deep copy or pickle of it is a traced loader of the same."""
    traced = otel_train.trace_dataloader([[1, 2], [3]])
    for twin in (copy.copy(traced), copy.deepcopy(traced), pickle.loads(pickle.dumps(traced))):
        assert [[1, 2], [3]] == list(twin)
        assert 2 == len(twin)


def test_what_the_loader_raises():
    """An exception of the loader's comes out unchanged, recording or not."""

    def broken():
        yield 1
        raise KeyError("lost shard")

    def consume():
        with pytest.raises(KeyError, match="lost shard"):
            list(otel_train.trace_dataloader(broken()))

    consume()
    with record():
        consume()


def test_a_run_that_begins_and_ends_in_the_middle():
    """Batches come in order, once each, when recording starts and stops between them."""
    traced = iter(otel_train.trace_dataloader(range(6)))
    first = [next(traced), next(traced)]
    with record() as run:
        middle = [next(traced), next(traced)]
        with otel_train.trace_step():
            pass
    assert list(range(6)) == [*first, *middle, *traced]
    assert 1 == len(run.steps)


def test_leaving_an_epoch_early():
    """``break`` ends the iteration as it ends a generator's; a step that had its batch is recorded."""
    with record() as run:
        for _ in otel_train.trace_dataloader(itertools.repeat([1, 2])):
            with otel_train.trace_step():
                pass
            break
    assert [2] == [step.samples for step in run.steps]


TEXT, IMAGES = torch.zeros(4, 16, dtype=torch.long), torch.zeros(8, 3, 5, 5)


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (TEXT, (4, 64)),
        (IMAGES, (8, MISSING)),
        ((IMAGES, torch.zeros(8)), (8, MISSING)),
        ([TEXT, TEXT], (4, 64)),
        ({"attention_mask": torch.zeros(4, 3), "input_ids": TEXT, "labels": TEXT}, (4, 64)),
        ({"audio": torch.zeros(2, 100)}, (2, MISSING)),
        (({"pixel_values": IMAGES}, torch.zeros(8)), (8, MISSING)),
        ((["a", "b"], torch.zeros(2)), (2, MISSING)),
        ([1, 2, 3], (3, MISSING)),
        (["a", "b"], (2, MISSING)),
        (torch.tensor(5.0), (MISSING, MISSING)),
        ((), (MISSING, MISSING)),
        ({}, (MISSING, MISSING)),
        ("text", (MISSING, MISSING)),
        (7, (MISSING, MISSING)),
        (None, (MISSING, MISSING)),
        (torch.zeros(3, 4, dtype=torch.int32), (3, MISSING)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_samples_and_tokens(batch, expected):
    """Rows of the leading tensor are samples; a matrix of 64-bit integers is token ids; the rest is unknown."""
    assert expected == counter_for(batch)(batch)


def test_no_value_is_read():
    """Tensors on the meta device have no values at all: counting them works."""
    batch = {"input_ids": torch.zeros(4, 16, dtype=torch.long, device="meta")}
    assert (4, 64) == counter_for(batch)(batch)


def test_batches_that_change_their_shape():
    """A batch unlike the first one costs its count, with one warning; the training goes on."""
    with record() as run:
        for _ in otel_train.trace_dataloader([(torch.zeros(4, 2), 1), None, (torch.zeros(4, 2), 1)]):
            with otel_train.trace_step():
                pass
    assert [4, None, None] == [step.samples for step in run.steps]
