"""More of the report as plain tables: alerts, errors, profiles, and with what the run ran."""

from collections.abc import Iterable
from typing import Any

from otel_train.derive.changes import sentences
from otel_train.derive.secrets import setting_without_secrets, without_secrets
from otel_train.derive.summary import RunSummary, Summary
from otel_train.report import text
from otel_train.report.facts import MOST_ROWS, Grid

MOST_FAILED_SHOWN = 20
LONGEST_MESSAGE = 300


def urgent(run: RunSummary) -> list[str]:
    """What a reader has to know before all figures."""
    said = []
    if run.state in ("failed", "died"):
        ranks = sorted(rank for rank, state in run.states.items() if state in ("failed", "died"))
        who = "" if len(run.states) == 1 else f" (rank {', '.join(map(str, ranks))})"
        said.append(f"The run {run.state}{who}.")
    if run.merged.counts.failed:
        said.append(f"{text.plural(run.merged.counts.failed, 'step')} failed.")
    said += [f"Alert {rule}, not over: {one.last}" for rule, one in run.merged.alerts.items() if one.firing]
    said += [f"{name} is not finite any more." for name, one in run.merged.scalars.items() if not one.last_is_finite]
    return said


def changes(run: RunSummary) -> list[str]:
    """What changed during the run, in the order of time."""
    found = sentences(run.merged.changes, len(run.ranks))
    return [sentence[:1].upper() + sentence[1:] + "." * (not sentence.endswith(".")) for sentence in found]


def alerts(run: RunSummary) -> Grid | None:
    """The rules that fired: how often, for how long, and what the last one said."""
    rows = [
        (
            rule, total.severity, text.integer(total.count), text.seconds(total.time_s or None),
            "not over at the end" if total.firing else "over", total.last,
        )
        for rule, total in run.merged.alerts.items()
    ]  # fmt: skip
    headings = ("rule", "severity", "times", "in all", "", "what it said")
    return Grid("Alerts", headings, rows, (False, False, True, True, False, False)) if rows else None


def errors(run: RunSummary) -> Grid | None:
    """What failed."""
    counts = run.merged.counts
    rows = [
        (error.type, text.integer(error.count), error.phase or text.MISSING, text.integer(error.last_step),
         _short(error.message))
        for error in run.merged.errors[:MOST_ROWS]
    ]  # fmt: skip
    notes = []
    if counts.failed:
        shown = ", ".join(f"{step:,}" for step in run.merged.failed_steps[:MOST_FAILED_SHOWN])
        more = ", …" if len(run.merged.failed_steps) > MOST_FAILED_SHOWN else ""
        notes.append(f"{text.plural(counts.failed, 'step')} failed: {shown}{more}")
    headings = ("error", "times", "in phase", "last step", "message")
    numbers = (False, True, False, True, False)
    return Grid("Errors", headings, rows, numbers, tuple(notes)) if rows or notes else None


def _short(message: str) -> str:
    first = message.strip().splitlines()[0] if message.strip() else ""
    return first if len(first) <= LONGEST_MESSAGE else first[:LONGEST_MESSAGE] + "…"


def profiles(run: RunSummary) -> Grid | None:
    """The last profiles: what bounds each."""
    rows = []
    for profile in run.merged.profiles[-MOST_ROWS:]:
        what = f"step {profile.step:,}" if profile.name is None and profile.step is not None else str(profile.name)
        share = text.percent(profile.shares.get(profile.bound))
        rows.append((what, profile.reason, profile.bound, share, profile.operator or text.MISSING))
    headings = ("profile", "why", "bound by", "share", "most of it in")
    note = f"otel-train profile show {run.run_id} has the operators, and what to do."
    return Grid("Profiles", headings, rows, (False, False, False, True, False), (note,)) if rows else None


def machine(run: RunSummary) -> Grid:
    """Hardware, software, the commit, the command: what ranks have in common once."""
    rows = [*_of_all(run, _hardware), *_of_all(run, _software)]
    first = run.identities[min(run.identities)]
    git = first.get("git") or {}
    if git:
        rows.append(("commit", str(git.get("commit", text.MISSING)) + (" with changes" if git.get("dirty") else "")))
    process = first.get("process", {})
    if process.get("command"):
        rows.append(("command", " ".join(without_secrets(process["command"]))))
    if process.get("directory"):
        rows.append(("directory", str(process["directory"])))
    rows.append(("record", run.path))
    return Grid("Hardware and software", ("", ""), rows, (False, False))


def _of_all(run: RunSummary, facts: Any) -> list[tuple[str, str]]:
    return list(dict.fromkeys(fact for identity in run.identities.values() for fact in facts(identity)))


def _hardware(identity: dict[str, Any]) -> Iterable[tuple[str, str]]:
    hardware = identity.get("hardware") or {}
    cpu = hardware.get("cpu", {})
    if cpu:
        yield "CPU", (f"{cpu['count']} × " if "count" in cpu else "") + str(cpu.get("model", "unknown"))
    if "memory_bytes" in hardware:
        yield "memory", text.size(hardware["memory_bytes"])
    models = [f"{gpu.get('model', 'GPU')} ({text.size(gpu.get('memory_bytes'))})" for gpu in hardware.get("gpus", [])]
    for model in dict.fromkeys(models):
        yield "GPU", f"{models.count(model)} × {model}"
    if "driver" in hardware:
        yield "driver", str(hardware["driver"])


def _software(identity: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for name, version in (identity.get("software") or {}).items():
        yield str(name), str(version)


def settings(run: RunSummary) -> Grid | None:
    """The settings of otel_train that the first rank recorded with; what may be a secret is hidden."""
    known = run.identities[min(run.identities)].get("settings") or {}
    given = {str(name): value for name, value in known.items() if value not in (None, {}, [], "")}
    rows = [(name, setting_without_secrets(name, value)) for name, value in given.items()]
    return Grid("Settings of otel_train", ("", ""), rows, (False, False)) if rows else None


def ourselves(merged: Summary) -> list[str]:
    """What otel_train cost, and what is no longer there."""
    lines = []
    if merged.overhead_s is not None and merged.span and merged.span.stepping_s:
        share = merged.overhead_s / merged.span.stepping_s
        cost = f"{text.seconds(merged.overhead_s)} of the training threads, {share * 100:.2f} % of the step time"
        lines.append(f"otel_train took {cost}.")
    if merged.counts.lost:
        lost = text.plural(merged.counts.lost, "older step")
        lines.append(f"Not on disk any more: {lost} (OTEL_TRAIN_MAX_DISK). All figures are of the rest.")
    if merged.checkpoints_left_out:
        calls = text.plural(int(merged.checkpoints_left_out), "call")
        lines.append(f"{calls} of torch.save, torch.load and the like were small or read data: no checkpoints.")
    if merged.records_dropped:
        lines.append(f"{text.plural(int(merged.records_dropped), 'record')} could not be kept or sent.")
    return lines
