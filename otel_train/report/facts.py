"""The report as plain words and tables, for the renderers that write documents: the page and Markdown.

Each function gives a ``Grid`` of texts, or None where nothing is recorded. Nothing here is escaped: renderers do that.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from otel_train.derive.event_totals import CheckpointTotal
from otel_train.derive.measures import PhaseShare
from otel_train.derive.phases import OTHER
from otel_train.derive.summary import RunSummary, Summary
from otel_train.report import text

MOST_ROWS, LONGEST_CELL = 64, 500
"""Rows of a table, and characters in one of its cells; what is left out is said."""

LEAST_STAGE = 0.02
"""The part of the checkpoints' time from which a stage is shown."""


@dataclass(frozen=True)
class Grid:
    """A table of texts: the first column is left-aligned, the others as ``numbers`` says."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numbers: tuple[bool, ...]
    """For each column whether it holds numbers, which are right-aligned."""
    notes: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    """For each row a part of 1 that is drawn as a bar; empty where there is none."""


@dataclass(frozen=True)
class Figure:
    """One number at the top of the report, and what stands under it."""

    label: str
    value: str
    note: str = ""


def bounded(grid: Grid) -> Grid:
    """The same with at most ``MOST_ROWS`` rows and ``LONGEST_CELL`` characters a cell; rows left out are said."""
    rows = [
        tuple(cell if len(cell) <= LONGEST_CELL else cell[:LONGEST_CELL] + "…" for cell in row)
        for row in grid.rows[:MOST_ROWS]
    ]
    more = len(grid.rows) - MOST_ROWS
    notes = (*grid.notes[:MOST_ROWS], f"{more} more rows are in --json.") if more > 0 else grid.notes[:MOST_ROWS]
    return replace(grid, rows=rows, notes=notes, shares=grid.shares[:MOST_ROWS])


def headline(run: RunSummary) -> list[Figure]:
    """The first figures that one looks for; those that are not recorded are not there."""
    merged, times, span = run.merged, run.merged.step_time, run.merged.span
    found = []
    for name, rate, total in (
        ("samples", merged.samples_per_s, merged.counts.samples),
        ("tokens", merged.tokens_per_s, merged.counts.tokens),
        ("steps", merged.steps_per_s, steps_a_rank(run)),
    ):
        if rate.wall is not None:
            found.append(Figure(f"{name} a second", text.amount(rate.wall), f"{text.amount(total)} in all"))
    if times:
        found.append(
            Figure("a step", text.seconds(times.p50_s), f"median; 99 in 100 below {text.seconds(times.p99_s)}")
        )
    if merged.starvation:
        starved = text.percent(merged.starvation.starved_share)
        found.append(Figure("waiting for data", text.percent(merged.starvation.share), f"{starved} of steps starved"))
    if span:
        found.append(Figure("outside steps", text.percent(span.outside_share), f"of {text.seconds(span.wall_s)}"))
    if merged.packing and merged.packing.efficiency is not None:
        low = f"{text.percent(merged.packing.low_share)} of steps under 80 %"
        found.append(Figure("packing", text.percent(merged.packing.efficiency), low))
    if merged.checkpoint_share:
        found.append(Figure("checkpoints", text.percent(merged.checkpoint_share), "of the run"))
    return found


def subtitle(run: RunSummary) -> str:
    """When, how long, how many steps, ranks and hosts."""
    facts = [text.moment(run.started_unix_s)]
    if run.merged.span:
        facts.append(text.seconds(run.merged.span.wall_s))
    facts.append(text.plural(steps_a_rank(run), "step"))
    if run.merged.last_epoch is not None:
        facts.append(f"epoch {run.merged.last_epoch}")
    hosts = {identity.get("process", {}).get("host") for identity in run.identities.values()}
    if len(run.ranks) > 1:
        facts.append(f"{len(run.ranks)} ranks on {text.plural(len(hosts), 'host')}")
    return " · ".join(facts)


def steps_a_rank(run: RunSummary) -> int:
    """All ranks take the same steps; the rank that is furthest tells how many."""
    return max(summary.counts.training for summary in run.ranks)


def throughput(run: RunSummary) -> Grid | None:
    """Steps, samples and tokens a second, over the run and inside steps."""
    merged = run.merged
    if merged.span is None:
        return None
    rows = [
        (name, text.rate(rate.wall), text.rate(rate.stepping), text.integer(total))
        for name, rate, total in (
            ("samples", merged.samples_per_s, merged.counts.samples),
            ("tokens", merged.tokens_per_s, merged.counts.tokens),
            ("steps", merged.steps_per_s, steps_a_rank(run)),
        )
        if rate.wall is not None
    ]
    notes = []
    if merged.packing and merged.packing.efficiency is not None:
        lowest = text.percent(merged.packing.minimum)
        notes.append(
            f"{text.percent(merged.packing.efficiency)} of the tokens are no padding (packing): {lowest} in the worst "
            f"step, under 80 % in {text.percent(merged.packing.low_share)} of the steps."
        )
    return Grid(
        "Throughput", ("", "over the run", "inside steps", "in all"), rows, (False, True, True, True), tuple(notes)
    )


def step_time(run: RunSummary) -> Grid | None:
    """The percentiles of the step time."""
    times = run.merged.step_time
    if times is None:
        return None
    values = (times.min_s, times.p50_s, times.mean_s, times.p95_s, times.p99_s, times.max_s)
    headings = ("fastest", "median", "mean", "p95", "p99", "slowest")
    return Grid("Step time", headings, [tuple(map(text.seconds, values))], (True,) * len(values))


def phases(run: RunSummary) -> Grid | None:
    """Where a step's time goes; a nested phase follows the one around it."""
    merged = run.merged
    if not merged.phases or merged.span is None:
        return None
    gpu, nested = merged.gpu, nested_phases(merged.phases)
    headings = ("phase", "share", "a step", *(("on the GPU",) if gpu else ()), "times")
    rows = []
    for phase in nested:
        name = "\u2003" * phase.depth + ("in no phase" if phase.count is None else phase.name)
        on_gpu = (text.seconds(gpu.per_step_s(phase.name) if phase.depth == 0 else None),) if gpu else ()
        rows.append(
            (name, text.percent(phase.share), text.seconds(phase.per_step_s), *on_gpu, text.integer(phase.count))
        )
    return Grid(
        "Where a step's time goes", headings, rows, (False, *[True] * (len(headings) - 1)), tuple(_of_phases(merged)),
        tuple(phase.share for phase in nested),
    )  # fmt: skip


