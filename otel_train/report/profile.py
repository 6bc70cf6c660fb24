"""A profile on the terminal, and as JSON."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from otel_train.profiles.advice import advice, sentence
from otel_train.profiles.analysis import Analysis
from otel_train.profiles.compare import Change, kernel_changes, operator_changes
from otel_train.profiles.operators import Row
from otel_train.report import text
from otel_train.report.sections import Justify, columns

BAR_WIDTH = 10
SHORTEST_NAME = 24
COLUMN = 11
"""What a column of figures takes, the space before it included."""


def page(analysis: Analysis, title: str, rows: int, width: int) -> Iterator[RenderableType]:
    """The parts of the page, from the sentence to the tables; ``rows`` of each table, ``width`` columns of text."""
    yield Text(title, style="bold")
    yield Panel(Text(sentence(analysis)), title="What bounds this step", title_align="left", border_style="yellow")
    yield _shares(analysis)
    if analysis.slowdown_s:
        slower, whole = text.seconds(analysis.slowdown_s), text.seconds(analysis.window_s)
        yield Text(f"  The profiler itself took {slower} of the {whole}: they count in no share.", style="dim")
    facts = _facts(analysis)
    if facts.row_count:
        yield facts
    yield _operators(analysis, rows, width)
    if analysis.table.kernels:
        yield _kernels(analysis, rows, width)
    if analysis.waits:
        yield _waits(analysis, rows)
    yield from _advice(analysis)


def _shares(analysis: Analysis) -> Table:
    whose = "the GPU's time" if analysis.device is not None else "the time"
    table = columns(("share", "right"), ("", "left"), title=f"Where {whose} goes")
    for what, share in sorted(analysis.shares.items(), key=lambda known: -known[1]):
        if share >= 0.0005:
            table.add_row(f"  {what}", text.percent(share), Text(text.bar(share, BAR_WIDTH * 3), style="cyan"))
    return table


def _facts(analysis: Analysis) -> Table:
    table = columns(("", "left"), title="On the device")
    device = analysis.device
    if device is None:
        return table
    table.add_row("  busy", f"{text.seconds(device.busy_s)} of {text.seconds(device.window_s)}")
    each = f", {text.seconds(device.busy_s / device.kernels)} on average" if device.kernels else ""
    table.add_row(
        "  kernels", f"{text.integer(device.kernels)}{each}; launching took {text.seconds(device.launches_s)}"
    )
    if device.copies:
        size = f", {text.size(device.copied_bytes)}" if device.copied_bytes is not None else ""
        table.add_row("  copies", f"{text.integer(device.copies)}{size}, {text.seconds(device.copy_s)}")
    if device.communication_s:
        exposed = device.times_s["communication"]
        hidden = text.percent(1 - exposed / device.communication_s)
        table.add_row("  communication", f"{text.seconds(device.communication_s)}, {hidden} hidden behind computation")
    if device.tensor_core_share is not None:
        table.add_row(
            "  tensor cores", f"{text.percent(device.tensor_core_share)} of the matrix kernels, by their names"
        )
    if analysis.flops is not None:
        mfu = f", {text.percent(analysis.mfu)} of the peak (MFU)" if analysis.mfu is not None else ""
        table.add_row("  calculated", f"{text.amount(analysis.flops)} FLOP{mfu}")
    return table


def _shortened(name: str, width: int, columns_of_figures: int) -> str:
    """A name that leaves room for so many columns of figures."""
    room = max(width - columns_of_figures * COLUMN, SHORTEST_NAME)
    return name if len(name) <= room else name[: room - 1] + "…"


def _operators(analysis: Analysis, rows: int, width: int) -> Table:
    shown, rest = analysis.table.rows[:rows], analysis.table.rows[rows:]
    device = analysis.device is not None
    memory = any(row.memory is not None for row in analysis.table.rows)
    extra: list[tuple[str, Justify]] = [("device", "right")] if device else []
    extra += [("memory", "right")] if memory else []
    table = columns(
        ("share", "right"), ("self", "right"), ("total", "right"), *extra, ("calls", "right"),
        title="Operators",
    )  # fmt: skip

    def add(name: str, style: str, window_s: float, own_s: float, some: Sequence[Row], calls: str, total: str) -> None:
        device_s = sum(row.device_s for row in some)
        on_device = [text.seconds(device_s) if device_s else text.MISSING] if device else []
        held = sum(row.memory or 0 for row in some)
        in_memory = [("-" if held < 0 else "") + text.size(abs(held)) if held else text.MISSING] if memory else []
        share = text.percent(window_s / analysis.window_s)
        table.add_row(Text(f"  {name}", style), share, text.seconds(own_s), total, *on_device, *in_memory, calls)

    for row in shown:
        name = _shortened(row.name, width, 4 + len(extra))
        add(name, "", row.window_s, row.self_s, [row], text.integer(row.calls), text.seconds(row.total_s))
    if rest:
        window_s, own_s, calls = (sum(getattr(row, key) for row in rest) for key in ("window_s", "self_s", "calls"))
        add(text.plural(len(rest), "other"), "dim", window_s, own_s, rest, text.integer(calls), text.MISSING)
    none_s = analysis.table.none_s
    add("in no operator: Python, waiting", "dim", none_s, none_s, [], text.MISSING, text.MISSING)
    return table


def _kernels(analysis: Analysis, rows: int, width: int) -> Table:
    table = columns(("share", "right"), ("time", "right"), ("calls", "right"), title="Kernels and copies")
    assert analysis.device is not None
    shown, rest = analysis.table.kernels[:rows], analysis.table.kernels[rows:]
    for row in shown:
        share = row.device_s / analysis.device.window_s
        table.add_row(
            Text("  " + _shortened(short_kernel(row.name), width, 3)), text.percent(share), text.seconds(row.device_s),
            text.integer(row.calls),
        )  # fmt: skip
    if rest:
        took = sum(row.device_s for row in rest)
        table.add_row(
            Text(f"  {text.plural(len(rest), 'other')}", style="dim"), text.percent(took / analysis.device.window_s),
            text.seconds(took), text.integer(sum(row.calls for row in rest)),
        )  # fmt: skip
    return table


def short_kernel(name: str) -> str:
    """A kernel's name without its return type, its parameters and the namespaces that all of torch's share."""
    if not name.startswith("void "):
        return name
    depth, kept = 0, []
    for letter in name.removeprefix("void ").replace("(anonymous namespace)::", ""):
        if letter == "(" and depth == 0:
            break
        depth += (letter == "<") - (letter == ">")
        kept.append(letter)
    return "".join(kept).replace("at::native::", "").replace("c10::", "")


def _waits(analysis: Analysis, rows: int) -> Table:
    table = columns(("calls", "right"), ("waited", "right"), ("where", "left"), title="Waits for the GPU")
    for wait in analysis.waits[:rows]:
        where = wait.line or (f"in {wait.operator}" if wait.operator else "called by Python")
        table.add_row(f"  {wait.call}", text.integer(wait.calls), text.seconds(wait.waited_s), where)
    return table


def _advice(analysis: Analysis) -> Iterator[RenderableType]:
    found = advice(analysis)
    if found:
        yield Text("What to do", style="bold")
    for each in found:
        line = Text(f"  {each.action} ", overflow="fold")
        line.append(f"{each.evidence} At most {text.percent(each.saves)} of the step.", style="dim")
        yield line


def comparison(first: Analysis, second: Analysis, rows: int, width: int) -> Iterator[RenderableType]:
    """What takes longer in the second."""
    yield Text(f"Window: {text.seconds(first.window_s)} before, {text.seconds(second.window_s)} after")
    yield _changes(operator_changes(first, second)[:rows], "Operators", width)
    if first.device is not None and second.device is not None:
        yield _changes(kernel_changes(first, second)[:rows], "Kernels and copies", width)


def _changes(changes: Sequence[Change], title: str, width: int) -> Table:
    table = columns(("before", "right"), ("after", "right"), ("change", "right"), ("calls", "right"), title=title)
    for change in changes:
        style = "red" if change.slower_s > 0 else "green"
        sign = "+" if change.slower_s >= 0 else "-"
        table.add_row(
            Text("  " + _shortened(short_kernel(change.name), width, 5)),
            *map(text.seconds, change.times_s),
            Text(f"{sign}{text.seconds(abs(change.slower_s))}", style=style),
            f"{change.calls[0]:,} → {change.calls[1]:,}",
        )  # fmt: skip
    return table


def as_json(analysis: Analysis) -> dict[str, Any]:
    """Everything, times in s; what is not known is null."""
    return {
        "window_s": analysis.window_s,
        "slowdown_s": analysis.slowdown_s,
        "bound": analysis.bound,
        "sentence": sentence(analysis),
        "shares": analysis.shares,
        "no_operator_s": analysis.table.none_s,
        "operators": [_row(row) for row in analysis.table.rows],
        "kernels": [{"name": row.name, "calls": row.calls, "device_s": row.device_s} for row in analysis.table.kernels],
        "device": None if analysis.device is None else vars(analysis.device),
        "waits": [vars(wait) for wait in analysis.waits],
        "flops": analysis.flops,
        "mfu": analysis.mfu,
        "advice": [vars(each) for each in advice(analysis)],
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "name": row.name, "calls": row.calls, "self_s": row.self_s, "total_s": row.total_s, "window_s": row.window_s,
        "device_s": row.device_s, "memory": row.memory,
    }  # fmt: skip
