"""The part of the terminal report that says what to set, and what that would gain."""

from rich.console import Group, RenderableType
from rich.text import Text

from otel_train.derive.loading_advice import Advice, advise
from otel_train.derive.summary import RunSummary
from otel_train.report.sections import indented


def settings(run: RunSummary) -> RenderableType | None:
    """A line for each setting that would help; None where none would."""
    found = advise(run.loading_facts)
    if not found:
        return None
    lines = [Text.assemble((f"{each.setting}={each.to}", "green"), f"{_gain(each)}: {each.why}") for each in found]
    return Group(Text("What to set", style="bold"), *(indented(line) for line in lines))


def _gain(advice: Advice) -> str:
    now = "" if advice.now is None else f" (now {advice.now})"
    if advice.gain is None:
        return f"{now}, gain not known"
    return f"{now}, {'at most ' if advice.at_most else ''}{(advice.gain - 1) * 100:+.0f} % throughput"
