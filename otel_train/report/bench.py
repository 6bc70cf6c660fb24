"""A benchmark on a terminal: each cell with its interval, what is best, and what failed with which words."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.text import Text

from otel_train.bench.judging import BEATEN, BEST, EQUAL, ERROR, OPEN, UNKNOWN, Estimate, Judged
from otel_train.bench.matrix import Cell
from otel_train.bench.memory_sweep import Swept
from otel_train.bench.reading import DEFAULT_METRICS, RunRead
from otel_train.bench.rounds import CLEAR, COMPLETE, OUT_OF_TIME, STOPPED, Outcome, Plan
from otel_train.report import text
from otel_train.report.bench_sweep import sweep_table
from otel_train.report.terminal import print_plainly

WORDS = {BEST: "best", BEATEN: "worse", EQUAL: "as good", OPEN: "open", UNKNOWN: "-"}
ENDLESS = 1e6
"""A ratio that says nothing any more: the upper end of an interval from two runs."""
AHEAD = "ahead"
"""The best, while that is not clear."""
STYLES = {BEST: "bold green", BEATEN: "", EQUAL: "green", OPEN: "yellow", UNKNOWN: "red"}


@dataclass(frozen=True)
class Told:
    """All that is told of a benchmark."""

    name: str
    plan: Plan
    outcome: Outcome
    swept: Swept | None
    repeats_first: int | None
    """Rounds planned when it began, where that was in an earlier call."""


def in_unit(value: float | None, unit: str) -> str:
    """A measure's value as a person reads it."""
    if unit == "s":
        return text.seconds(value)
    if unit == "By":
        return text.size(value)
    if unit == "1":
        return text.percent(value)
    return text.rate(value) if unit.endswith("/s") else text.number(value)


def print_bench(told: Told, console: Console) -> None:
    """Print table, verdict and failures."""
    parts = [_header(told)]
    if told.swept is not None:
        parts.append(sweep_table(told.swept, told.outcome.metric, in_unit))
    if told.swept is None or told.plan.repeat > 1:
        parts.append(_table(told, console.width))
    parts += [Text("\n".join(conclusion(told))), *_failures(told)]
    lines = [line for part in parts for line in (part, "")]
    print_plainly(Group(*lines[:-1]), console)


def _header(told: Told) -> RenderableType:
    outcome = told.outcome
    direction = "higher" if outcome.higher_is_better else "lower"
    runs = _all_runs(told)
    failed = sum(run.problem is not None for run in runs)
    facts = [text.plural(len(runs), "run"), *([f"{failed} without a result"] if failed else [])]
    facts += [f"{outcome.metric.name} ({outcome.metric.unit or 'its own unit'}), {direction} is better"]
    return Group(Text(told.name, style="bold"), Text(" · ".join(facts), style="dim"))


def _table(told: Told, width: int) -> RenderableType:
    """A line a cell; two where name and numbers do not fit beside each other."""
    judged, unit = ranked(told.outcome), told.outcome.metric.unit
    rows: list[tuple[str, ...]] = [
        ("runs", "mean", f"{100 - ERROR * 100:g} % interval", "to the best", "its interval", "")
    ]
    rows += [_numbers(each, told, unit) for each in judged]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["   ".join(text.rjust(wide) for text, wide in zip(row, widths, strict=True)) for row in rows]
    longest = max(len(each.cell.label) for each in judged) if judged else 0
    is_wide = longest + len(lines[0]) + 4 <= width
    beside = longest if is_wide else 0
    shown = [Text(" " * (beside + 4) + lines[0], style="dim", no_wrap=True)]
    for each, line in zip(judged, lines[1:], strict=True):
        name, style = each.cell.label, STYLES[each.verdict]
        if not is_wide:
            shown.append(Text(f"  {name}", style=style, overflow="fold"))
        shown.append(Text(f"  {name if is_wide else '':<{beside}}  {line}", style=style, no_wrap=True))
    return Group(*shown)


def _numbers(judged: Judged, told: Told, unit: str) -> tuple[str, ...]:
    own = [run for run in told.outcome.runs if run.record.cell == judged.cell]
    mean = in_unit(judged.mean.middle if judged.mean else None, unit)
    return _runs(own), mean, _interval(judged.mean, unit), *_against(judged), word_of(judged, told)


def word_of(judged: Judged, told: Told) -> str:
    """What the verdict on a cell is called."""
    return AHEAD if judged.verdict == BEST and not told.outcome.judgement.is_clear else WORDS[judged.verdict]


def ranked(outcome: Outcome) -> list[Judged]:
    """The best first; at the end the cells without a number."""
    sign = -1 if outcome.higher_is_better else 1
    return sorted(outcome.judgement.cells, key=lambda each: sign * each.mean.middle if each.mean else float("inf"))


def _runs(own: Sequence[RunRead]) -> str:
    good = sum(run.problem is None for run in own)
    return f"{good}" if good == len(own) else f"{good} of {len(own)}"


def _interval(estimate: Estimate | None, unit: str) -> str:
    if estimate is None or estimate.low is None:
        return text.MISSING
    return f"{in_unit(estimate.low, unit)} .. {in_unit(estimate.high, unit)}"


