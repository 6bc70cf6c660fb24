"""Panels and dashboards in one style."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as look
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from stack.dashboards.series import RANK, RUN

PROMETHEUS = model.DataSourceRef(type_val="prometheus", uid="prometheus")
WIDTH, HEIGHT = 24, 8
TAG = "otel_train"
Query = tuple[str, str]
"""An expression, and the legend of its series."""


def chart(
    title: str, unit: str, *queries: Query, says: str, stacked: bool = False, exemplars: bool = False,
    width: int = 12, top: float | None = None, none: str | None = None,
) -> timeseries.Panel:  # fmt: skip
    """Lines over time; ``says`` is what a reader should take from it, ``none`` what stands where there are no data."""
    panel = timeseries.Panel().title(title).description(says).unit(unit).datasource(PROMETHEUS)
    panel = panel.span(width).height(HEIGHT).min(0).line_width(1).fill_opacity(40 if stacked else 8)
    panel = panel.show_points(look.VisibilityMode.AUTO).span_nulls(60_000)
    panel = panel.tooltip(common.VizTooltipOptions().mode(look.TooltipDisplayMode.MULTI))
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(look.StackingMode.NORMAL))
    if top is not None:
        panel = panel.max(top)
    if none is not None:
        panel = panel.no_value(none)
    for number, (expression, legend) in enumerate(queries):
        panel = panel.with_target(_query(expression, legend, number).range().exemplar(exemplars and number == 0))
    return panel


def figure(title: str, unit: str, expression: str, says: str, decimals: int = 1) -> stat.Panel:
    """One number, now."""
    panel = stat.Panel().title(title).description(says).unit(unit).decimals(decimals).datasource(PROMETHEUS)
    panel = panel.span(4).height(4).graph_mode(look.BigValueGraphMode.AREA)
    return panel.with_target(_query(expression, title, 0).range())


def heat(title: str, unit: str, expression: str, says: str) -> heatmap.Panel:
    """A native histogram over time."""
    panel = heatmap.Panel().title(title).description(says).unit(unit).datasource(PROMETHEUS).span(12).height(HEIGHT)
    panel = panel.calculate(False).tooltip(heatmap.HeatmapTooltip().mode(look.TooltipDisplayMode.SINGLE))
    return panel.with_target(_query(expression, "", 0).range().format(PromQueryFormat.HEATMAP))


def listing(title: str, says: str, *queries: Query) -> table.Panel:
    """A row for each run, a column for each query."""
    panel = table.Panel().title(title).description(says).datasource(PROMETHEUS).span(WIDTH).height(12)
    for number, (expression, legend) in enumerate(queries):
        query = _query(expression, legend, number).instant().format(PromQueryFormat.TABLE)
        panel = panel.with_target(query)
    hidden = {"Time": True}
    renamed = {f"Value #{chr(65 + number)}": legend for number, (_, legend) in enumerate(queries)}
    panel = panel.with_transformation(
        model.DataTransformerConfig(id_val="joinByField", options={"byField": RUN, "mode": "outer"})
    )
    hidden |= {f"Time {number + 1}": True for number in range(len(queries))}
    organize = {"excludeByName": hidden, "renameByName": {RUN: "run", **renamed}}
    return panel.with_transformation(model.DataTransformerConfig(id_val="organize", options=organize))


def _query(expression: str, legend: str, number: int) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(chr(65 + number)).datasource(PROMETHEUS)


def page(
    uid: str, title: str, says: str, rows: Sequence[tuple[str, Sequence[Builder[model.Panel]]]], ranks: bool = True
) -> dashboard.Dashboard:
    """A dashboard of rows, with the run, and the rank, to choose, and links to the others."""
    built = dashboard.Dashboard(title).uid(f"otel-train-{uid}").description(says).tags([TAG]).refresh("10s")
    built = built.time("now-30m", "now").readonly().tooltip(model.DashboardCursorSync.CROSSHAIR)
    others = dashboard.DashboardLink("otel_train").type(model.DashboardLinkType.DASHBOARDS).tags([TAG])
    built = built.link(others.include_vars(True).keep_time(True).as_dropdown(False))
    built = built.with_variable(_choice("run", "Run", f"label_values(dl_step_count_total, {RUN})"))
    if ranks:
        ranks_of = f'label_values(dl_step_count_total{{{RUN}=~"$run"}}, {RANK})'
        built = built.with_variable(_choice("rank", "Rank", ranks_of))
    for name, panels in rows:
        built = built.with_row(dashboard.Row(name))
        for panel in panels:
            built = built.with_panel(panel)
    return built


def _choice(name: str, label: str, values: str) -> dashboard.QueryVariable:
    """All of them at first; the newest runs come first in the list, as their ids have the date in them."""
    choice = dashboard.QueryVariable(name).label(label).datasource(PROMETHEUS).query(values).multi(True)
    choice = choice.include_all(True).all_value(".*").refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
    return choice.sort(model.VariableSort.NUMERICAL_DESC if name == "run" else model.VariableSort.NUMERICAL_ASC)
