"""What tuning found: the settings, the gain, and all that speaks for it; as a table, as JSON, as a picture."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from otel_train.tuning import remembered
from otel_train.tuning.reads import Reads
from otel_train.tuning.search import Search, Setting


@dataclass(frozen=True)
class Tried:
    """One setting: batches a second as the model expected them and as they were measured. None was not done."""

    num_workers: int
    prefetch_factor: int | None
    pin_memory: bool
    predicted_per_s: float | None
    measured_per_s: float | None
    wait_s: float | None
    """The mean wait for a batch."""
    note: str | None = None
    """Why it was left out, or what it failed with."""


@dataclass(frozen=True)
class LoaderTuning:
    """The outcome of ``tune()``. ``settings`` are the DataLoader's."""

    settings: dict[str, Any]
    gain: float | None
    """Batches a second with them, over those of ``baseline``; measured. None where that one could not be measured."""
    predicted_gain: float | None
    """The same as the model expected it before any of it was verified."""
    baseline: dict[str, Any]
    tried: tuple[Tried, ...]
    evidence: tuple[str, ...]
    """In sentences: what a batch takes, what the workers had, what the settings follow from."""
    reads: Reads | None
    """What the data set read in the workers; None where that was not seen."""
    spent_s: float
    complete: bool
    """Whether the budget was enough to verify all that was to be."""
    remembered: bool = False
    """Not measured now: the result of an earlier search on this machine with this data set."""

    def __str__(self) -> str:
        return "\n".join([self._headline(), *(f"  {line}" for line in self.evidence), *self._table()])

    def _headline(self) -> str:
        chosen = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        gain = f"{self.gain:.2f} x the batches a second of num_workers=0" if self.gain is not None else "gain not known"
        how = "remembered; fresh=True measures again" if self.remembered else f"measured in {self.spent_s:.1f} s"
        short = "" if self.complete else "; the budget was over before all was verified"
        return f"{chosen}: {gain} ({how}{short})"

    def _table(self) -> list[str]:
        lines = [f"  {'workers':>7}{'prefetch':>10}{'pinned':>8}{'expected/s':>12}{'measured/s':>12}{'wait':>11}"]
        for each in self.tried:
            wait = f"{each.wait_s * 1e3:.3g} ms" if each.wait_s is not None else "-"
            numbers = f"{_rate(each.predicted_per_s):>12}{_rate(each.measured_per_s):>12}{wait:>11}"
            ahead = "-" if each.prefetch_factor is None else str(each.prefetch_factor)
            pinned = "yes" if each.pin_memory else "no"
            lines.append(f"  {each.num_workers:>7}{ahead:>10}{pinned:>8}{numbers}  {each.note or ''}".rstrip())
        return lines

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def plot(self, path: str | Path) -> None:
        """Draw what was expected and measured, and what the data set reads, to .png, .svg or .pdf. Extra ``plot``."""
        from otel_train.report.plot_tuning import draw_loader

        draw_loader(self, Path(path))


def restored(content: dict[str, Any]) -> LoaderTuning:
    """An outcome from its JSON. Raises ``KeyError`` and ``TypeError`` for what is none."""
    reads = content["reads"]
    kept: dict[str, Any] = {name: tuple(of) if isinstance(of, list) else of for name, of in (reads or {}).items()}
    told = Reads(**kept) if reads else None
    tried = tuple(Tried(**each) for each in content["tried"])
    changed = {"reads": told, "tried": tried, "evidence": tuple(content["evidence"]), "remembered": True}
    return LoaderTuning(**{**content, **changed})


def kept(found: LoaderTuning, directory: Path, key: str) -> LoaderTuning:
    """Remember it; where the disk says no, that is said, and what was measured is not lost."""
    try:
        remembered.remember(directory, key, found.as_dict())
    except OSError as error:
        return replace(found, evidence=(*found.evidence, f"Not kept for the next time: {error}."))
    return found


def rows(search: Search) -> tuple[Tried, ...]:
    """Every setting of a search, also those that were left out."""
    settings = sorted({*search.trials, *search.left_out})
    return tuple(_row(search, setting) for setting in settings)


def _row(search: Search, setting: Setting) -> Tried:
    trial = search.trials.get(setting)
    seen = trial.measured if trial is not None and not trial.failure else None
    return Tried(
        setting.workers,
        setting.prefetch or None,
        setting.pin_memory,
        trial.predicted if trial is not None else None,
        seen.batches_per_s if seen else None,
        sum(seen.waits_s) / seen.batches if seen and seen.batches else None,
        trial.failure if trial is not None and trial.failure else search.left_out.get(setting),
    )


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
