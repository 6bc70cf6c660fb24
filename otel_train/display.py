"""``otel_train.progress``: the live display, asked for by name. It costs nothing until then."""

from typing import TYPE_CHECKING

from otel_train import active

if TYPE_CHECKING:
    from otel_train.live import Progress


def progress(total_steps: int | None = None) -> "Progress":
    """A live display of step, rates, data wait, loss and the time left: ``with otel_train.progress(1000) as bar:``.

    While a run records it reads the run's own log, from a thread of its own. By itself it is fed as a callback,
    ``bar(step, samples)``. Where there is no terminal it shows nothing.
    """
    from otel_train.live import Progress

    if active.session is None:
        return Progress(total_steps)
    from otel_train.runlog.ranklog import RankLog

    return Progress(total_steps, RankLog(active.session.store))
