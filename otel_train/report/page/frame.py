"""What all figures of the page share: colours that both schemes bear, the axis of time, legends, and the marks.

Canvases are transparent and their texts of a middle grey: one drawing is legible on light, on dark and on paper.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from bokeh.models import (
    BasicTickFormatter,
    ColumnDataSource,
    CustomJS,
    DatetimeTickFormatter,
    HoverTool,
    Legend,
    LegendItem,
    PlainText,
    Range1d,
)
from bokeh.plotting import figure

from otel_train import names
from otel_train.derive.history import Mark

INK, GRID = "#7a7d82", "#80808033"
"""A contrast of 4.1 to 1 on the page's white and on its dark ground."""

COLOURS = (
    "#2f80d0", "#d9730d", "#2f9e54", "#d9484d", "#8f6bd8", "#0f98a6", "#d0549a", "#8a8420",
    "#a8714c", "#6480a8", "#5c8fe6", "#b8860b", "#4a9a8a", "#c0605a", "#a05fc0", "#7d8f3a",
)  # fmt: skip
"""Of lines, in this order: at least 3 to 1 on white and on dark."""

MOST_LINES = len(COLOURS)
LEGEND_PIXELS, CHARACTER_PIXELS, SAMPLE_PIXELS, ROW_PIXELS = 330, 6.6, 34, 16
"""A legend fits on a telephone: so many columns as that."""

CHANGE = "change"
"""Not an event: what the report found to have changed."""

MARK_COLOURS = {
    names.CHECKPOINT: "#2f9e54", names.EVALUATION_KIND: "#2f80d0", names.ALERT: "#d9484d", names.ERROR: "#c02f9e",
    CHANGE: "#d9730d",
}  # fmt: skip
MARK_NAMES = {
    names.CHECKPOINT: "checkpoints", names.EVALUATION_KIND: "evaluations", names.ALERT: "alerts", names.ERROR: "errors",
    CHANGE: "changes",
}  # fmt: skip

FOLLOW = "for (const one of together) one.visible = this.visible"
TOOLS = "xbox_zoom,xpan,xwheel_zoom,reset"


@dataclass
class Frame:
    """The axis of time that all figures share, and what goes on and off together in them."""

    start_unix_s: float
    end_unix_s: float
    toggles: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    followers: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    """Renderers by key: those in a legend, and those that go with them."""
    _range: Any = None

    def moments(self, unix_s: Any) -> Any:
        """Unix s as Bokeh's ms, on the local clock: it knows no time zones."""
        return (np.asarray(unix_s, dtype=np.float64) + self.offset_s) * 1e3

    @property
    def offset_s(self) -> float:
        """Of the local clock from UTC when the run started."""
        offset = datetime.fromtimestamp(self.start_unix_s).astimezone().utcoffset()
        return offset.total_seconds() if offset else 0.0

    def over_time(
        self, height: int, unit: str, top: float | None = None, marks: Sequence[Mark] = (), from_zero: bool = True
    ) -> Any:
        """A figure over the run's time: zooming one zooms all."""
        if self._range is None:
            start, end = self.moments((self.start_unix_s, self.end_unix_s))
            margin = max((end - start) * 0.01, 1.0)
            self._range = Range1d(start - margin, end + margin, bounds=(start - 20 * margin, end + 20 * margin))
        shown = plain(height, unit, tools=TOOLS, x_axis_type="datetime", x_range=self._range)
        shown.xaxis.formatter = DatetimeTickFormatter(
            microseconds="%H:%M:%S.%3N", milliseconds="%H:%M:%S.%3N", seconds="%H:%M:%S", minsec="%H:%M:%S",
            minutes="%H:%M", hourmin="%H:%M", hours="%H:%M", days="%d %b", months="%d %b", years="%b %Y",
        )  # fmt: skip
        if from_zero:
            shown.y_range.start = 0.0
        if top is not None:
            shown.y_range.end = top
        self._mark(shown, marks)
        return shown

    def _mark(self, shown: Any, marks: Sequence[Mark]) -> None:
        for kind, colour in MARK_COLOURS.items():
            own = [mark for mark in marks if mark.kind == kind]
            if not own:
                continue
            x0, x1 = self.moments([mark.start_unix_s for mark in own]), self.moments([mark.end_unix_s for mark in own])
            source = ColumnDataSource({"x0": x0, "x1": x1})
            thin = kind in (names.ALERT, names.ERROR, CHANGE)
            band = shown.vstrip(
                "x0", "x1", source=source, fill_color=colour, fill_alpha=0.16, line_color=colour,
                line_alpha=0.9 if thin else 0.35, line_width=1.4 if thin else 1,
                line_dash="dashed" if thin else "solid", level="underlay",
            )  # fmt: skip
            self.toggles[kind].append(band)

    def link(self) -> None:
        """What one legend hides, all figures hide."""
        for key, masters in self.toggles.items():
            together = [*masters, *self.followers.get(key, ())]
            if len(together) > 1:
                hide = CustomJS(args={"together": together}, code=FOLLOW)
                for master in masters:
                    master.js_on_change("visible", hide)


