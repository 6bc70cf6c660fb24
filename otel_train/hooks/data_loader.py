"""``torch.utils.data.DataLoader``: the wait for each batch, what is in it, and how full the queue was."""

import weakref
from collections.abc import Callable
from typing import Any

from otel_train.batches import BatchCounter
from otel_train.hooks.patching import all_of, replace
from otel_train.recorder.signals import signals
from otel_train.runlog.layout import LARGEST_QUEUE, QUEUE_SHIFT


def install(torch: Any) -> Callable[[], None]:
    """Time each wait for a batch of any DataLoader; returns the undo. About 2 µs a batch.

    The counter of an iterator's batches also stands for it in the recorder, which so does not keep the iterator alive.
    """
    from torch.utils.data.dataloader import _BaseDataLoaderIter

    take = _BaseDataLoaderIter.__next__

    def traced_next(self: Any) -> Any:
        own = self.__dict__
        queue = own.get("_data_queue")
        ready = 0 if queue is None else _ready(queue)
        start_ns = signals.batch_asked()
        try:
            batch = take(self)
        except StopIteration:
            if "_otel_train" in own:
                _ended(own["_otel_train"])
            raise
        end_ns = signals.clock()
        iteration = own.get("_otel_train") or iteration_of(self)
        try:
            samples, tokens = iteration.count(batch)
        except Exception as error:  # noqa: BLE001  a batch is anything, and so is what its parts raise
            samples, tokens = iteration.give_up(error)
        signals.batch_came(iteration, start_ns, end_ns, samples, tokens, ready)
        return batch

    reset = _BaseDataLoaderIter._reset

    def traced_reset(self: Any, *args: Any, **kwargs: Any) -> None:
        """Persistent workers: the same iterator passes over the data again."""
        iteration = self.__dict__.get("_otel_train")
        if iteration is not None:
            _ended(iteration)
            iteration.over = False
        reset(self, *args, **kwargs)

    return all_of(
        [replace(_BaseDataLoaderIter, "__next__", traced_next), replace(_BaseDataLoaderIter, "_reset", traced_reset)]
    )


def iteration_of(iterator: Any) -> BatchCounter:
    """What stands for an iterator in the recorder; the iterator has it from now on."""
    iteration: BatchCounter | None = iterator.__dict__.get("_otel_train")
    if iteration is None:
        iteration = iterator._otel_train = BatchCounter()
        weakref.finalize(iterator, _ended, iteration).atexit = False
    return iteration


def _ended(iteration: BatchCounter) -> None:
    """Tell it once: the iterator of a pass that is over goes later, maybe in the middle of another loader's step."""
    if not iteration.over:
        iteration.over = True
        signals.loader_ended(iteration)


def _ready(queue: Any) -> int:
    """How many batches were ready, as a step's record has it; 0 where it is not known."""
    try:
        ready: int = queue.qsize()
    except (NotImplementedError, OSError, ValueError):  # macOS has no such count; or the queue is closed
        return 0
    return (min(ready, LARGEST_QUEUE) + 1) << QUEUE_SHIFT
