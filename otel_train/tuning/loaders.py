"""``otel_train.tune``: the fastest settings of a data loader, found by measurement in bounded time."""

import contextlib
import inspect
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from otel_train import active
from otel_train.errors import SettingsError, TuningError
from otel_train.recorder.signals import signals
from otel_train.tuning import remembered
from otel_train.tuning.grants import Grants, read_grants
from otel_train.tuning.measuring import Measured, Step, measure
from otel_train.tuning.outcome import LoaderTuning, kept, restored, rows
from otel_train.tuning.search import Search, Setting, grid
from otel_train.tuning.wording import evidence

MEMORY_SHARE = 0.8
"""Of the memory still to be had, and of ``/dev/shm``, workers and their batches may take so much."""

WORTH_KEEPING = 0.01
"""Workers are kept between passes where starting them takes more than this part of a pass."""

WHOLE_PASS = 2000
"""Batches that a pass is taken to have where its length is not known."""

PREFETCH = (2, 4, 8)


def tune(
    loader_factory: Callable[..., Any],
    step: Callable[[Any], object] | float | None = None,
    *,
    budget_s: float = 60.0,
    max_workers: int | None = None,
    prefetch: Sequence[int] = PREFETCH,
    pin_memory: Sequence[bool] | None = None,
    fresh: bool = False,
    directory: str | Path | None = None,
    grants: Grants | None = None,
) -> LoaderTuning:
    """Find the settings with which a loader gives most batches a second; to be called before training and ``init()``.

    ``loader_factory(num_workers=…, prefetch_factor=…, persistent_workers=…, pin_memory=…)`` returns a new DataLoader;
    it gets those of them that it takes, and has to take ``num_workers``. ``step`` is what training does with a batch:
    a function, or the seconds that the GPU works on one while the host is idle; without it the loader alone is
    measured, as fast as it goes. Takes about ``budget_s`` at most. Up to ``max_workers``, by itself four for each
    CPU granted; ``pin_memory`` by itself (True, False) where torch sees a GPU, else (False,).

    The outcome is kept for this machine and data set, and given again; ``fresh=True`` measures anew. Random states of
    Python, numpy and torch (on the CPU) are left as they were. Raises ``TuningError`` where nothing can be measured,
    ``SettingsError`` for a wrong argument.
    """
    _check(budget_s, max_workers, prefetch)
    if active.recorder is not None:
        raise TuningError("a run is being recorded, which measuring would disturb: call tune() before init()")
    granted = grants or read_grants()
    pinning = tuple(pin_memory) if pin_memory is not None else (False, True) if _has_gpu() else (False,)
    settings = grid(granted.cpus, max_workers, sorted(set(prefetch)), pinning)
    loaders = _Loaders(loader_factory, _step(step))
    with _undisturbed():
        identity, length = _identify(loaders.make(Setting(0)))
        key = remembered.key_of(
            cpu=granted.cpu_model, cpus=granted.cpus, settings=settings, step=_name(step), **identity
        )
        place = Path(directory) if directory is not None else _state_directory()
        if not fresh and (known := remembered.recall(place, key)) is not None:
            with contextlib.suppress(KeyError, TypeError):  # of another version: measured anew
                return restored(known)
        search = Search(loaders.measure, settings, granted.cpus, budget_s, _Room(granted))
        best = search.run()
    found = _outcome(search, best, length, granted, pinned=len(pinning) > 1)
    return kept(found, place, key)


def _check(budget_s: float, max_workers: int | None, prefetch: Sequence[int]) -> None:
    if not budget_s > 0:
        raise SettingsError(f"budget_s is {budget_s!r}; allowed are seconds above 0, such as budget_s=60")
    if max_workers is not None and max_workers < 0:
        raise SettingsError(f"max_workers is {max_workers!r}; allowed are whole numbers from 0 on")
    if not prefetch or min(prefetch) < 1:
        raise SettingsError(
            f"prefetch is {prefetch!r}; allowed are whole numbers from 1 on, such as prefetch=(2, 4, 8)"
        )


class _Loaders:
    """Makes loaders and measures them."""

    def __init__(self, factory: Callable[..., Any], step: Step) -> None:
        self._factory = factory
        self._step = step
        self._takes = _keywords(factory)

    def make(self, setting: Setting) -> Any:
        """A loader with these settings. Raises ``TuningError`` where the factory does."""
        wanted = {
            "num_workers": setting.workers,
            "prefetch_factor": setting.prefetch or None,
            "persistent_workers": False,
            "pin_memory": setting.pin_memory,
        }
        try:
            return self._factory(
                **{name: wanted[name] for name in wanted if self._takes is None or name in self._takes}
            )
        except Exception as error:  # BLE001  a factory is the user's, and may raise anything
            raise TuningError(f"the loader factory raised {_told(error)} for num_workers={setting.workers}") from error

    def measure(self, setting: Setting, seconds: float, limit_s: float) -> Measured:
        """Measure a new loader. What it or the step raises is in the ``TuningError``."""
        loader = self.make(setting)
        try:
            return measure(loader, self._step, setting.workers, seconds, limit_s)
        except TuningError:
            raise
        except Exception as error:  # BLE001  data sets, collate functions and steps are the user's
            raise TuningError(f"with num_workers={setting.workers} it failed: {_told(error)}") from error


