"""Which trackers a run tells, from its settings: checked at ``init()``, before anything of the run is there."""

from collections.abc import Callable
from importlib.util import find_spec

from otel_train.errors import SettingsError
from otel_train.instrumentation import is_instrumented
from otel_train.settings import Settings
from otel_train.trackers.mlflow import Mlflow
from otel_train.trackers.tensorboard import TensorBoard
from otel_train.trackers.tracker import Tracker
from otel_train.trackers.wandb import Wandb

MAKERS: dict[str, Callable[[Settings], Tracker]] = {
    "mlflow": lambda settings: Mlflow(),
    "tensorboard": lambda settings: TensorBoard(settings.tensorboard_dir),
    "wandb": lambda settings: Wandb(),
}


def chosen_trackers(settings: Settings, rank: int) -> list[Tracker]:
    """The trackers that this rank tells. ``auto`` is each that is installed. Raises ``SettingsError``."""
    if not settings.trackers or not (settings.tracker_ranks is None or rank in settings.tracker_ranks):
        return []
    if settings.trackers == ("auto",):
        return [make(settings) for name, make in MAKERS.items() if is_installed(name)]
    for name in settings.trackers:
        need(name)
    if "tensorboard" in settings.trackers and settings.tensorboard_dir is None and not _sees_writers(settings):
        raise SettingsError(
            "trackers has tensorboard, and nothing says where it is; allowed is a folder, or zero code, which sees "
            "each SummaryWriter. Type: init(trackers='tensorboard', tensorboard_dir=writer.log_dir)."
        )
    return [MAKERS[name](settings) for name in settings.trackers]


def need(name: str) -> None:
    """Raises ``SettingsError`` where a tracker's package is missing."""
    if not is_installed(name):
        raise SettingsError(
            f"{name} is asked for, which is not installed. Type: pip install 'otel-train[{name}]', or take {name} "
            "out of OTEL_TRAIN_TRACKERS or init(trackers=…)."
        )


def is_installed(name: str) -> bool:
    """Can it be imported? A folder of that name where the script runs, as wandb makes one, is not it."""
    spec = find_spec(name)
    return spec is not None and spec.origin is not None


def _sees_writers(settings: Settings) -> bool:
    return settings.instrument or is_instrumented()
