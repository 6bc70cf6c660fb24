"""``init()``, ``shutdown()`` and the handle between them. What they need is imported when they are called."""

import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from otel_train import active
from otel_train.errors import AlreadyInitialized, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from otel_train.session import Session
    from otel_train.settings import Settings


class RunHandle:
    """The run that ``init()`` began. As a context manager it ends the run; letting go of it does nothing."""

    def __init__(self, session: "Session | None") -> None:
        self._session = session

    @property
    def id(self) -> str | None:
        """The run id, the same on every rank; None where recording is off."""
        return self._session.identity.run_id if self._session else None

    @property
    def rank(self) -> int | None:
        """This process's rank; None where recording is off."""
        return self._session.identity.rank if self._session else None

    @property
    def path(self) -> "Path | None":
        """This rank's folder of the run log; None where nothing is recorded on disk."""
        from pathlib import Path

        location = self._session.store.location if self._session else "memory"
        return None if location == "memory" else Path(location)

    @property
    def settings(self) -> "Settings | None":
        """The settings in force; None where recording is off."""
        return self._session.settings if self._session else None

    def shutdown(self) -> None:
        """End the run. Twice is once."""
        if self._session is not None:
            self._session.shutdown()

    def __enter__(self) -> "RunHandle":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            self._session.shutdown(error)

    def __repr__(self) -> str:
        return f"<otel_train run {self.id or 'off'}>"


_starting = threading.Lock()
_given: dict[str, Any] = {}
_handle = RunHandle(None)


def init(
    *, tracer_provider: Any = None, meter_provider: Any = None, logger_provider: Any = None, **settings: Any
) -> RunHandle:
    """Begin a run: steps are recorded on disk from now on, and sent where OTLP's variables say.

    Settings are those of ``docs/settings.md``; what is left out comes from the environment, ``OTEL_TRAIN_CONFIG`` or
    the default. An application's own OpenTelemetry providers, passed or already set, are used instead of ours and never
    replaced. Called again with the same settings, or none, it returns the run that is going on.

    In a process that multiprocessing is still starting (the main script imported by a spawned worker) it does nothing.

    Raises:
        SettingsError: a setting is wrong. It says what was got, what is allowed and what to do.
        AlreadyInitialized: a run with other settings is going on.
    """
    global _given, _handle
    from otel_train.session import begin, is_being_spawned
    from otel_train.settings import load

    providers = {
        "tracer_provider": tracer_provider,
        "meter_provider": meter_provider,
        "logger_provider": logger_provider,
    }
    given = {**settings, **{key: value for key, value in providers.items() if value is not None}}
    with _starting:
        if active.session is not None:
            if given and given != _given:
                raise AlreadyInitialized(_other_settings(given))
            return _handle
        loaded = load(settings)
        if not loaded.enabled or loaded.level == "off" or is_being_spawned():
            return RunHandle(None)
        _check_providers(providers)
        given_providers = {key: value for key, value in providers.items() if value is not None}
        _given, _handle = given, RunHandle(begin(loaded, given_providers, time.perf_counter_ns))
        return _handle


def shutdown() -> None:
    """End the run that is going on, if there is one. Twice is once; without it the process's exit does it."""
    if active.session is not None:
        active.session.shutdown()


def _check_providers(providers: dict[str, Any]) -> None:
    for key, provider in providers.items():
        method = "get_" + key.removesuffix("_provider")
        if provider is not None and not callable(getattr(provider, method, None)):
            raise SettingsError(f"init({key}=…) is {provider!r}; allowed is an OpenTelemetry provider, with {method}()")


def _other_settings(given: dict[str, Any]) -> str:
    differing = sorted(key for key in {*given, *_given} if given.get(key) != _given.get(key))
    return (
        f"init() was called again with other settings: {', '.join(differing)} differ from those of run {_handle.id}. "
        "Call otel_train.shutdown() first, or init() without arguments to get the run that is going on."
    )
