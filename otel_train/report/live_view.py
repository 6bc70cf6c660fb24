"""What the live display shows, from the figures of the moment."""

from rich.console import Group, RenderableType
from rich.text import Text

from otel_train.derive.recent import Recent
from otel_train.report import text

BAR_WIDTH = 30


def draw(now: Recent, total_steps: int | None = None) -> RenderableType:
    """Two lines: how far the run is, and how fast. The second is cut at the terminal's edge, the loss comes first."""
    if now.step is None:
        return Text("waiting for the first step", style="dim")
    return Group(_position(now, total_steps), _pace(now))


def time_left_s(now: Recent, total_steps: int | None) -> float | None:
    """Seconds until ``total_steps`` at the recent pace; None when either is not known."""
    if now.step is None or total_steps is None or not now.steps_per_s:
        return None
    return max(total_steps - now.step - 1, 0) / now.steps_per_s


def _position(now: Recent, total_steps: int | None) -> Text:
    line = Text.assemble(("step ", "dim"), (text.integer(now.step), "bold"), no_wrap=True, overflow="ellipsis")
    if total_steps and now.step is not None:
        done = min((now.step + 1) / total_steps, 1.0)
        filled = int(done * BAR_WIDTH)
        line.append(f" of {total_steps:,}  ", style="dim")
        line.append("━" * filled, style="green").append("─" * (BAR_WIDTH - filled), style="dim")
        line.append(f"  {done * 100:.0f} %")
    left = time_left_s(now, total_steps)
    if left is not None:
        line.append(f"  {text.seconds(left) if left >= 60 else f'{left:.0f} s'} left", style="dim")
    if now.epoch is not None:
        line.append(f"  epoch {now.epoch}", style="dim")
    return line


def _pace(now: Recent) -> Text:
    parts: list[tuple[str, str]] = []
    if now.loss is not None:
        parts.append((f"loss {text.number(now.loss)}", "bold"))
    for value, unit in ((now.steps_per_s, "steps"), (now.samples_per_s, "samples"), (now.tokens_per_s, "tokens")):
        if value is not None:
            parts.append((f"{text.amount(value)} {unit}/s", ""))
    if now.wait_share is not None:
        parts.append((f"{now.wait_share * 100:.0f} % data wait", "yellow" if now.wait_share > 0.25 else ""))
    line = Text(no_wrap=True, overflow="ellipsis")
    for index, (part, style) in enumerate(parts):
        line.append(" · " if index else "", style="dim").append(part, style=style)
    return line
