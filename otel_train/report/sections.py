"""The parts of the terminal report. Each gives something that rich can draw, or None where nothing is recorded."""

from collections.abc import Iterable
from typing import Literal

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from otel_train.derive.bottleneck import Verdict
from otel_train.derive.data_loading import DataLoading
from otel_train.derive.evidence import COMPUTE, UNKNOWN
from otel_train.derive.measures import PhaseShare
from otel_train.derive.summary import RunSummary, Summary
from otel_train.report import text

STATE_STYLES = {"running": "cyan", "finished": "green", "failed": "red", "died": "red", "unknown": "yellow"}

PHASE_STYLES = {"data_wait": "yellow", "forward": "blue", "backward": "magenta", "optimizer": "cyan", "other": "dim"}

Justify = Literal["left", "right"]


def columns(*headings: tuple[str, Justify], title: str = "") -> Table:
    """A table without lines; the first column, under the section's title, takes what it needs."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(Text(title, style="bold not dim"), no_wrap=True, overflow="ellipsis")
    for heading, justify in headings:
        table.add_column(heading, justify=justify, no_wrap=True, overflow="ellipsis")
    return table


def header(run: RunSummary) -> RenderableType:
    """Who, when, how long."""
    first = run.identities[min(run.identities)]
    state = run.state
    line = Text.assemble(
        (str(first.get("service_name") or "training"), "bold"), "  ", (run.run_id, "dim"), "  ",
        (state, STATE_STYLES.get(state, "")),
        no_wrap=True, overflow="ellipsis",
    )  # fmt: skip
    span = run.merged.span
    facts = [text.moment(run.started_unix_s)]
    if span:
        facts.append(text.seconds(span.wall_s))
    facts.append(text.plural(_steps_a_rank(run.ranks), "step"))
    if run.merged.last_epoch is not None:
        facts.append(f"epoch {run.merged.last_epoch}")
    if len(run.ranks) > 1:
        hosts = {identity.get("process", {}).get("host") for identity in run.identities.values()}
        facts.append(f"{len(run.ranks)} ranks on {text.plural(len(hosts), 'host')}")
    return Group(line, Text(" · ".join(facts), style="dim", no_wrap=True, overflow="ellipsis"))


def _steps_a_rank(ranks: Iterable[Summary]) -> int:
    """All ranks take the same steps; the rank that is furthest tells how many."""
    return max(summary.counts.training for summary in ranks)


def verdict(found: Verdict) -> RenderableType:
    """The sentence on what bounds the run, and what weakens it."""
    word, _, rest = found.sentence.partition(":")
    style = "green" if found.verdict == COMPUTE else "dim" if found.verdict == UNKNOWN else "yellow"
    lines = [Text.assemble((word, f"bold {style}"), ":", rest)]
    lines += [Text(caveat, style="dim") for caveat in found.caveats]
    return Panel(Group(*lines), title="What bounds this run", title_align="left", border_style=style, padding=(0, 1))


def throughput(run: RunSummary) -> RenderableType | None:
    """Steps, samples and tokens a second."""
    summary = run.merged
    if summary.span is None:
        return None
    table = columns(("over the run", "right"), ("inside steps", "right"), ("in all", "right"), title="Throughput")
    counts = summary.counts
    for name, rate, total in (
        ("samples", summary.samples_per_s, counts.samples),
        ("tokens", summary.tokens_per_s, counts.tokens),
        ("steps", summary.steps_per_s, _steps_a_rank(run.ranks)),
    ):
        table.add_row(f"  {name}", text.rate(rate.wall), text.rate(rate.stepping), text.integer(total))
    if summary.packing_efficiency is None:
        return table
    worst = ""
    if summary.packing and summary.packing.minimum is not None:
        low = text.percent(summary.packing.low_share)
        worst = f"; worst step {text.percent(summary.packing.minimum)}, {low} of the steps under 80 %"
    packing = text.percent(summary.packing_efficiency)
    return Group(table, Text(f"  packing   {packing} of the tokens are no padding{worst}"))


def step_time(summary: Summary, curve_width: int) -> RenderableType | None:
    """Percentiles of the step time, and its course."""
    times = summary.step_time
    if times is None:
        return None
    names: tuple[tuple[str, Justify], ...] = tuple((name, "right") for name in ("p50", "p95", "p99", "mean", "max"))
    table = columns(*names, title="Step time")
    values = (times.p50_s, times.p95_s, times.p99_s, times.mean_s, times.max_s)
    table.add_row("", *(text.seconds(value) for value in values))
    draws = curve_width > 0 and len(summary.step_time_curve) > 1
    curve = text.sparkline(summary.step_time_curve, curve_width, from_zero=True) if draws else ""
    return Group(table, Text.assemble("  ", (curve, "cyan"), ("  first to last step", "dim"))) if curve else table


def phases(summary: Summary, bar_width: int) -> RenderableType | None:
    """Where the time of a step goes, nested phases under theirs, and how much passes between steps."""
    if not summary.phases or summary.span is None:
        return None
    gpu = summary.gpu
    on_gpu: tuple[tuple[str, Justify], ...] = (("on the GPU", "right"),) if gpu else ()
    table = columns(("share", "right"), ("a step", "right"), *on_gpu, ("", "left"), title="Where a step's time goes")
    for phase in _nested(summary.phases):
        name = phase.name if phase.count is not None else f"{phase.name} (in no phase)"
        style = PHASE_STYLES.get(phase.name, "green") if phase.depth == 0 else "dim"
        bar = Text(text.bar(phase.share, bar_width), style=style)
        indented = Text("  " * (phase.depth + 1) + name, style="dim" if phase.depth else "")
        gpu_s = [text.seconds(gpu.per_step_s(phase.name) if phase.depth == 0 else None)] if gpu else []
        table.add_row(indented, text.percent(phase.share), text.seconds(phase.per_step_s), *gpu_s, bar)
    lines: list[RenderableType] = [table]
    if gpu:
        lines.append(
            Text(f"  on the GPU: mean of {text.plural(gpu.steps, 'timed step')}; of data_wait, what it waited")
        )
    if summary.starvation:
        starved = text.plural(summary.starvation.starved_steps, "step")
        share = text.percent(summary.starvation.starved_share)
        lines.append(Text(f"  {starved} ({share}) waited for data for more than half of their time"))
    lines += _fetching(summary)
    lines.append(Text(f"  {text.percent(summary.span.outside_share)} of the run passed outside training steps"))
    return Group(*lines)


def _fetching(summary: Summary) -> list[RenderableType]:
    """What it takes to fetch a batch, and by how many workers."""
    loading = summary.loading
    if loading is None:
        return []
    dataset, collate = (text.seconds(part / loading.batches) for part in (loading.dataset_s, loading.collate_s))
    who = text.plural(loading.workers, "worker") if loading.workers else "the training itself, without workers"
    return [
        Text(
            f"  a batch takes {text.seconds(loading.fetch_s)} to fetch: dataset {dataset}, collate {collate}; by {who}"
        ),
        *_queue(summary, loading),
    ]


UNEVEN = 1.5
"""From this on the slowest worker is told: so many times the median one's mean fetch."""


