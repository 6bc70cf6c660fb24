"""What a data set reads, from the probes of its workers: files and their sizes, bytes a batch, how fast."""

from dataclasses import dataclass

from otel_train.hooks.worker_probe import (
    BAD_FILES,
    CELLS,
    CPU_NS,
    FETCHES,
    FIELDS,
    FILE_BYTES,
    FILES,
    QUEUED_NS,
    READ_BYTES,
    ROWS,
    ROWS_AT,
    SIZES,
    SIZES_AT,
    WALL_NS,
)


@dataclass(frozen=True)
class Fetched:
    """One fetch of a worker. Times in s: in all, computing, ready without a CPU. None is not known."""

    wall_s: float
    cpu_s: float
    queued_s: float | None
    read_bytes: int | None

    @property
    def alone_s(self) -> float:
        """What it would have taken with a CPU at hand whenever it wanted one."""
        return max(self.wall_s - (self.queued_s or 0.0), self.cpu_s)


@dataclass(frozen=True)
class Reads:
    """What some fetches read. ``sizes`` counts files by the power of two: of 2**k to 2**(k+1) - 1 bytes at k."""

    fetches: int
    files: int
    file_bytes: int
    """The whole sizes of the files opened, of which a fetch may read a part."""
    unreadable: int
    sizes: tuple[int, ...]
    read_bytes: tuple[int, ...]
    """Of each fetch, as far as they are kept (the last 512 of a worker) and known: read from disk or cache."""
    rates: tuple[float, ...]
    """Of those, bytes a second of the fetch."""

    @property
    def mean_size(self) -> float | None:
        """Bytes a file; None without one."""
        return self.file_bytes / self.files if self.files else None


def fetches_of(cells: list[int], workers: int) -> list[list[Fetched]]:
    """By worker, its last fetches in their order."""
    return [_fetches(cells[worker * CELLS : (worker + 1) * CELLS]) for worker in range(workers)]


def _fetches(own: list[int]) -> list[Fetched]:
    count = own[FETCHES]
    rows = [own[at : at + FIELDS] for at in range(ROWS_AT, CELLS, FIELDS)]
    ordered = rows[:count] if count <= ROWS else rows[count % ROWS :] + rows[: count % ROWS]
    return [
        Fetched(
            row[WALL_NS] / 1e9,
            row[CPU_NS] / 1e9,
            row[QUEUED_NS] / 1e9 if row[QUEUED_NS] >= 0 else None,
            row[READ_BYTES] if row[READ_BYTES] >= 0 else None,
        )
        for row in ordered
    ]


def reads_of(cells: list[int], workers: int) -> Reads:
    """All workers' together."""
    starts = [worker * CELLS for worker in range(workers)]
    known = [each for own in fetches_of(cells, workers) for each in own if each.read_bytes is not None]
    fetches, files, file_bytes, bad = (
        sum(cells[at + field] for at in starts) for field in (FETCHES, FILES, FILE_BYTES, BAD_FILES)
    )
    return Reads(
        fetches,
        files,
        file_bytes,
        bad,
        tuple(sum(cells[at + SIZES_AT + size] for at in starts) for size in range(SIZES)),
        tuple(each.read_bytes or 0 for each in known),
        tuple((each.read_bytes or 0) / each.wall_s for each in known if each.wall_s > 0),
    )
