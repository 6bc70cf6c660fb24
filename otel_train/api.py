"""What a training script writes: decorators and with-blocks. None of it needs ``init()``; none of it raises later."""

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from otel_train import active, guard
from otel_train.checkpoint import Checkpoint
from otel_train.event_scope import EventScope
from otel_train.names import (
    EPOCH,
    EPOCH_NUMBER,
    EVALUATION_KIND,
    EVALUATION_NAME,
    STEP_COUNT,
    WAIT_TIME,
)
from otel_train.profiled_block import ProfiledBlock
from otel_train.recorder import scopes
from otel_train.recorder.scopes import Amount, Phase, Step
from otel_train.recorder.signals import signals
from otel_train.runlog.layout import LARGEST, MISSING
from otel_train.timed import Timed

if TYPE_CHECKING:
    from otel_train.recorder.hot_path import Recorder
    from otel_train.traced_loader import TracedLoader

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_new, _phases = tuple.__new__, scopes.phases
_PLAIN_STEP = scopes.UNKNOWN_STEP


@overload
def trace_step(function: F, /) -> F: ...
@overload
def trace_step(
    *, samples: Amount = None, tokens: Amount = None, padded_tokens: Amount = None, step: int | None = None
) -> Step: ...
def trace_step(
    function: F | None = None,
    /,
    *,
    samples: Amount = None,
    tokens: Amount = None,
    padded_tokens: Amount = None,
    step: int | None = None,
) -> F | Step:
    """Time a step of training or batch inference: ``@trace_step``, ``@trace_step(samples=…)``, ``with trace_step():``.

    ``samples`` and ``tokens`` count what the step processes, padding included; ``padded_tokens`` how many of the tokens
    are padding, so that the packing efficiency is 1 - padded_tokens / tokens. Each is a number or a function: of the
    call's arguments for a decorator, of none for a with-block, which asks it at its end. What a traced loader counted
    stands in for ``samples`` and ``tokens`` left out. ``step`` numbers it; left out, steps are counted from 0 or go on
    from the last number given.

    The step starts at the wait for its batch when the loader is traced. An exception marks it failed and goes on up.
    """
    if function is not None:
        return _PLAIN_STEP(function)
    if samples is tokens is padded_tokens is step is None:
        return _PLAIN_STEP
    return _new(Step, (samples, tokens, padded_tokens, step))


def trace_phase(name: str) -> Phase:
    """Time a part of a step: ``with trace_phase("forward"):`` or ``@trace_phase("forward")``.

    ``forward``, ``backward``, ``optimizer`` and ``data_wait`` are the names that reports know; any other will do.
    Inside a step it is part of the step's record, at its depth. Outside a step, or on a thread beside the training's,
    it is an event with a duration. Costs about 0.5 µs inside a step, 20 µs outside.
    """
    try:
        return _phases[name]
    except (KeyError, TypeError):
        return scopes.phase(name)


def trace_dataloader(loader: Iterable[T]) -> "TracedLoader[T]":
    """Time the wait for each batch of any iterable, and count its samples and tokens.

    The result stands for the loader: ``len()``, ``.dataset``, ``.sampler`` and every other attribute are the loader's,
    and each ``iter()`` is a new epoch. Samples are the rows of the batch's first tensor; tokens are counted where that
    is a matrix of 64-bit integers. No tensor value is read. A loader that is traced already stays as it is.
    """
    from otel_train.traced_loader import TracedLoader

    return loader if isinstance(loader, TracedLoader) else TracedLoader(loader)


def trace_epoch(n: int) -> "Epoch":
    """Time an epoch: ``with trace_epoch(3):``, or as a decorator. Its steps carry the number, 0 to 4294967294."""
    return Epoch(n)


def trace_evaluation(name: str = "validation") -> "Evaluation":
    """Time an evaluation. Steps traced inside are evaluation steps, numbered apart and left out of training figures."""
    return Evaluation(name)


