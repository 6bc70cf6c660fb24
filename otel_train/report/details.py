"""The lower parts of the terminal report: logged values, events, slow steps, errors, memory, hardware, ourselves."""

from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from otel_train.derive.event_totals import CheckpointTotal
from otel_train.derive.summary import RunSummary, Summary
from otel_train.report import circumstances, text
from otel_train.report.sections import columns

MOST_SCALARS = 12
MOST_FAILED_SHOWN = 8
MOST_STAGES = 6
LEAST_STAGE = 0.02
"""The part of the checkpoints' time from which a stage is shown."""


def scalars(summary: Summary, curve_width: int) -> RenderableType | None:
    """The ends and the course of each logged value."""
    if not summary.scalars:
        return None
    table = columns(
        ("first", "right"),
        ("last", "right"),
        ("min", "right"),
        ("at step", "right"),
        ("", "left"),
        title="Logged values",
    )
    for name, total in list(summary.scalars.items())[:MOST_SCALARS]:
        last = Text(text.number(total.last)) if total.last_is_finite else Text("not finite", style="red")
        curve = Text(text.sparkline(total.curve, curve_width) if curve_width and total.count > 1 else "", style="cyan")
        table.add_row(
            f"  {name}", text.number(total.first), last, text.number(total.min), text.integer(total.min_step), curve
        )
    lines: list[RenderableType] = [table]
    for name, total in summary.scalars.items():
        if total.nonfinite:
            lines.append(Text(f"  {name} was not finite {total.nonfinite:,} of {total.count:,} times", style="red"))
    if len(summary.scalars) > MOST_SCALARS:
        lines.append(Text(f"  and {len(summary.scalars) - MOST_SCALARS} more: see --json", style="dim"))
    return Group(*lines)


def events(summary: Summary) -> RenderableType | None:
    """Checkpoints, evaluations, epochs, timed functions and phases outside steps."""
    table = columns(("count", "right"), ("time", "right"), ("", "left"), title="Events")
    for kind, checkpoint in summary.checkpoints.items():
        size = text.size(checkpoint.last_size_bytes)
        path = PurePath(checkpoint.last_path).name if checkpoint.last_path else ""
        last = f"{size}, {text.size(checkpoint.rate)}/s" if checkpoint.rate else ""
        beside = checkpoint.time_s - checkpoint.blocking_s
        extra = f"{text.seconds(beside)} beside the training" if beside > 0 else ""
        if checkpoint.most_at_once > 1:
            extra += f", up to {checkpoint.most_at_once} at once"
        if checkpoint.count > 1:
            last = ", ".join(filter(None, (last, f"longest {text.seconds(checkpoint.longest_s)}")))
        _event(table, f"checkpoint {kind}", checkpoint.count, checkpoint.time_s, last, extra, path)
        _stages(table, checkpoint)
    for name, total in summary.evaluations.items():
        _event(table, f"evaluation {name}", total.count, total.time_s)
    if summary.epochs.count:
        each = f"{text.seconds(summary.epochs.time_s / summary.epochs.count)} each"
        _event(table, "epochs", summary.epochs.count, summary.epochs.time_s, each)
    for name, total in summary.timed.items():
        _event(table, name, total.count, total.time_s, "timed")
    for name, phase in summary.outside_phases.items():
        _event(table, name, phase.count, phase.time_s, "outside steps")
    for kind, total in summary.other_events.items():
        _event(table, kind, total.count, total.time_s or None)
    for column in table.columns[:-1]:  # where it gets narrow, the facts give way, not the figures
        column.min_width = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
    return table if table.row_count else None


def _stages(table: Table, checkpoint: CheckpointTotal) -> None:
    """What the checkpoints were made up of, but for what hardly took time."""
    for name, stage in sorted(checkpoint.stages.items(), key=lambda each: -each[1].time_s)[:MOST_STAGES]:
        if stage.time_s >= LEAST_STAGE * checkpoint.time_s:
            _event(table, f"  {name}", stage.count, stage.time_s)


def _event(table: Table, name: str, count: int, time_s: float | None, *facts: str) -> None:
    table.add_row(
        f"  {name}",
        text.integer(count),
        text.seconds(time_s),
        Text(", ".join(filter(None, facts)), style="dim", overflow="ellipsis"),
    )


def slowest_steps(run: RunSummary) -> RenderableType | None:
    """The slowest steps: when, and the phase that took most of the time."""
    if not run.merged.slowest:
        return None
    table = columns(("time", "right"), ("most of it in", "left"), ("when", "left"), title="Slowest steps")
    for slow in run.merged.slowest:
        where = f"{slow.phase} {text.percent(slow.phase_s / slow.duration_s if slow.duration_s else None)}"
        step = f"  {slow.step:,}" + (f" (rank {slow.rank})" if len(run.ranks) > 1 else "")
        when = text.moment(slow.start_unix_s) + ("  failed" if slow.failed else "")
        table.add_row(step, text.seconds(slow.duration_s), where, when)
    return table