def _against(judged: Judged) -> tuple[str, str]:
    ratio = judged.ratio
    if ratio is None or judged.verdict == BEST:
        return "", ""
    if ratio.low is None or ratio.high is None:
        return f"{_change(ratio.middle)} %", text.MISSING
    return f"{_change(ratio.middle)} %", f"{_change(ratio.low)} .. {_change(ratio.high)} %"


def _change(ratio: float) -> str:
    if ratio > ENDLESS:
        return "∞"
    percent = (ratio - 1) * 100
    return f"{percent:+,.1f}" if abs(percent) < 1000 else f"{percent:+,.0f}"


def conclusion(told: Told) -> list[str]:
    """Why it ended, what is best and how surely, and what to bear in mind."""
    return [_ending(told), *_verdict(told), *_caveats(told)]


def _ending(told: Told) -> str:
    outcome, rounds = told.outcome, text.plural(told.outcome.rounds, "whole round")
    return {
        CLEAR: f"Clear after {outcome.rounds} of {told.plan.repeat} rounds: the rest was not run.",
        COMPLETE: f"Done: {text.plural(told.plan.repeat, 'round')}.",
        OUT_OF_TIME: f"The time is up (--max-time) after {rounds}. The same command goes on from here.",
        STOPPED: f"Interrupted after {rounds}. The same command goes on from here.",
    }[outcome.reason]


def _verdict(told: Told) -> list[str]:
    found = told.outcome.judgement
    if told.swept is not None and not found.cells:
        return []  # that nothing fits is told with the sizes
    if found.best is None:
        known = any(each.mean for each in found.cells)
        return ["No ratios: the measure is not positive everywhere." if known else "No run has the measure."]
    if len(found.cells) == 1:
        return []
    if told.swept is not None and told.plan.repeat == 1:
        best = found.of(found.best).mean
        value = in_unit(best.middle if best else None, told.outcome.metric.unit)
        return [f"Best: {found.best.label} with {value}, by one run each: without an interval. --repeat 3 gives one."]
    open_ones = [each.cell.label for each in found.cells if each.verdict == OPEN]
    equal = [each.cell.label for each in found.cells if each.verdict == EQUAL]
    lines = [f"Best: {found.best.label}." if found.is_clear else f"Ahead, but not surely: {found.best.label}."]
    if equal:
        lines.append(f"As good within {told.plan.margin * 100:g} %: {', '.join(equal)}.")
    if open_ones:
        lines.append(f"Open: {', '.join(open_ones)}. {_remedy(told)}")
    if found.looks and found.level is not None:
        level = f"{found.level * 100:.4g} %"
        lines.append(
            f"Intervals against the best are at {level} each, so that all looks together err in {ERROR * 100:g} %."
        )
    return lines


def _remedy(told: Told) -> str:
    if told.plan.repeat == 1:
        return "One run each says nothing about how much runs differ: --repeat 3 and more."
    if told.outcome.reason in (OUT_OF_TIME, STOPPED):
        return "It takes more rounds."
    return f"{text.plural(told.plan.repeat, 'run')} each do not tell them apart: more --repeat, or longer runs."


def _caveats(told: Told) -> list[str]:
    outcome, lines = told.outcome, []
    if told.plan.metric is None and outcome.metric.name != DEFAULT_METRICS[0]:
        lines.append(
            f"Not every run knows its samples: {outcome.metric.name} was taken, which does not compare batch sizes."
        )
    if told.repeats_first is not None and told.plan.repeat > told.repeats_first > 1:
        lines.append(
            f"It was begun with --repeat {told.repeats_first}: deciding on more after a look makes the error up to "
            f"{200 * ERROR:g} %."
        )
    if outcome.given_up:
        given_up = ", ".join(cell.label for cell in outcome.given_up)
        lines.append(f"Not run again after failing twice: {given_up}.")
    skipped = sorted({run.skipped for run in outcome.runs if run.problem is None})
    if skipped:
        lines.append(f"Steps left out as warm-up: {_span(skipped)} of each run.")
    return lines


def _span(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _failures(told: Told) -> list[RenderableType]:
    """Of each cell the last failure, with its last words."""
    failed = [run for run in _all_runs(told) if run.problem is not None]
    if told.swept is not None:  # what did not fit is told with its figures
        failed = [run for run in failed if run.out_of_memory is None]
    last: dict[Cell, RunRead] = {run.record.cell: run for run in failed}
    parts: list[RenderableType] = []
    for cell, run in last.items():
        heading = Text.assemble((cell.label, "bold"), ": ", (run.problem or "", "red"))
        facts = Text(f"  run {run.record.run_id}, after {run.record.wall_s:.1f} s", style="dim")
        parts.append(Group(heading, facts, *(Text(f"  │ {line}", overflow="fold") for line in run.tail)))
    return parts


def _all_runs(told: Told) -> list[RunRead]:
    """Those of a sweep that did not fit are not among the runs that are judged."""
    judged = {run.record.run_id for run in told.outcome.runs}
    others = [read for _, read in told.swept.runs if read.record.run_id not in judged] if told.swept else []
    return [*told.outcome.runs, *others]
