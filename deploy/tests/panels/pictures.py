"""Pictures of dashboards, drawn from the panels' JSON and the answers to their queries.

The places, titles, names, numbers and colours are the dashboards'; the drawing is this test's and not Grafana's.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from . import grafana
from .database import Points
from .grafana import COLUMNS, View

# Inches of a unit of the grid, and dots of an inch.
WIDTH, HEIGHT, DOTS = 0.75, 0.42, 75
COLOURS = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2"}
# Lines of a table that are drawn.
LINES = 6


def draw(view: View, board: dict[str, Any], path: Path) -> None:
    """Draws a dashboard into a PNG."""
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in grafana.panels(board))
    figure = Figure(figsize=(COLUMNS * WIDTH, height * HEIGHT), dpi=DOTS, facecolor="#f4f5f5")
    rows = [panel for panel in board["panels"] if panel["type"] == "row"]
    for row in rows:
        figure.text(0.005, 1 - (row["gridPos"]["y"] + 0.7) / height, row["title"], fontsize=11, weight="bold")
    events = {event["iconColor"]: view.events(event) for event in board["annotations"]["list"]}
    for panel in grafana.panels(board):
        place = panel["gridPos"]
        left, top = place["x"] / COLUMNS, 1 - place["y"] / height
        wide, high = place["w"] / COLUMNS, place["h"] / height
        frame = Rectangle((left + 0.002, top - high + 0.001), wide - 0.004, high - 0.002, color="white", zorder=-1)
        figure.add_artist(frame)
        figure.text(left + 0.006, top - 0.75 / height, panel["title"], fontsize=8, weight="bold")
        # Room for the title, the numbers of the axes, and the names below.
        area = (left + 0.035, top - high + 2 / height, wide - 0.045, high - 3.2 / height)
        if panel["type"] in ("stat", "table"):
            area = (left + 0.004, top - high + 0.2 / height, wide - 0.008, high - 1.3 / height)
        axes = figure.add_axes(area)
        axes.tick_params(labelsize=6)
        DRAWINGS[panel["type"]](axes, view, panel)
        if panel["type"] == "timeseries":
            for colour, times in events.items():
                for time in times:
                    axes.axvline(minutes(view, time), color=COLOURS[colour], linestyle=":", linewidth=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def minutes(view: View, time: float) -> float:
    """Returns a time as minutes before the end of the range."""
    return (time - view.end) / 60


def draw_stat(axes: Axes, view: View, panel: dict[str, Any]) -> None:
    """A tile."""
    axes.set_axis_off()
    named = panel["options"].get("textMode") == "name"
    curves = view.curves(panel) or [("", [])]
    for number, (name, points) in enumerate(curves):
        text, colour = grafana.shown(panel, grafana.last(points))
        low, high = 1 - (number + 1) / len(curves), 1 / len(curves)
        axes.add_patch(Rectangle((0, low), 1, high, color=COLOURS[colour]))
        axes.text(0.5, low + high / 2, name if named else text, ha="center", va="center", color="white", fontsize=13)
    axes.set(xlim=(0, 1), ylim=(0, 1))


def draw_curves(axes: Axes, view: View, panel: dict[str, Any]) -> None:
    """Curves against time."""
    defaults = panel["fieldConfig"]["defaults"]
    curves = view.curves(panel)
    if defaults["custom"].get("stacking", {}).get("mode") == "normal":
        stack(axes, view, curves)
    else:
        for name, points in curves:
            style = "--" if name.startswith("bound") else "-"
            xs, ys = [minutes(view, time) for time, _ in points], [value for _, value in points]
            axes.plot(xs, ys, style, linewidth=1, label=name, color="red" if style == "--" else None)
    axes.set_xlim(-view.range / 60, 0)
    finish(axes, panel)


def stack(axes: Axes, view: View, curves: list[tuple[str, Points]]) -> None:
    """Areas on top of each other."""
    times = sorted({time for _, points in curves for time, _ in points})
    rows = [[dict(points).get(time, 0.0) for time in times] for _, points in curves]
    if times:
        names = [name for name, _ in curves]
        axes.stackplot([minutes(view, time) for time in times], *rows, labels=names, alpha=0.7)


def draw_points(axes: Axes, view: View, panel: dict[str, Any]) -> None:
    """Points against frames, which another query returns."""
    found = {name: dict(points) for name, points in view.curves(panel)}
    for series in panel["options"]["series"]:
        x, y = (found.get(series[axis]["matcher"]["options"], {}) for axis in ("x", "y"))
        times = sorted(x.keys() & y.keys())
        if not times:
            continue
        name = series["name"]["fixed"]
        axes.plot([x[time] for time in times], [y[time] for time in times], ".", markersize=3, label=name)
    limits = {
        part["id"]: part["value"]
        for override in panel["fieldConfig"]["overrides"]
        for part in override["properties"]
        if part["id"] in ("min", "max")
    }
    if limits:
        axes.set_ylim(bottom=limits.get("min"), top=limits.get("max"))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: grafana.number(value, "short")))
    finish(axes, panel)


def draw_bars(axes: Axes, view: View, panel: dict[str, Any]) -> None:
    """Present values side by side."""
    curves = view.curves(panel)
    if not curves:
        empty(axes, panel)
        return
    bars = [(name, grafana.last(points) or 0.0) for name, points in reversed(curves)]
    drawn = axes.barh([name for name, _ in bars], [value for _, value in bars], color=COLOURS["blue"])
    axes.bar_label(drawn, [grafana.shown(panel, value)[0] for _, value in bars], fontsize=7)


def draw_heat(axes: Axes, view: View, panel: dict[str, Any]) -> None:
    """A histogram over time."""
    curves = sorted(view.curves(panel), key=lambda curve: float(curve[0].replace("+Inf", "inf")))
    times = sorted({time for _, points in curves for time, _ in points})
    if not times:
        empty(axes, panel)
        return
    totals = [[dict(points).get(time, math.nan) for time in times] for _, points in curves]
    buckets = [totals[0], *([b - a for a, b in zip(low, high)] for low, high in zip(totals, totals[1:]))]
    axes.imshow(
        buckets,
        origin="lower",
        aspect="auto",
        cmap="Oranges",
        extent=(minutes(view, times[0]), minutes(view, times[-1]), -0.5, len(curves) - 0.5),
    )
    axes.set_yticks(range(len(curves)), [name for name, _ in curves])
    axes.set_xlim(-view.range / 60, 0)


def draw_table(axes: Axes, view: View, panel: dict[str, Any]) -> None:
    """The first lines of a table."""
    axes.set_axis_off()
    lines = view.table(panel)
    if not lines:
        empty(axes, panel)
        return
    units = {
        override["matcher"]["options"]: part["value"]
        for override in panel["fieldConfig"]["overrides"]
        for part in override["properties"]
        if part["id"] == "unit"
    }

    def cell(column: str, value: Any) -> str:
        if isinstance(value, float):
            return grafana.number(value, units.get(column, "short"))
        return "" if value is None else str(value)

    columns = list(lines[0])
    texts = [[cell(column, line[column]) for column in columns] for line in lines[:LINES]]
    drawn = axes.table(texts, colLabels=columns, cellLoc="left", loc="upper left")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(6.5)
    drawn.auto_set_column_width(range(len(columns)))
    if len(lines) > LINES:
        axes.text(0.9, 0.02, f"and {len(lines) - LINES} more", fontsize=7)


def finish(axes: Axes, panel: dict[str, Any]) -> None:
    """Limits, units and names."""
    defaults = panel["fieldConfig"]["defaults"]
    if not axes.lines and not axes.collections:
        empty(axes, panel)
        return
    if "min" in defaults or "max" in defaults:
        axes.set_ylim(bottom=defaults.get("min"), top=defaults.get("max"))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: grafana.number(value, defaults["unit"])))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=6, ncols=4, loc="upper left", bbox_to_anchor=(-0.05, -0.12), frameon=False)


def empty(axes: Axes, panel: dict[str, Any]) -> None:
    """The text of a panel without data."""
    axes.set_axis_off()
    text = panel["fieldConfig"]["defaults"].get("noValue", "No data")
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=9, color="grey")


DRAWINGS = {
    "stat": draw_stat,
    "timeseries": draw_curves,
    "xychart": draw_points,
    "bargauge": draw_bars,
    "heatmap": draw_heat,
    "table": draw_table,
}