def _queue(summary: Summary, loading: DataLoading) -> list[RenderableType]:
    """Whether the workers keep ahead, and whether one of them does not."""
    lines: list[RenderableType] = []
    if summary.queue is not None:
        empty, full = text.percent(summary.queue.empty_share), summary.queue.full_share
        filled = "" if full is None else f", {text.percent(full)} all that fit ({summary.queue.capacity})"
        lines.append(Text(f"  {empty} of the steps found no batch ready{filled}"))
    if loading.imbalance is not None and loading.imbalance >= UNEVEN:
        slow = loading.slowest_workers[0]
        times = f"{loading.imbalance:.1f} times the median worker's"
        lines.append(Text(f"  worker {slow.worker} is slow: {text.seconds(slow.fetch_s)} a batch, {times}"))
    return lines


def _nested(shares: Iterable[PhaseShare]) -> list[PhaseShare]:
    """The phases in reading order: each followed by those that lie in it."""
    known = list(shares)

    def below(depth: int, name: str | None) -> list[PhaseShare]:
        own = [share for share in known if share.depth == depth and (share.parent == name or depth == 0)]
        return [each for share in own for each in (share, *below(depth + 1, share.name))]

    orphans = [share for share in known if share.depth > 0 and share.parent is None]
    return below(0, None) + orphans


def ranks(run: RunSummary) -> RenderableType | None:
    """The ranks side by side; nothing for one."""
    if len(run.ranks) < 2:
        return None
    table = columns(
        ("p50", "right"), ("p99", "right"), ("data wait", "right"), ("samples", "right"), ("steps", "right"),
        ("state", "left"), title="Ranks",
    )  # fmt: skip
    for summary in run.ranks:
        rank, times = summary.ranks[0], summary.step_time
        table.add_row(
            f"  {rank}",
            text.seconds(times.p50_s if times else None),
            text.seconds(times.p99_s if times else None),
            text.percent(summary.starvation.share if summary.starvation else None),
            text.rate(summary.samples_per_s.wall),
            text.integer(summary.counts.training),
            Text(run.states[rank], style=STATE_STYLES.get(run.states[rank], "")),
        )
    return Group(table, *_slowest_rank(run))


def _slowest_rank(run: RunSummary) -> list[RenderableType]:
    medians = {each.ranks[0]: each.step_time.p50_s for each in run.ranks if each.step_time}
    slowest = run.slowest_rank
    if slowest is None or not min(medians.values()):
        return []
    behind = medians[slowest] / min(medians.values()) - 1
    if behind < 0.01:
        return [Text("  all ranks are equally fast (median steps within 1 %)", style="dim")]
    longer = f"{behind * 100:.0f} % longer than the fastest rank's"
    return [Text(f"  rank {slowest} is the slowest: its median step is {longer}")]


def indented(renderable: RenderableType) -> RenderableType:
    """Two columns in from the left."""
    return Padding(renderable, (0, 0, 0, 2))