def _of_phases(merged: Summary) -> Iterable[str]:
    if merged.gpu:
        yield f"On the GPU: mean of {text.plural(merged.gpu.steps, 'timed step')}; of data_wait, what it waited."
    if merged.span:
        yield f"{text.percent(merged.span.outside_share)} of the run passed outside training steps."


def nested_phases(shares: Iterable[PhaseShare]) -> list[PhaseShare]:
    """The phases in reading order: each followed by those that lie in it."""
    known = list(shares)

    def below(depth: int, name: str | None) -> list[PhaseShare]:
        own = [share for share in known if share.depth == depth and (share.parent == name or depth == 0)]
        return [each for share in own for each in (share, *below(depth + 1, share.name))]

    return below(0, None) + [share for share in known if share.depth > 0 and share.parent is None]


def data_loading(run: RunSummary) -> Grid | None:
    """Waiting for data, and what it takes to fetch a batch."""
    merged, rows = run.merged, []
    if merged.starvation:
        wait = merged.starvation
        rows.append(("waited for data", text.seconds(wait.data_wait_s), f"{text.percent(wait.share)} of the step time"))
        starved = f"{text.percent(wait.starved_share)}: they waited more than half of their time"
        rows.append(("steps starved", text.integer(wait.starved_steps), starved))
    loading = merged.loading
    if loading:
        dataset, collate = (text.seconds(part / loading.batches) for part in (loading.dataset_s, loading.collate_s))
        who = text.plural(loading.workers, "worker") if loading.workers else "the training itself, without workers"
        rows.append(
            ("to fetch a batch", text.seconds(loading.fetch_s), f"dataset {dataset}, collate {collate}; by {who}")
        )
        longest = f"the longest fetch took {text.seconds(loading.longest_s)}"
        rows.append(("slowest worker", text.seconds(loading.slowest_s), f"its mean fetch; {longest}"))
        for each in loading.slowest_workers if len(loading.worker_s) > 1 else ():
            told = f"its mean fetch, of {text.plural(each.batches, 'batch').replace('batchs', 'batches')}"
            rows.append((f"worker {each.worker}", text.seconds(each.fetch_s), told))
    queue = merged.queue
    if queue:
        full = "" if queue.full_share is None else f", full in {text.percent(queue.full_share)}"
        capacity = "" if queue.capacity is None else f" of {queue.capacity}"
        empty = f"when a step asked; none in {text.percent(queue.empty_share)} of the steps{full}"
        rows.append(("batches ready", f"{text.number(queue.mean)}{capacity}", empty))
    return Grid("Data", ("", "", ""), rows, (False, True, False)) if rows else None


