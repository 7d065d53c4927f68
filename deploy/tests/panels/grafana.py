"""What Grafana does with a dashboard: variables, intervals, queries, the names of series, numbers and colours.

It is written from Grafana's documentation and source, and not compared with a running Grafana.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..observability import expressions
from ..paths import DASHBOARDS
from . import history
from .database import Database, Points, Series

# The scrape interval in the provisioned data source.
SCRAPE = 5
# The time range, which a state fills, and the width of a screen in pixels and in columns.
RANGE, SCREEN, COLUMNS = history.WINDOW, 1800, 24
# The points of an annotation's query, and its data source's shortest step.
ANNOTATION_POINTS = 100
# Grafana's steps in seconds, each with the length below which it is chosen.
STEPS = [
    (1.5, 1), (3.5, 2), (7.5, 5), (12.5, 10), (17.5, 15), (25, 20), (45, 30), (90, 60), (210, 120), (450, 300),
    (750, 600), (1050, 900), (1500, 1200), (2700, 1800), (5400, 3600), (9000, 7200), (16200, 10800),
]  # fmt: skip

SUFFIX = "suffix:"
TIMES = [(86400, "day"), (3600, "hour"), (60, "min"), (1, "s")]


def dashboards() -> dict[str, dict[str, Any]]:
    """Returns the dashboards by their names."""
    boards = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(DASHBOARDS.glob("*.json")))
    return {board["title"].removeprefix("HRM: "): board for board in boards}


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the panels of a dashboard, with all rows open."""
    return expressions.panels(board)


def step_of(range_seconds: float, points: float, shortest: float) -> float:
    """Returns the step of a query."""
    length = range_seconds / points
    step = next((step for limit, step in STEPS if length < limit), 21600)
    return max(step, shortest)


@dataclass(frozen=True)
class View:
    """A dashboard at a time, with the choices of its variables."""

    database: Database
    end: float
    choices: Mapping[str, str] = field(default_factory=dict)
    range: float = RANGE

    def expression(self, text: str, step: float) -> str:
        """Replaces the variables in an expression."""
        own = {
            "__rate_interval": f"{max(step + SCRAPE, 4 * SCRAPE):g}s",
            "__interval": f"{step:g}s",
            "__range": f"{self.range:g}s",
        }

        def value(match: re.Match) -> str:
            name = match[1]
            if name.startswith("__"):
                return own[name]
            return re.escape(self.choices[name]) if name in self.choices else ".*"

        return re.sub(r"\$([a-z_]\w*)", value, text)

    def query(self, panel: dict[str, Any], target: dict[str, Any]) -> list[Series]:
        """Returns the answer to a panel's query."""
        step = step_of(self.range, SCREEN * panel["gridPos"]["w"] / COLUMNS, SCRAPE)
        expr = self.expression(target["expr"], step)
        if target.get("instant"):
            return self.database.at(expr, self.end)
        end = math.floor(self.end / step) * step
        return self.database.over(expr, end - self.range, end, step)

    def curves(self, panel: dict[str, Any]) -> list[tuple[str, Points]]:
        """Returns the curves of a panel, with their names."""
        return [
            (legend(target, series), series.points)
            for target in panel["targets"]
            for series in self.query(panel, target)
        ]

    def ending(self, points: Points) -> float | None:
        """Returns the value of a curve at the end of the range."""
        return last([(time, value) for time, value in points if time > self.end - 4 * SCRAPE])

    def table(self, panel: dict[str, Any]) -> list[dict[str, Any]]:
        """Returns the lines of a table, by the names of its columns."""
        targets, changes = panel["targets"], panel["transformations"]
        wanted = next(
            change["options"]["include"]["names"] for change in changes if change["id"] == "filterFieldsByName"
        )
        by = next((change["options"]["byField"] for change in changes if change["id"] == "joinByField"), "")
        renamed: dict[str, str] = {}
        for change in changes:
            renamed |= change["options"].get("renameByName", {})
        lines: dict[Any, dict[str, Any]] = {}
        for target in targets:
            column = f"Value #{target['refId']}" if len(targets) > 1 else "Value"
            for number, series in enumerate(self.query(panel, target)):
                key = series.labels.get(by) if by else number
                line = lines.setdefault(key, {})
                line.update(series.labels)
                line[column] = last(series.points)
        found = [{renamed.get(name, name): line.get(name) for name in wanted} for line in lines.values()]
        for order in panel.get("options", {}).get("sortBy", []):
            column = order["displayName"]
            found.sort(key=lambda line: line[column] or 0, reverse=order["desc"])
        return found

    def events(self, annotation: dict[str, Any]) -> list[float]:
        """Returns the times of an annotation's events within the range."""
        step = step_of(self.range, ANNOTATION_POINTS, float(annotation["step"].removesuffix("s")))
        end = math.floor(self.end / step) * step
        start = math.floor((self.end - self.range) / step) * step
        times: list[float] = []
        for series in self.database.over(self.expression(annotation["expr"], step), start, end, step):
            latest = -math.inf
            for time, value in series.points:
                moment = value / 1000 if annotation.get("useValueForTime") else time
                # Grafana draws events that are a step apart as one.
                if moment - latest > step and moment >= self.end - self.range:
                    times.append(moment)
                latest = moment
        return sorted(times)


def legend(target: dict[str, Any], series: Series) -> str:
    """Returns the name of a series."""
    return re.sub(r"{{\s*(\w+)\s*}}", lambda match: series.labels.get(match[1], ""), target["legendFormat"])


def last(points: Points) -> float | None:
    """Returns the last value that is a number."""
    return next((value for _, value in reversed(points) if not math.isnan(value)), None)


def shown(panel: dict[str, Any], value: float | None) -> tuple[str, str]:
    """Returns the text and the colour of a value in a panel."""
    defaults = panel["fieldConfig"]["defaults"]
    for mapping in defaults.get("mappings", []):
        if value is not None and f"{value:g}" in mapping["options"]:
            found = mapping["options"][f"{value:g}"]
            return found["text"], found["color"]
    text = defaults.get("noValue", "No data") if value is None else number(value, defaults["unit"])
    return text, colour(defaults["thresholds"]["steps"], value)


def colour(steps: list[dict[str, Any]], value: float | None) -> str:
    """Returns the colour of a value by thresholds; that of no value is the first."""
    reached = [
        step["color"] for step in steps if step["value"] is None or (value is not None and value >= step["value"])
    ]
    return reached[-1]


def number(value: float, unit: str) -> str:
    """Returns a number with its unit."""
    if unit == "percentunit":
        return f"{digits(100 * value)}%"
    if unit == "percent":
        return f"{digits(value)}%"
    if unit == "s":
        size, name = next(((size, name) for size, name in TIMES if abs(value) >= size), TIMES[-1])
        return f"{digits(value / size)} {name}"
    if unit == "bytes":
        return scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"])
    if unit == "Bps":
        return scaled(value, 1000, ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"])
    if unit.startswith(SUFFIX):
        return f"{digits(value)} {unit.removeprefix(SUFFIX)}"
    if unit in ("short", "none"):
        return scaled(value, 1000, ["", "K", "Mil", "Bil"]).rstrip() if unit == "short" else digits(value)
    return f"{digits(value)} {({'watt': 'W', 'celsius': '°C'})[unit]}"


def scaled(value: float, base: int, names: list[str]) -> str:
    """Returns a number in the largest unit below it."""
    power = 0
    while abs(value) >= base and power < len(names) - 1:
        value, power = value / base, power + 1
    return f"{digits(value)} {names[power]}"


def digits(value: float) -> str:
    """Returns a number with three digits."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
