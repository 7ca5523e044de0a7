"""Panel types with the defaults of these dashboards."""

from dataclasses import dataclass, field, replace

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    gauge,
    heatmap,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as dashboard_builder
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    GraphDrawStyle,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TableCellDisplayMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    GridPos,
    Panel,
    ValueMapping,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode, HeatmapColorOptions, YAxisConfig

from dashboards.prebuilt import Prebuilt
from dashboards.query import DATASOURCE, Query, ref_id, target
from dashboards.style import PLAIN, Steps, missing


@dataclass(frozen=True)
class Size:
    """Width in 24ths of the screen, height in Grafana's rows of 30 pixels."""

    width: int
    height: int


# A sparkline needs this height at 1440 pixels.
SMALL = Size(4, 5)
MEDIUM = Size(6, 8)
THIRD = Size(8, 8)
HALF = Size(12, 8)
WIDE = Size(24, 8)

# Gaps of one missed scrape are bridged; longer gaps stay visible.
GAP_MS = 60_000
# Shown instead of an empty tile.
NO_VALUE = "No data"
# Grafana's default is 150, which would hide the last columns of a narrow table.
COLUMN_MIN_WIDTH = 60


@dataclass(frozen=True)
class Column:
    """The value column of one query of a table."""

    title: str
    unit: str = "short"
    steps: Steps = PLAIN
    mappings: list[ValueMapping] = field(default_factory=list)


def stat_panel(
    title: str,
    why: str,
    expr: str,
    *,
    unit: str = "short",
    steps: Steps = PLAIN,
    mappings: list[ValueMapping] | None = None,
    size: Size = SMALL,
    legend: str = "",
    spark: bool = False,
    decimals: int | None = None,
    leads_to: str = "",
    no_value: str = NO_VALUE,
) -> Panel:
    """Return a single number or word, coloured by thresholds or mappings.

    Args:
        leads_to: UID of the dashboard that a click opens.
        no_value: the word for NaN and for no series, such as a ratio without traffic.
    """
    graph = BigValueGraphMode.AREA if spark else BigValueGraphMode.NONE
    builder = (
        stat.Panel()
        .graph_mode(graph)
        .color_mode(BigValueColorMode.VALUE)
        .text_mode(BigValueTextMode.VALUE_AND_NAME if legend else BigValueTextMode.AUTO)
        .reduce_options(_last())
        .unit(unit)
        .no_value(no_value)
        .thresholds(steps.build())
        .color_scheme(_by_thresholds())
    )
    if decimals is not None:
        builder = builder.decimals(decimals)
    builder = builder.mappings([*(mappings or []), *missing(no_value)])
    if leads_to:
        builder = builder.data_links([_link(leads_to)])
    return _finish(builder.build(), title, why, (Query(expr, legend or title, instant=not spark),), size)


