"""What holds for every test."""

from collections.abc import Iterator

import pytest

from otel_train import guard


@pytest.fixture(autouse=True)
def fresh_guard() -> Iterator[None]:
    """What was said once may be said again."""
    guard.forget()
    yield
    guard.forget()