def ranks(run: RunSummary) -> Grid | None:
    """The ranks side by side; None for one."""
    if len(run.ranks) < 2:
        return None
    rows = []
    for summary in run.ranks[:MOST_ROWS]:
        rank, times = summary.ranks[0], summary.step_time
        rows.append((
            f"{rank}",
            text.seconds(times.p50_s if times else None),
            text.seconds(times.p99_s if times else None),
            text.percent(summary.starvation.share if summary.starvation else None),
            text.rate(summary.samples_per_s.wall),
            text.integer(summary.counts.training),
            str(run.identities[rank].get("process", {}).get("host") or text.MISSING),
            run.states[rank],
        ))  # fmt: skip
    notes = [] if run.slowest_rank is None else [f"Rank {run.slowest_rank} is the slowest by its median step."]
    if len(run.ranks) > MOST_ROWS:
        notes.append(f"{len(run.ranks) - MOST_ROWS} more ranks are in --json.")
    headings = ("rank", "median", "p99", "data wait", "samples", "steps", "host", "state")
    return Grid("Ranks", headings, rows, (False, *[True] * 5, False, False), tuple(notes))


def slowest_steps(run: RunSummary) -> Grid | None:
    """The slowest steps: when, and the phase that took most of the time."""
    rows = []
    for slow in run.merged.slowest:
        where = "in no phase" if slow.phase == OTHER else slow.phase
        share = text.percent(slow.phase_s / slow.duration_s if slow.duration_s else None)
        when = text.moment(slow.start_unix_s) + (", failed" if slow.failed else "")
        rows.append((f"{slow.step:,}", f"{slow.rank}", text.seconds(slow.duration_s), f"{where} {share}", when))
    numbers = (True, True, True, False, False)
    return Grid("Slowest steps", ("step", "rank", "time", "most of it in", "when"), rows, numbers) if rows else None


def events(run: RunSummary) -> Grid | None:
    """Checkpoints, evaluations, epochs, timed functions and phases outside steps."""
    merged = run.merged
    rows: list[tuple[str, ...]] = []
    for kind, checkpoint in merged.checkpoints.items():
        rows += _checkpoint(kind, checkpoint)
    rows += [_event(f"evaluation {name}", one.count, one.time_s) for name, one in merged.evaluations.items()]
    if merged.epochs.count:
        rows.append(_event("epochs", merged.epochs.count, merged.epochs.time_s))
    rows += [_event(name, one.count, one.time_s, "timed") for name, one in merged.timed.items()]
    rows += [_event(name, one.count, one.time_s, "outside steps") for name, one in merged.outside_phases.items()]
    rows += [_event(kind, one.count, one.time_s or None) for kind, one in merged.other_events.items()]
    headings = ("", "count", "time", "each", "")
    return Grid("Checkpoints and other events", headings, rows, (False, True, True, True, False)) if rows else None


def _checkpoint(kind: str, total: CheckpointTotal) -> list[tuple[str, ...]]:
    beside = total.time_s - total.blocking_s
    facts = [
        text.size(total.last_size_bytes) if total.last_size_bytes is not None else "",
        f"{text.size(total.rate)}/s" if total.rate else "",
        f"{text.seconds(beside)} beside the training" if beside > 0 else "",
        f"the longest {text.seconds(total.longest_s)}" if total.count > 1 else "",
        f"up to {total.most_at_once} at once" if total.most_at_once > 1 else "",
        f"{total.failed} failed" if total.failed else "",
        f"last: {PurePath(total.last_path).name}" if total.last_path else "",
    ]
    rows = [_event(f"checkpoint {kind}", total.count, total.time_s, ", ".join(filter(None, facts)))]
    for name, stage in sorted(total.stages.items(), key=lambda each: -each[1].time_s):
        if stage.time_s >= LEAST_STAGE * total.time_s:
            rows.append(_event(f"\u2003{name}", stage.count, stage.time_s))
    return rows


def _event(name: str, count: int, time_s: float | None, extra: str = "") -> tuple[str, ...]:
    each = time_s / count if time_s is not None and count else None
    return name, text.integer(count), text.seconds(time_s), text.seconds(each), extra


def scalars(run: RunSummary) -> Grid | None:
    """The ends of each logged value."""
    rows, notes = [], []
    for name, total in list(run.merged.scalars.items())[:MOST_ROWS]:
        last = text.number(total.last) if total.last_is_finite else "not finite"
        lowest = (text.number(total.min), text.integer(total.min_step))
        rows.append((name, text.number(total.first), last, *lowest, text.number(total.max)))
        if total.nonfinite:
            notes.append(f"{name} was not finite {total.nonfinite:,} of {total.count:,} times.")
    if len(run.merged.scalars) > MOST_ROWS:
        notes.append(f"{len(run.merged.scalars) - MOST_ROWS} more are in --json.")
    headings = ("", "first", "last", "lowest", "at step", "highest")
    return Grid("Logged values", headings, rows, (False, *[True] * 5), tuple(notes)) if rows else None
