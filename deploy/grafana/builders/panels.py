"""The kinds of panel. Each requires a unit, and a description with the meaning and the remedy."""

from __future__ import annotations

import string

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, stat, table, timeseries, xychart
from grafana_foundation_sdk.models import common as shared
from grafana_foundation_sdk.models import heatmap as heat
from grafana_foundation_sdk.models import xychart as xy
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from .board import DATASOURCE
from .queries import Query, instant_query, or_idle, range_query

# Units that Grafana does not have.
FRAMES_PER_SECOND = "suffix:frames/s"
PER_SECOND = "suffix:/s"
FRAMES = "suffix:frames"
STEPS = "suffix:steps"
VERSIONS = "suffix:versions"
UNROLLS = "suffix:unrolls"
CORES = "suffix:cores"

WIDTH = 24
# The page with the cause and the remedy of every alert.
ALERTS = "https://github.com/hrm-impala/hrm-impala/blob/main/docs/reference/alerts.md"
Steps = list[tuple[float | None, str]]


def rising(orange: float, red: float) -> Steps:
    """Thresholds of a value that is better when small."""
    return [(None, "green"), (orange, "orange"), (red, "red")]


def falling(orange: float, green: float) -> Steps:
    """Thresholds of a value that is better when large."""
    return [(None, "red"), (orange, "orange"), (green, "green")]


NEUTRAL: Steps = [(None, "blue")]


def url(uid: str, variable: str = "") -> str:
    """The address of a dashboard with the time range and the choices. `variable` takes the value under the link."""
    kept = [f"${{{name}:queryparam}}" for name in ("datasource", "namespace", "run") if name != variable]
    own = [f"var-{variable}=${{__value.raw:percentencode}}"] if variable else []
    return f"/d/hrm-{uid}?" + "&".join([*own, *kept, "${__url_time_range}"])


def link(title: str, address: str) -> dashboard.DashboardLink:
    """A link in the corner of a panel."""
    return dashboard.DashboardLink(title).type(DashboardLinkType.LINK).url(address)


def value_link(title: str, uid: str, variable: str) -> DynamicConfigValue:
    """A link on each value of a column, to a dashboard with this value chosen."""
    return DynamicConfigValue("links", [{"title": title, "url": url(uid, variable)}])


def thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    """Thresholds in the unit of the panel."""
    levels = [Threshold(value=value, color=colour) for value, colour in steps]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(levels)


def row(title: str) -> dashboard.Row:
    """A heading over the panels that follow."""
    return dashboard.Row(title)


def light(
    title: str,
    description: str,
    query: Query,
    unit: str,
    steps: Steps,
    span: int = 3,
    to: dashboard.DashboardLink | None = None,
) -> stat.Panel:
    """One number, on a colour that rates it. Without series it is 0, or says that the run is complete."""
    whole = Query(query.legend, or_idle(query.expr))
    panel = _number(title, description, whole, unit, steps, span, "no learner known")
    panel.mappings([ValueMap({"-1": ValueMappingResult(text="complete", color="blue", index=0)})])
    return _linked(panel, to)


def progress(title: str, description: str, query: Query, unit: str, steps: Steps, none: str) -> stat.Panel:
    """One number that describes the run and not its health, so it may be absent and stays when the learner is down."""
    return _number(title, description, query, unit, steps, 3, none)


