"""The profiles of a run, and the traces that are still there."""

from dataclasses import dataclass
from pathlib import Path

from otel_train import names
from otel_train.errors import OtelTrainError
from otel_train.profiles.analysis import Analysis, analyze, data_waits, window_of
from otel_train.profiles.trace import read_trace
from otel_train.runlog.events import Event
from otel_train.runlog.layout import PROFILES
from otel_train.runlog.ranklog import RankLog
from otel_train.runlog.runs import Run


class NoProfile(OtelTrainError):
    """The run has no such profile. Says which there are, or how to get one."""


@dataclass(frozen=True)
class Profile:
    """A profile as the record has it. ``path`` is its trace, None where it is gone."""

    rank: int
    event: Event
    path: Path | None

    @property
    def step(self) -> int | None:
        """The step, or the first of several; None of a block outside steps."""
        return self.event.step


def profiles_of(log: RankLog) -> list[Profile]:
    """Of one rank, in their order. A trace is looked for where it was written, and beside the record."""
    found = []
    for event, _ in log.events():
        if event.kind == names.PROFILE:
            written = event.attributes.get(names.PROFILE_PATH)
            places = (
                [] if written is None else [Path(written), Path(log.storage.location) / PROFILES / Path(written).name]
            )
            found.append(Profile(log.rank, event, next((place for place in places if place.is_file()), None)))
    return found


def chosen(run: Run, rank: int | None, step: int | None) -> Profile:
    """The profile of a step, or else the last whose trace is there. Raises ``NoProfile``."""
    logs = [log for log in run.ranks() if rank is None or log.rank == rank]
    found = [profile for log in logs for profile in profiles_of(log)]
    if not found:
        raise NoProfile(f"run {run.id} has no profile. While it goes on: otel-train profile run {run.id}")
    matching = [profile for profile in found if step is None or profile.step == step]
    readable = [profile for profile in matching if profile.path is not None]
    if readable:
        return readable[-1] if rank is not None or step is None else readable[0]
    steps = ", ".join(str(profile.step) for profile in found if profile.path is not None) or "none"
    what = "the traces of its profiles are gone" if matching else f"step {step} was not profiled"
    raise NoProfile(f"run {run.id}: {what}; there is a trace of: {steps}")


def read_analysis(path: Path) -> Analysis:
    """Judge a trace: of ours the steps that are marked in it, of torch's the last step, or all. Raises as it does."""
    trace = read_trace(path)
    start_ns, end_ns, thread = window_of(trace)
    return analyze(trace, start_ns, end_ns, data_waits(trace), thread)
