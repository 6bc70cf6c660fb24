"""``with profile("name"):`` and ``@profile``: a block of the script's under torch's profiler."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from otel_train import active, guard
from otel_train.recorder import scopes

F = TypeVar("F", bound=Callable[..., Any])


class ProfiledBlock:
    """One use at a time; as a decorator each call is one. Without a run or beside another profiler, it does nothing."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._session: Any = None

    def __enter__(self) -> "ProfiledBlock":
        session = active.session
        if session is not None:
            with guard.guarded("profile"):
                self._session = session if session.profiling.begin_block(self.name) else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            with guard.guarded("profile"):
                session.profiling.end_block()

    def __call__(self, function: F) -> F:
        """Decorate a function: each call of it is profiled, as far as no other profile is under way."""
        return scopes.wrap_each(function, lambda *args, **kwargs: ProfiledBlock(self.name))