def _number(title: str, description: str, query: Query, unit: str, steps: Steps, span: int, none: str) -> stat.Panel:
    return (
        _common(stat.Panel(), title, description, unit, span, height=4)
        .with_target(range_query(query, "A"))
        .thresholds(thresholds(steps))
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .color_mode(shared.BigValueColorMode.BACKGROUND)
        .graph_mode(shared.BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .no_value(none)
    )


def name(
    title: str, description: str, query: Query, steps: Steps, span: int = 3, to: dashboard.DashboardLink | None = None
) -> stat.Panel:
    """The name of a series; its value only gives the colour. Without a series the tile has no name: see `or_named`."""
    panel = (
        _common(stat.Panel(), title, description, "short", span, height=4)
        .with_target(instant_query(query, "A"))
        .thresholds(thresholds(steps))
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .color_mode(shared.BigValueColorMode.BACKGROUND)
        .graph_mode(shared.BigValueGraphMode.NONE)
        .text_mode(shared.BigValueTextMode.NAME)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    )
    return _linked(panel, to)


def curve(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    span: int = 8,
    low: float | None = None,
    high: float | None = None,
    steps: Steps | None = None,
    stacked: bool = False,
) -> timeseries.Panel:
    """Curves against time. A name that begins with "bound" is drawn as a broken line."""
    panel = _common(timeseries.Panel(), title, description, unit, span, height=8)
    for ref_id, query in zip(string.ascii_uppercase, queries):
        panel.with_target(range_query(query, ref_id))
    panel.line_width(1).fill_opacity(60 if stacked else 8).show_points(shared.VisibilityMode.NEVER)
    panel.legend(_legend()).tooltip(
        common.VizTooltipOptions().mode(shared.TooltipDisplayMode.MULTI).sort(shared.SortOrder.DESCENDING)
    )
    panel.thresholds(thresholds(steps or NEUTRAL))
    if steps:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(shared.GraphThresholdsStyleMode.DASHED))
    if stacked:
        panel.stacking(common.StackingConfig().mode(shared.StackingMode.NORMAL).group("A"))
    panel.override_by_regexp(
        "^bound.*",
        [
            DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 8]}),
            DynamicConfigValue("custom.fillOpacity", 0),
            DynamicConfigValue("color", {"mode": "fixed", "fixedColor": "red"}),
        ],
    )
    return _limits(panel, low, high)


def against_frames(
    title: str,
    description: str,
    frames: str,
    *curves: Query,
    unit: str,
    also: tuple[str, Query] | None = None,
    span: int = 8,
    low: float | None = None,
    high: float | None = None,
) -> xychart.Panel:
    """Points against frames, joined by time. `also` is a curve with frames of its own."""
    columns = [Query("frames", frames), *curves]
    pairs = [("frames", curve.legend) for curve in curves]
    if also:
        columns += [Query("frames then", also[0]), also[1]]
        pairs.append(("frames then", also[1].legend))
    panel = _common(xychart.Panel(), title, description, unit, span, height=8)
    for ref_id, query in zip(string.ascii_uppercase, columns):
        panel.with_target(range_query(query, ref_id))
    panel.with_transformation(DataTransformerConfig("joinByField", options={"byField": "Time", "mode": "outer"}))
    panel.mapping(xy.SeriesMapping.MANUAL).series([_pair(x, y) for x, y in pairs])
    panel.show(xy.XYShowMode.POINTS).point_size(xychart.XychartFieldConfigPointSize().fixed(4))
    panel.legend(_legend()).tooltip(common.VizTooltipOptions().mode(shared.TooltipDisplayMode.SINGLE))
    panel.thresholds(thresholds(NEUTRAL))
    # Otherwise the limits of the values would apply to the frames as well.
    for x, y in pairs:
        panel.override_by_name(
            x, [DynamicConfigValue("unit", "short"), DynamicConfigValue("custom.axisLabel", "frames")]
        )
        limits = {"min": low, "max": high}
        panel.override_by_name(y, [DynamicConfigValue(k, v) for k, v in limits.items() if v is not None])
    return panel