def plain(height: int, unit: str, **more: Any) -> Any:
    """A figure without a ground of its own."""
    more.setdefault("tools", "reset")
    shown = figure(
        height=height, sizing_mode="stretch_width", toolbar_location="above", toolbar_inner=True,
        background_fill_color=None, border_fill_color=None, outline_line_color=None,
        min_border_left=58, min_border_right=14, **more,
    )  # fmt: skip
    shown.toolbar.logo, shown.toolbar.autohide = None, True
    shown.axis.axis_line_color = shown.axis.major_tick_line_color = INK
    shown.axis.minor_tick_line_color = None
    shown.axis.major_label_text_color = shown.axis.axis_label_text_color = INK
    shown.axis.axis_label_text_font_style = "normal"
    shown.grid.grid_line_color = GRID
    shown.yaxis.axis_label = PlainText(text=unit)
    if "y_range" not in more:
        shown.yaxis.formatter = BasicTickFormatter(power_limit_low=-4, power_limit_high=6)
    return shown


def add_legend(shown: Any, items: Sequence[tuple[str, Sequence[Any]]]) -> None:
    """Above the figure; a click hides and shows. No legend for nothing."""
    if not items:
        return
    longest = max(len(label) for label, _ in items) * CHARACTER_PIXELS + SAMPLE_PIXELS
    columns = min(max(int(LEGEND_PIXELS // longest), 1), len(items))
    shown.height += ROW_PIXELS * -(-len(items) // columns)
    legend = Legend(
        items=[LegendItem(label={"value": literal(label)}, renderers=list(renderers)) for label, renderers in items],
        ncols=columns, click_policy="hide", label_text_color=INK,
        background_fill_color=None, border_line_color=None, inactive_fill_color="#80808055",
        label_text_font_size="11px", padding=2, spacing=2, margin=2,
        glyph_width=16, glyph_height=12, label_height=14, label_standoff=4,
    )  # fmt: skip
    shown.add_layout(legend, "above")


def add_hover(shown: Any, renderers: Sequence[Any], tips: Sequence[tuple[str, str]], mode: str = "mouse") -> None:
    """What the pointer says over them; ``@{x}`` is a moment."""
    tool = HoverTool(
        renderers=list(renderers), tooltips=[(literal(label), value) for label, value in tips], mode=mode,
        formatters={"@x": "datetime"}, point_policy="follow_mouse", attachment="horizontal",
    )  # fmt: skip
    shown.add_tools(tool)


def literal(text: str) -> str:
    """Bokeh takes what stands between ``$$`` for TeX and asks a network for its renderer: so none stands there."""
    return re.sub(r"\$(?=\$)|\\(?=[(\[])", "\\g<0>\u200b", text)


def single(values: Any) -> Any:
    """Half the size, which is more than a picture shows."""
    return np.asarray(values, dtype=np.float32)
