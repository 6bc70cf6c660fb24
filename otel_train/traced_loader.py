"""``trace_dataloader``: times the wait for each batch and counts what is in it, of any iterable."""

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

from otel_train import active
from otel_train.batches import BatchCounter
from otel_train.recorder.signals import signals

T = TypeVar("T")


class TracedLoader(Generic[T]):
    """Stands for a loader: the same attributes, length and batches; waits are timed while a run records."""

    def __init__(self, loader: Iterable[T]) -> None:
        self.__dict__["_loader"] = loader

    def __iter__(self) -> Iterator[T]:
        return _iterate(iter(self._loader), self._loader)

    def __len__(self) -> int:
        return len(self._loader)

    def __bool__(self) -> bool:
        return bool(self._loader)

    def __getattr__(self, name: str) -> Any:
        if name == "_loader":  # while it is unpickled or copied
            raise AttributeError(name)
        return getattr(self._loader, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._loader, name, value)

    def __getitem__(self, index: Any) -> Any:
        return self._loader[index]

    def __reduce__(self) -> tuple[Any, ...]:
        return TracedLoader, (self._loader,)

    def __repr__(self) -> str:
        return f"trace_dataloader({self._loader!r})"


def _iterate(batches: Iterator[T], loader: object) -> Iterator[T]:
    """About 0.4 µs a batch while recording. Ends as the loader ends; what the loader raises goes on up."""
    counter = BatchCounter()
    iteration = object()
    waited = False
    try:
        while True:
            recorder = active.recorder
            if recorder is None:
                for batch in batches:
                    yield batch
                    if active.recorder is not None:
                        break
                else:
                    return
                continue
            start_ns = signals.batch_asked()
            try:
                batch = next(batches)
            except StopIteration:
                return
            end_ns = recorder.clock()
            samples, tokens = counter(batch)
            recorder.waited(iteration, start_ns, end_ns, samples, tokens)
            waited = True
            yield batch
    finally:
        recorder = active.recorder
        if waited and recorder is not None:
            recorder.loader_ended(iteration)