def _told(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__


def _keywords(factory: Callable[..., Any]) -> set[str] | None:
    """The names that it takes; None for any."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        return None
    names = {each.name for each in parameters if each.kind is not inspect.Parameter.POSITIONAL_ONLY}
    if "num_workers" not in names:
        raise SettingsError(
            f"{_name(factory)} takes {', '.join(sorted(names)) or 'nothing'}; it has to take num_workers: "
            "def make_loader(num_workers, prefetch_factor=None, **others): return DataLoader(…)"
        )
    return names


def _step(step: Callable[[Any], object] | float | None) -> Step:
    if step is None:
        return lambda batch: None
    if callable(step):
        return step
    if step < 0:
        raise SettingsError(f"step is {step!r}; allowed are a function of a batch, or seconds from 0 on")
    return lambda batch: time.sleep(step)


def _name(thing: object) -> str:
    if thing is None or isinstance(thing, int | float):
        return str(thing)
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def _has_gpu() -> bool:
    torch = sys.modules.get("torch")
    return bool(torch is not None and torch.cuda.is_available())


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """The steps of a measurement begin no run, and random states are put back: of modules that are loaded already."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    python_state = random.getstate()
    torch_state = torch.random.get_rng_state() if torch is not None else None
    numpy_state = numpy.random.get_state() if numpy is not None else None
    begin, signals.begin_run = signals.begin_run, None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)  # more than CPUs: on purpose
            yield
    finally:
        signals.begin_run = begin
        random.setstate(python_state)
        if torch is not None:
            torch.random.set_rng_state(torch_state)
        if numpy is not None:
            numpy.random.set_state(numpy_state)


def _identify(loader: Any) -> tuple[dict[str, Any], int | None]:
    """What tells one data set from another, and how many batches a pass has; None where it does not tell."""
    dataset = getattr(loader, "dataset", loader)
    facts = {"dataset": _name(type(dataset)), "samples": _length(dataset), "batch_size": _batch_size(loader)}
    return facts, _length(loader)


def _batch_size(loader: Any) -> Any:
    return getattr(loader, "batch_size", None) or getattr(getattr(loader, "batch_sampler", None), "batch_size", None)


def _length(thing: Any) -> int | None:
    try:
        return len(thing)
    except (TypeError, NotImplementedError):
        return None


def _state_directory() -> Path:
    from otel_train.settings import load

    return load().dir


class _Room:
    """Whether there is memory for a setting: for the workers, and in ``/dev/shm`` for the batches that are ready."""

    def __init__(self, granted: Grants) -> None:
        self._granted = granted

    def __call__(self, setting: Setting, alone: Measured, probe: Measured | None) -> str | None:
        """Why there is none; None where there is, or it is not known."""
        batches = (alone.batch_bytes or 0) * setting.workers * max(setting.prefetch, 1)
        workers = (probe.worker_bytes or 0) * setting.workers if probe else 0
        for needed, free, where in (
            (batches, self._granted.shared_bytes, "/dev/shm"),
            (batches + workers, self._granted.memory_bytes, "memory"),
        ):
            if free is not None and needed > MEMORY_SHARE * free:
                return f"left out: needs {needed / 2**20:.0f} MiB of {where}, where {free / 2**20:.0f} are free"
        return None


def _outcome(search: Search, best: Setting, length: int | None, granted: Grants, pinned: bool) -> LoaderTuning:
    alone, chosen = search.trials[Setting(0)], search.trials[best]
    seen = chosen.measured
    settings: dict[str, Any] = {"num_workers": best.workers}
    if best.workers:
        settings |= {"prefetch_factor": best.prefetch, "persistent_workers": _keeps(seen, length)}
    if pinned:
        settings["pin_memory"] = best.pin_memory
    probes = [each.measured for each in search.trials.values() if each.measured and each.measured.reads]
    return LoaderTuning(
        settings,
        chosen.rate / alone.rate if alone.rate else None,
        search.expected_gain,
        {"num_workers": 0},
        rows(search),
        evidence(search, best, granted, settings),
        max((each.reads for each in probes if each.reads), key=lambda reads: reads.fetches, default=None),
        search.spent_s,
        not search.stopped_early,
    )


def _keeps(seen: Measured | None, length: int | None) -> bool:
    """Are workers worth keeping from pass to pass? By what their start takes of a pass."""
    if seen is None or not seen.starts_s:
        return False
    pass_s = (length or seen.pass_batches or WHOLE_PASS) / seen.batches_per_s
    return min(seen.starts_s) > WORTH_KEEPING * pass_s
