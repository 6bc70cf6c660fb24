"""What every way has that takes a notification to somebody."""

from typing import Protocol, runtime_checkable

from otel_train.alerts.notification import Notification
from otel_train.errors import OtelTrainError


class DeliveryError(OtelTrainError):
    """A notification did not arrive. Its text is fit for a log: it holds no secret, and no other error is its cause."""


class Way(Protocol):
    """Takes notifications to somebody. Called by one thread at a time, never by the training's."""

    @property
    def name(self) -> str:
        """For warnings and counts: what and which, without a secret."""

    def send(self, notification: Notification) -> None:
        """Return when it was taken over; take seconds, not minutes. Raises ``DeliveryError``."""


@runtime_checkable
class Stoppable(Protocol):
    """A way that has to let go of something when the run is over."""

    def stop(self) -> None:
        """Give up what is under way; called by another thread than ``send``."""