def trace_checkpoint(path: "str | os.PathLike[str]", kind: Literal["save", "load"] = "save") -> Checkpoint:
    """Time a checkpoint that is saved to, or loaded from, a file or a folder; its size is read when it is over.

    On another thread it is recorded with the thread's name: an asynchronous save does not count as blocked time. What
    is saved inside it on its own thread (``torch.save``, under zero code) is a stage of it.
    """
    if kind not in ("save", "load"):
        guard.warn_once("checkpoint", "trace_checkpoint(kind=…) is 'save' or 'load', got %r: recorded as it is", kind)
    return Checkpoint(path, kind)


def timed(name: str) -> Timed:
    """Time any function or block of a program: duration, CPU time, growth of peak memory, bytes read and written.

    For data preparation, post-processing and the like, not for what runs many times a second (30 µs a call).
    """
    return Timed(name)


@overload
def profile(name: F, /) -> F: ...
@overload
def profile(name: str) -> ProfiledBlock: ...
def profile(name: F | str) -> F | ProfiledBlock:
    """See what a block or function does, by torch's profiler: ``with profile("warm-up"):``, ``@profile``.

    Its operators and kernels become a span with events, its trace a file in the run's ``profiles/``, which
    ``otel-train profile show`` reads. Without a run, and while another profiler is at work (the user's, or ours for a
    step), it does nothing. Profiling costs a call of an operator about 1 µs, and the end of the block 4 µs for each.
    """
    if isinstance(name, str):
        return ProfiledBlock(name)
    return ProfiledBlock(getattr(name, "__qualname__", "block"))(name)


def log(**scalars: Any) -> None:
    """Record values of the current step: ``log(loss=loss, learning_rate=3e-4)``. Numbers, or tensors of one element.

    Never synchronises: a value on a device is copied aside and read when it has arrived. Not-a-number and infinity are
    recorded and counted, and make an event once a minute a name. ``loss`` becomes the metric ``dl.loss``.
    """
    session = active.session
    if session is not None and active.recorder is not None:
        session.scalars.log(scalars)


class Epoch(EventScope):
    """One pass over the data."""

    kind = EPOCH

    def __init__(self, n: int) -> None:
        super().__init__({EPOCH_NUMBER: n})
        self._number = n

    def begun(self, recorder: "Recorder") -> None:
        valid = isinstance(self._number, int) and 0 <= self._number <= LARGEST
        if not valid:
            guard.warn_once("epoch", "trace_epoch() takes 0 to %d, got %r: steps have no epoch", LARGEST, self._number)
        recorder.state.epoch = self._number if valid else MISSING

    def ended(self, recorder: "Recorder", duration_ns: int) -> dict[str, Any]:
        recorder.state.epoch = MISSING
        return {}

    def __exit__(self, *error: Any) -> None:
        signals.between_steps()  # the last step is the epoch's, also where nothing asks for a batch after it
        super().__exit__(*error)


class Evaluation(EventScope):
    """A pass over held-out data."""

    kind = EVALUATION_KIND

    def __init__(self, name: str) -> None:
        super().__init__({EVALUATION_NAME: name})
        self._before: Any = None
        self._first = 0

    def begun(self, recorder: "Recorder") -> None:
        self._first = recorder.state.evaluation_steps
        if recorder.sidelines.foreign_thread_name() is None:
            self._before = recorder.begin_evaluation()

    def ended(self, recorder: "Recorder", duration_ns: int) -> dict[str, Any]:
        before, self._before = self._before, None
        batches, waited_ns = (0, 0) if before is None else recorder.end_evaluation(before)
        steps = recorder.state.evaluation_steps - self._first + batches
        return {**({STEP_COUNT: steps} if steps else {}), **({WAIT_TIME: waited_ns / 1e9} if batches else {})}


__all__ = [
    "log",
    "timed",
    "trace_checkpoint",
    "trace_dataloader",
    "trace_epoch",
    "trace_evaluation",
    "trace_phase",
    "trace_step",
]
