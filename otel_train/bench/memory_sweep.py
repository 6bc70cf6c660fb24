"""One size after the other, doubled each time, up to the first that does not fit into memory; then between the two."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from otel_train.bench.matrix import ARGUMENT, PLACEHOLDER, Cell, Factor, Setting
from otel_train.bench.reading import RunRead
from otel_train.errors import BenchError

RESOLUTION = 16
"""A bisection ends when what fits and what does not are a sixteenth apart, or 1."""

FITS, DOES_NOT_FIT, FAILED = "fits", "out of memory", "failed"


@dataclass(frozen=True)
class Sweep:
    """What is swept: the factor that a size is a value of, and from where to where."""

    factor: Factor
    first: int
    last: int
    beside: tuple[Setting, ...] = ()
    """What each run has besides."""

    def cell(self, size: int) -> Cell:
        """What a run of that size is started with."""
        return Cell((*self.beside, Setting(self.factor.kind, self.factor.name, str(size))))

    def doubling(self) -> list[int]:
        """``8..100`` is 8, 16, 32, 64, 100."""
        sizes = [self.first]
        while sizes[-1] < self.last:
            sizes.append(min(sizes[-1] * 2, self.last))
        return sizes


@dataclass(frozen=True)
class Swept:
    """The sizes that were run, in the order in which they were, and why there are no more."""

    name: str
    """Of what is swept."""
    runs: tuple[tuple[int, RunRead], ...]
    is_whole: bool
    """Was it run to its end? Not where it was interrupted, or the time was up."""

    def sizes(self, what: str) -> list[int]:
        """The sizes that fit, do not, or failed for another reason: ascending."""
        return sorted(size for size, read in self.runs if how(read) == what)

    @property
    def largest(self) -> int | None:
        """The largest size that fits; None where none does."""
        return max(self.sizes(FITS), default=None)

    @property
    def too_large(self) -> int | None:
        """The smallest size that does not; None where all did."""
        return min(self.sizes(DOES_NOT_FIT), default=None)


def how(read: RunRead) -> str:
    """Did it fit, run out of memory, or fail for another reason, which says nothing about memory?"""
    if read.out_of_memory:
        return DOES_NOT_FIT
    return FAILED if read.problem else FITS


def read_sweep(text: str, template: Sequence[str], beside: tuple[Setting, ...] = ()) -> Sweep:
    """``batch_size=8..4096`` for a ``{batch_size}`` in the command, ``--batch-size=8..4096`` for an argument.

    Raises ``BenchError``.
    """
    match = re.fullmatch(r"(.+?)=(\d+)\.\.(\d+)", text)
    if not match or not 0 < int(match[2]) <= int(match[3]):
        raise BenchError(f"got --sweep {text!r}; allowed is NAME=FIRST..LAST, such as batch_size=8..4096")
    name, first, last = match[1], int(match[2]), int(match[3])
    if any(f"{{{name}}}" in part for part in template):
        return Sweep(Factor(PLACEHOLDER, name, (f"{first}..{last}",)), first, last, beside)
    if not name.startswith("-"):
        raise BenchError(
            f"--sweep {name}: there is no {{{name}}} in the command. Write it where the size belongs, or sweep an "
            f"argument: --sweep --{name.replace('_', '-')}={first}..{last}"
        )
    return Sweep(Factor(ARGUMENT, name, (f"{first}..{last}",)), first, last, beside)


def run_sweep(sweep: Sweep, run: Callable[[Cell], RunRead | None], bisect: bool) -> Swept:
    """Go up until a size does not fit, or fails otherwise; with ``bisect`` then close in on the largest that fits.

    ``run`` gives None when it was interrupted.
    """
    runs: list[tuple[int, RunRead]] = []
    for size in sweep.doubling():
        read = run(sweep.cell(size))
        if read is None:
            return Swept(sweep.factor.name, tuple(runs), False)
        runs.append((size, read))
        if how(read) != FITS:
            break
    found = Swept(sweep.factor.name, tuple(runs), True)
    while bisect and (middle := between(found.largest, found.too_large)) is not None:
        read = run(sweep.cell(middle))
        if read is None:
            return Swept(sweep.factor.name, tuple(runs), False)
        runs.append((middle, read))
        found = Swept(sweep.factor.name, tuple(runs), True)
        if how(read) == FAILED:
            break
    return found


def between(largest: int | None, too_large: int | None) -> int | None:
    """The size to try next: half way. None where the two are close enough, or one is not known."""
    if largest is None or too_large is None or too_large - largest <= max(largest // RESOLUTION, 1):
        return None
    return (largest + too_large) // 2
