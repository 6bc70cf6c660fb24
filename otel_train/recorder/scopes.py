"""The two scopes on the hot path, ``Phase`` and ``Step``: each a context manager and a decorator.

Their ``__enter__`` and ``__exit__`` are class attributes that an active recorder sets and takes back (``install``), so
that a scope made before ``init()``, in a library say, records after it, and a scope that nobody records costs two calls
of a C function that does nothing: 0.06 µs, where an ``if`` in two Python methods costs 0.15.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

from otel_train import guard
from otel_train.runlog.layout import COUNT_SHIFT, DATA_WAIT, OTHER_PHASE, STEP_PHASE

F = TypeVar("F", bound=Callable[..., Any])

Amount: TypeAlias = "int | Callable[..., int] | None"
"""A count (of samples, of tokens), a function that returns it, or unknown."""

_nothing = cast("Callable[..., Any]", "".format)
"""A C function that takes anything and returns something false."""

LARGEST_PHASE_ID = 255


class Phase:
    """A named part of a step. Stateless: one object a name, for every thread, nested in itself or not."""

    __slots__ = ("id", "name", "once")

    def __init__(self, name: str, id: int) -> None:
        self.name = name
        self.id = id
        self.once = id | 1 << COUNT_SHIFT
        """One occurrence of it at depth 0, as a record's slot has it."""

    __enter__ = _nothing
    __exit__ = _nothing

    def __call__(self, function: F) -> F:
        """Decorate a function: each call of it is this phase."""
        return wrap(function, self)

    def __repr__(self) -> str:
        return f"trace_phase({self.name!r})"


class Step(tuple[Any, ...]):
    """One step of training or inference: samples, tokens, padded tokens (a number, a function or None) and its number.

    Immutable: what happens in it is the recorder's to keep. A tuple, because it is made for each step, and a tuple is
    made three times faster than an object.
    """

    __slots__ = ()

    __enter__ = _nothing
    __exit__ = _nothing

    def __call__(self, function: F) -> F:
        """Decorate a function: each call of it is a step. Functions among the arguments get the call's arguments."""
        if not any(callable(argument) for argument in self):
            return wrap(function, self)
        return wrap_each(function, _guarded_scope(self._for_call))

    def _for_call(self, *args: Any, **kwargs: Any) -> "Step":
        return Step(amount(*args, **kwargs) if callable(amount) else amount for amount in self)


def install(scope: type, enter: Callable[..., Any], exit: Callable[..., Any]) -> Callable[[], None]:
    """Let a recorder see a scope; returns the undo."""
    setattr(scope, "__enter__", enter)  # noqa: B010  mypy: a method is not assigned to
    setattr(scope, "__exit__", exit)  # noqa: B010

    def undo() -> None:
        setattr(scope, "__enter__", _nothing)  # noqa: B010
        setattr(scope, "__exit__", _nothing)  # noqa: B010

    return undo


def wrap(function: F, scope: Any) -> F:
    """Run each call of ``function`` in the same stateless scope; name, signature and type stay. See ``refuse``."""
    if refuse(function):
        return wrap_each(function, lambda *args, **kwargs: scope)

    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        with scope:
            return function(*args, **kwargs)

    return cast("F", traced)


def wrap_each(function: F, scope_of: Callable[..., Any]) -> F:
    """Run each call of ``function`` in the scope that ``scope_of`` gives for the call's arguments."""
    if refuse(function):

        @functools.wraps(function)
        async def traced_coroutine(*args: Any, **kwargs: Any) -> Any:
            with scope_of(*args, **kwargs):
                return await function(*args, **kwargs)

        return cast("F", traced_coroutine)

    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        with scope_of(*args, **kwargs):
            return function(*args, **kwargs)

    return cast("F", traced)


def refuse(function: object) -> bool:
    """Raise ``TypeError`` for what cannot be decorated; is the function a coroutine function, to be awaited inside?

    A generator's body runs at ``next()``, not at the call: a scope around the call would time nothing.
    """
    import inspect  # 9 ms of the import of otel_train

    if not callable(function):
        raise TypeError(f"otel_train decorates functions, got {function!r}. Write e.g. trace_step(samples=32)")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function!r} is a generator: put a with-block around what it does between its yields")
    return inspect.iscoroutinefunction(function)


def _guarded_scope(scope_of: Callable[..., Any]) -> Callable[..., Any]:
    """A user's function that counts samples may fail; the step goes on, its count unknown."""

    def scope(*args: Any, **kwargs: Any) -> Any:
        if Step.__enter__ is _nothing:
            return UNKNOWN_STEP
        try:
            return scope_of(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  the user's function
            guard.warn_once("amount", "the samples/tokens function of a step failed: %r. The count is missing", error)
            return UNKNOWN_STEP

    return scope


UNKNOWN_STEP = Step((None, None, None, None))

phases: dict[str, Phase] = {}
"""Every phase named in this process, by name. Ids are the process's, so that a phase outlives a run."""

_naming = threading.Lock()
_on_new_phase: list[Callable[[Phase], None]] = []


def phase(name: str) -> Phase:
    """The scope of a phase. At most 255 names a process: the rest is recorded as ``other``, and a warning says so."""
    if not isinstance(name, str) or not name:
        guard.warn_once("phase name", "a phase has a name such as 'forward', got %r: recorded as 'other'", name)
        return phases["other"]
    if name not in phases and len(phases) > LARGEST_PHASE_ID:
        guard.warn_once("phase names", "more than 255 phase names, got %r too: recorded as 'other'", name)
        return phases["other"]
    with _naming:
        if name not in phases:
            added = Phase(name, len(phases))
            for listener in _on_new_phase:
                listener(added)
            phases[name] = added
    return phases[name]


def on_new_phase(listener: Callable[[Phase], None]) -> Callable[[], None]:
    """Tell ``listener`` of each phase known and of each named from now on; returns the undo."""
    with _naming:
        for known in phases.values():
            listener(known)
        _on_new_phase.append(listener)
    return lambda: _on_new_phase.remove(listener)


assert phase("other").id == OTHER_PHASE
DATA_WAIT_PHASE = phase(DATA_WAIT)
STEP_IN_STEP = phase(STEP_PHASE)