def series_panel(
    title: str,
    why: str,
    *queries: Query,
    unit: str = "short",
    limits: Steps | None = None,
    size: Size = HALF,
    stacked: bool = False,
    minimum: float | None = 0,
    maximum: float | None = None,
    colors: dict[str, str] | None = None,
) -> Panel:
    """Return a graph over time.

    Args:
        limits: alert thresholds, drawn as dashed lines.
        colors: fixed colours by series name; the others follow the palette in order, so that no two are equal.
    """
    builder = (
        timeseries.Panel()
        .unit(unit)
        .line_width(2)
        .fill_opacity(35 if stacked else 8)
        .draw_style(GraphDrawStyle.LINE)
        .show_points(VisibilityMode.NEVER)
        .span_nulls(GAP_MS)
        .color_scheme(dashboard_builder.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
        .legend(_legend(size))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if stacked:
        builder = builder.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if limits is not None:
        lines = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        builder = builder.thresholds(limits.build()).thresholds_style(lines)
    if minimum is not None:
        builder = builder.min(minimum)
    if maximum is not None:
        builder = builder.max(maximum)
    elif minimum is not None:
        builder = builder.axis_soft_max(_soft_max(unit, limits))
    for name, color in (colors or {}).items():
        fixed = DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": color})
        builder = builder.override_by_name(name, [fixed])
    return _finish(builder.build(), title, why, queries, size)


def _soft_max(unit: str, limits: Steps | None) -> float:
    """Return the top of the axis while all values are lower. Grafana's is 100, which would draw limits on the zero line."""
    highest = max((value for value, _ in limits.steps), default=0.0) if limits else 0.0
    if highest > 0:
        return 2 * highest
    return 0.1 if unit in ("ops", "reqps") else 1.0


def heat_panel(title: str, why: str, expr: str, *, unit: str = "s", size: Size = HALF) -> Panel:
    """Return the distribution of a classic histogram over time; `expr` must keep `le`."""
    builder = (
        heatmap.Panel()
        .calculate(False)
        .color(Prebuilt(_SPECTRUM))
        .y_axis(Prebuilt(YAxisConfig(unit=unit)))
        .cell_gap(1)
        .show_legend()
        .unit("short")
    )
    return _finish(builder.build(), title, why, (Query(expr, "{{le}}", heatmap=True),), size)


def bars_panel(
    title: str,
    why: str,
    query: Query,
    *,
    unit: str = "short",
    steps: Steps = PLAIN,
    mappings: list[ValueMapping] | None = None,
    size: Size = THIRD,
    maximum: float | None = None,
) -> Panel:
    """Return one horizontal bar per series."""
    builder = (
        bargauge.Panel()
        .orientation(VizOrientation.HORIZONTAL)
        .display_mode(BarGaugeDisplayMode.BASIC)
        .reduce_options(_last())
        .unit(unit)
        .min(0)
        .no_value(NO_VALUE)
        .thresholds(steps.build())
        .color_scheme(_by_thresholds())
    )
    builder = builder.mappings([*(mappings or []), *missing(NO_VALUE)])
    if maximum is not None:
        builder = builder.max(maximum)
    return _finish(builder.build(), title, why, (replace(query, instant=True),), size)


def gauge_panel(
    title: str,
    why: str,
    expr: str,
    *,
    unit: str = "percentunit",
    steps: Steps,
    maximum: float = 1,
    legend: str = "",
) -> Panel:
    """Return a dial that shows how much of a limit is used."""
    builder = (
        gauge.Panel()
        .reduce_options(_last())
        .unit(unit)
        .min(0)
        .max(maximum)
        .no_value(NO_VALUE)
        .mappings(missing(NO_VALUE))
        .show_threshold_markers(True)
        .thresholds(steps.build())
        .color_scheme(_by_thresholds())
    )
    return _finish(builder.build(), title, why, (Query(expr, legend or title, instant=True),), Size(6, 6))


def timeline_panel(
    title: str, why: str, query: Query, *, mappings: list[ValueMapping], size: Size = HALF
) -> Panel:
    """Return one band per series that shows its state over time."""
    builder = (
        statetimeline.Panel()
        .show_value(VisibilityMode.NEVER)
        .row_height(0.8)
        .merge_values(True)
        .fill_opacity(80)
        .mappings(mappings)
        .thresholds(PLAIN.build())
        .color_scheme(_by_thresholds())
    )
    return _finish(builder.build(), title, why, (query,), size)


def table_panel(
    title: str,
    why: str,
    labels: dict[str, str],
    values: dict[str, tuple[str, Column]],
    *,
    sort: str = "",
    descending: bool = True,
    size: Size = WIDE,
) -> Panel:
    """Return a table with one row per label set.

    Args:
        labels: label name → column title.
        values: (query, column) of each value column, in order.
    """
    queries = tuple(Query(expr, instant=True, table=True) for expr, _ in values.values())
    builder = table.Panel().filterable(False).min_width(COLUMN_MIN_WIDTH)
    if sort:
        builder = builder.sort_by([common.TableSortByFieldState().display_name(sort).desc(descending)])
    for _, column in values.values():
        builder = builder.override_by_name(column.title, _column_properties(column))
    builder = builder.transformations(_as_one_table(labels, [column for _, column in values.values()]))
    return _finish(builder.build(), title, why, queries, size)


def alert_list_panel(title: str, why: str, size: Size = HALF) -> Panel:
    """Return Grafana's list of firing and pending alerts of all data sources.

    The panel can be limited to one data source only by name, where Grafana resolves no variables.
    """
    options = {
        "viewMode": "list",
        "groupMode": "default",
        "maxItems": 20,
        "sortOrder": 3,
        "stateFilter": {"firing": True, "pending": True, "error": True, "noData": False, "normal": False},
    }
    builder = dashboard_builder.Panel().type("alertlist").options(options)
    return _finish(builder.build(), title, why, (), size)


_SPECTRUM = HeatmapColorOptions(mode=HeatmapColorMode.SCHEME, scheme="Oranges", steps=64)


def _finish(panel: Panel, title: str, why: str, queries: tuple[Query, ...], size: Size) -> Panel:
    panel.title = title
    panel.description = why
    panel.datasource = DATASOURCE
    panel.targets = [target(query, index).build() for index, query in enumerate(queries)]
    panel.grid_pos = GridPos(w=size.width, h=size.height)
    return panel


def _link(uid: str) -> dashboard_builder.DashboardLink:
    url = f"/d/{uid}?${{__url_time_range}}&${{datasource:queryparam}}&${{environment:queryparam}}"
    return dashboard_builder.DashboardLink("Why?").type(DashboardLinkType.LINK).url(url)


def _last() -> common.ReduceDataOptions:
    # Not "lastNotNull": without traffic it shows the last value of busier times as if it were current.
    return common.ReduceDataOptions().calcs(["last"]).values(False).fields("")


def _by_thresholds() -> dashboard_builder.FieldColor:
    return dashboard_builder.FieldColor().mode(FieldColorModeId.THRESHOLDS)


def _legend(size: Size) -> common.VizLegendOptions:
    """Return a table to the right of wide graphs, and only names below narrow ones: a longer list would be cut off."""
    legend = common.VizLegendOptions().show_legend(True)
    if size.width >= HALF.width:
        return legend.display_mode(LegendDisplayMode.TABLE).placement(LegendPlacement.RIGHT).calcs(["last"])
    return legend.display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM).calcs([])


def _column_properties(column: Column) -> list[DynamicConfigValue]:
    found = [DynamicConfigValue(id_val="unit", value=column.unit)]
    if column.mappings:
        found.append(DynamicConfigValue(id_val="mappings", value=[m.to_json() for m in column.mappings]))
    if column.steps is not PLAIN or column.mappings:
        style = {"type": TableCellDisplayMode.COLOR_TEXT}
        found.append(DynamicConfigValue(id_val="custom.cellOptions", value=style))
        found.append(DynamicConfigValue(id_val="thresholds", value=column.steps.build().build().to_json()))
    return found


def _as_one_table(labels: dict[str, str], columns: list[Column]) -> list[DataTransformerConfig]:
    names = ["Value"] if len(columns) == 1 else [f"Value #{ref_id(i)}" for i in range(len(columns))]
    renamed = {**labels, **dict(zip(names, (column.title for column in columns), strict=True))}
    order = {name: place for place, name in enumerate(renamed)}
    organize = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": renamed}
    return [
        DataTransformerConfig(id_val="merge", options={}),
        DataTransformerConfig(id_val="organize", options=organize),
    ]
