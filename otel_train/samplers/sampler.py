"""What every sampler is: an object with one method that says what can be read now."""

from typing import Any, Protocol

from otel_train.resource_names import Series

Readings = dict[Series, float]
"""Values by series. A value that cannot be had is absent."""


class SamplerUnavailable(Exception):
    """The machine has no such thing: raised by a sampler's constructor; no failure, no warning."""


class Sampler(Protocol):
    """Reads one source. Its constructor is cheap and may raise ``SamplerUnavailable``."""

    def sample(self) -> Readings:
        """What can be read now. May raise: then nothing of this source is recorded this time."""
        ...


def load_psutil() -> Any:
    """Imported when a sampler is made, on the sampling thread: 10 ms that no training waits for."""
    import psutil

    return psutil
