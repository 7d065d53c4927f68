"""All PromQL expressions of the project, in rules, panels, events and variables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..paths import DASHBOARDS, RULES


@dataclass(frozen=True)
class Expression:
    """One expression, with its place."""

    where: str
    kind: str  # alert, record, panel, event or variable
    text: str
    record: str = ""
    labels: dict[str, str] = field(default_factory=dict)

    def plain(self, rate_interval: str) -> str:
        """Returns the expression with Grafana's variables replaced, as if everything were chosen."""
        text = re.sub(r"\$__(rate_)?interval", rate_interval, self.text)
        return re.sub(r"\$[a-z]\w*", ".*", text)


def every() -> list[Expression]:
    """Returns all expressions."""
    return [*rules(), *dashboards()]


def rules(folder: Path = RULES) -> list[Expression]:
    """Returns those of recording rules and alerts."""
    found = []
    for path in sorted(folder.glob("*.yml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                kind = "alert" if "alert" in rule else "record"
                where = f"{path.name}: {rule[kind]}"
                found.append(Expression(where, kind, rule["expr"], rule.get("record", ""), rule.get("labels", {})))
    return found


def dashboards(folder: Path = DASHBOARDS) -> list[Expression]:
    """Returns those of panels, events and variables."""
    found = []
    for path in sorted(folder.glob("*.json")):
        board = json.loads(path.read_text(encoding="utf-8"))
        for panel in panels(board):
            for target in panel.get("targets", []):
                found.append(Expression(f"{path.name}: {panel['title']} {target['refId']}", "panel", target["expr"]))
        for event in board["annotations"]["list"]:
            found.append(Expression(f"{path.name}: event {event['name']}", "event", event["expr"]))
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                found.append(_variable(path.name, variable))
    return found


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the panels of a dashboard, collapsed rows included."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


def _variable(file: str, variable: dict[str, Any]) -> Expression:
    """Returns Grafana's `label_values(SELECTOR, LABEL)` as PromQL: `group by (LABEL) (SELECTOR)`."""
    query = variable["query"]["query"]
    match = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
    if not match:
        raise SystemExit(f"{file}: variable {variable['name']}: {query} is not label_values(SELECTOR, LABEL)")
    selector, label = match.groups()
    return Expression(f"{file}: variable {variable['name']}", "variable", f"group by ({label}) ({selector})")