MOST_PROFILES_SHOWN = 5


def profiles(run: RunSummary) -> RenderableType | None:
    """The last profiles: what bounds each, and what to type for more."""
    found = run.merged.profiles
    if not found:
        return None
    table = columns(("bound by", "left"), ("share", "right"), ("most of it in", "left"), title="Profiles")
    for profile in found[-MOST_PROFILES_SHOWN:]:
        what = f"step {profile.step:,}" if profile.name is None else profile.name
        share = text.percent(profile.shares.get(profile.bound))
        table.add_row(Text(f"  {what}"), profile.bound, share, profile.operator or text.MISSING)
    return Group(table, Text(f"  otel-train profile show {run.run_id} has the operators, and what to do", style="dim"))


ALERT_STYLES = {"info": "cyan", "warning": "yellow", "critical": "red"}


def alerts(summary: Summary) -> RenderableType | None:
    """The rules that fired: how often, for how long, and what the last one said."""
    if not summary.alerts:
        return None
    lines = [Text("Alerts", style="bold")]
    for rule, total in summary.alerts.items():
        times = f" {total.count:,} times" if total.count > 1 else ""
        long = f", {text.seconds(total.time_s)} in all" if total.time_s else ""
        still = ", not over at the end" if total.firing else ""
        style = ALERT_STYLES.get(total.severity, "")
        lines.append(Text.assemble("  ", (rule, style), f"{times}{long}{still}: {total.last}"))
    return Group(*lines)


def errors(summary: Summary) -> RenderableType | None:
    """What failed."""
    if not summary.errors and not summary.counts.failed:
        return None
    lines = [Text("Errors", style="bold")]
    if summary.counts.failed:
        shown = ", ".join(f"{step:,}" for step in summary.failed_steps[:MOST_FAILED_SHOWN])
        more = ", …" if len(summary.failed_steps) > MOST_FAILED_SHOWN else ""
        lines.append(Text(f"  {text.plural(summary.counts.failed, 'step')} failed: {shown}{more}", style="red"))
    for error in summary.errors:
        where = f" in {error.phase}" if error.phase else ""
        count = f"{error.count:,} × " if error.count > 1 else ""
        first = f": {error.message.splitlines()[0]}" if error.message else ""
        line = Text.assemble(f"  {count}", (error.type, "red"), where, first, no_wrap=True, overflow="ellipsis")
        lines.append(line)
    return Group(*lines)


def machine(run: RunSummary) -> RenderableType | None:
    """Memory at its highest, and what the run ran on."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="ellipsis", no_wrap=True)
    for name, total in run.merged.resources.items():
        if name.endswith(("peak", "reserved")):
            grid.add_row(f"  {name}", f"{text.size(total.max)}{' (the highest rank)' if len(run.ranks) > 1 else ''}")
    hardware = [identity.get("hardware", {}) for identity in run.identities.values()]
    for label, value in _distinct(fact for each in hardware for fact in _hardware_facts(each)):
        grid.add_row(f"  {label}", value)
    software = run.identities[min(run.identities)].get("software", {})
    known = [f"{name} {software[name]}" for name in ("python", "torch", "cuda", "numpy") if name in software]
    if known:
        grid.add_row("  software", ", ".join(known))
    git = run.identities[min(run.identities)].get("git", {})
    if git:
        grid.add_row("  commit", str(git.get("commit", ""))[:12] + (" with changes" if git.get("dirty") else ""))
    return Group(Text("Memory and hardware", style="bold"), grid) if grid.row_count else None


def _hardware_facts(hardware: dict[str, Any]) -> list[tuple[str, str]]:
    facts = []
    cpu = hardware.get("cpu", {})
    if cpu:
        count = f"{cpu['count']} × " if "count" in cpu else ""
        facts.append(("CPU", f"{count}{cpu.get('model', 'unknown')}"))
    if "memory_bytes" in hardware:
        facts.append(("memory", text.size(hardware["memory_bytes"])))
    models = [f"{gpu.get('model', 'GPU')} ({text.size(gpu.get('memory_bytes'))})" for gpu in hardware.get("gpus", [])]
    facts += [("GPU", f"{models.count(model)} × {model}") for model in dict.fromkeys(models)]
    if "driver" in hardware:
        facts.append(("driver", str(hardware["driver"])))
    return facts


def _distinct(facts: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(facts))


def ourselves(summary: Summary) -> RenderableType | None:
    """What otel_train cost, and what is no longer there."""
    lines = circumstances.ourselves(summary)
    return Text("\n".join(lines), style="dim") if lines else None