def bars(title: str, description: str, query: Query, unit: str, steps: Steps, span: int = 8) -> bargauge.Panel:
    """Present values as bars, side by side."""
    return (
        _common(bargauge.Panel(), title, description, unit, span, height=8)
        .with_target(instant_query(query, "A"))
        .thresholds(thresholds(steps))
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .display_mode(shared.BarGaugeDisplayMode.BASIC)
        .orientation(shared.VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .min(0)
        .no_value("none")
    )


def distribution(title: str, description: str, query: Query, unit: str, span: int = 8) -> heatmap.Panel:
    """A histogram over time."""
    return (
        _common(heatmap.Panel(), title, description, "short", span, height=8)
        .with_target(range_query(query, "A", PromQueryFormat.HEATMAP))
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heat.HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .steps(64)
            .scale(heat.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
        )
        .y_axis(heatmap.YAxisConfig().unit(unit))
    )


def rows(
    title: str,
    description: str,
    *columns: tuple[Query, str, Steps | None],
    by: str,
    worst: str,
    to: DynamicConfigValue,
    none: str,
    span: int = WIDTH,
    height: int = 9,
) -> table.Panel:
    """One line per value of a label, one column per query, with its name, unit and thresholds.

    The line with the largest value of the column `worst` comes first. The label links to another panel or dashboard.
    """
    panel = _common(table.Panel(), title, description, "short", span, height)
    names = {}
    for ref_id, (query, unit, steps) in zip(string.ascii_uppercase, columns):
        panel.with_target(instant_query(query, ref_id, PromQueryFormat.TABLE))
        names[f"Value #{ref_id}"] = query.legend
        properties = [DynamicConfigValue("unit", unit)]
        if steps:
            properties += [
                DynamicConfigValue("thresholds", thresholds(steps).build().to_json()),
                DynamicConfigValue("custom.cellOptions", {"type": "color-background", "mode": "basic"}),
            ]
        panel.override_by_name(query.legend, properties)
    keep = [by, *names]
    panel.with_transformation(DataTransformerConfig("joinByField", options={"byField": by, "mode": "outer"}))
    panel.with_transformation(
        DataTransformerConfig("filterFieldsByName", options={"include": {"names": keep}, "byVariable": False})
    )
    panel.with_transformation(DataTransformerConfig("organize", options={"renameByName": names}))
    panel.override_by_name(by, [to])
    panel.sort_by([common.TableSortByFieldState().display_name(worst).desc(True)])
    return panel.thresholds(thresholds(NEUTRAL)).show_header(True).no_value(none)


def facts(
    title: str,
    description: str,
    query: Query,
    *labels: str,
    none: str,
    to: DynamicConfigValue | None = None,
    span: int = 8,
) -> table.Panel:
    """Labels and values as a table, with one line per series. The first label has the link."""
    panel = (
        _common(table.Panel(), title, description, "short", span, height=8)
        .with_target(instant_query(query, "A", PromQueryFormat.TABLE))
        .with_transformation(
            DataTransformerConfig(
                "filterFieldsByName", options={"include": {"names": list(labels)}, "byVariable": False}
            )
        )
        .thresholds(thresholds(NEUTRAL))
        .show_header(True)
        .no_value(none)
    )
    if to:
        panel.override_by_name(labels[0], [to])
    return panel


def _linked(panel: stat.Panel, to: dashboard.DashboardLink | None) -> stat.Panel:
    return panel.links([to]) if to else panel


def _common(panel, title: str, description: str, unit: str, span: int, height: int):
    return panel.title(title).description(description).unit(unit).span(span).height(height).datasource(DATASOURCE)


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(shared.LegendDisplayMode.LIST)
        .placement(shared.LegendPlacement.BOTTOM)
        .show_legend(True)
    )


def _limits(panel, low: float | None, high: float | None):
    if low is not None:
        panel.min(low)
    if high is not None:
        panel.max(high)
    return panel


def _pair(x: str, y: str) -> xychart.XYSeriesConfig:
    def by_name(column: str) -> xychart.MatcherConfig:
        return xychart.MatcherConfig().id("byName").options(column)

    first = xychart.MatcherConfig().id("byIndex").options(0)
    return (
        xychart.XYSeriesConfig()
        .name(xychart.XychartXYSeriesConfigName().fixed(y))
        .frame(xychart.XychartXYSeriesConfigFrame().matcher(first))
        .x(xychart.XychartXYSeriesConfigX().matcher(by_name(x)))
        .y(xychart.XychartXYSeriesConfigY().matcher(by_name(y)))
    )
