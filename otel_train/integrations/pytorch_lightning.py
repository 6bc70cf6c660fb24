"""``Trainer(callbacks=[OtelTrainCallback()])`` for the package ``pytorch-lightning``. Zero code adds it by itself."""

from otel_train.integrations import missing_package
from otel_train.integrations.lightning_events import LightningEvents

try:
    from pytorch_lightning.callbacks import Callback
except ModuleNotFoundError as error:
    raise missing_package(__name__, "pytorch-lightning") from error


class OtelTrainCallback(LightningEvents, Callback):
    """Tells a run what Lightning knows, see ``LightningEvents``. Works with ``otel_train.init()`` alone, too."""


__all__ = ["OtelTrainCallback"]
