"""Checks that a stranger can read every dashboard.

It checks titles, descriptions, units, thresholds, variables, links, and a first row of coloured numbers. It also checks
that no panel covers another, and that every query depends on the chosen run. deploy/grafana/dashboards.py checks that
the JSON is what builders/*.py make, and check_promql.py that its expressions ask for what exists.

    python3 -m deploy.tests.observability.check_dashboards
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from .. import command_line
from ..paths import DASHBOARDS, REPOSITORY
from . import expressions

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# Characters of a description: a sentence with the meaning, and a clause with the remedy.
DESCRIPTION = 50
WIDTH = 24
# Addresses of the repository's files.
FILES = "https://github.com/hrm-impala/hrm-impala/blob/main/"
NAMES = re.compile(r"\$\{?([a-z_]\w*)")


def faults_of_board(board: dict[str, Any]) -> Iterator[str]:
    """Yields the faults of a dashboard as a whole."""
    for key in ("uid", "title", "description", "tags"):
        if not board.get(key):
            yield f"no {key}"
    if board.get("id") is not None:
        yield "it has an id, which is valid in one Grafana only"
    panels = list(expressions.panels(board))
    every = [*panels, *(panel for panel in board["panels"] if panel["type"] == "row")]
    ids = [panel["id"] for panel in every]
    if len(set(ids)) != len(ids):
        yield "two panels have one id"
    titles = [panel["title"] for panel in panels]
    yield from (f"two panels are called {title}" for title in sorted(set(titles)) if titles.count(title) > 1)
    first = [panel for panel in panels if panel["gridPos"]["y"] == 0]
    if sum(panel["gridPos"]["w"] for panel in first) != WIDTH or any(panel["type"] != "stat" for panel in first):
        yield "the first row is not full of stat panels"
    taken: dict[tuple, str] = {}
    for panel in every:
        for cell in _cells(panel["gridPos"]):
            if cell in taken or cell[0] >= WIDTH:
                yield f"{panel['title']} overlaps {taken.get(cell, 'the edge')}"
                break
            taken[cell] = panel["title"]


def faults_of_panel(panel: dict[str, Any], variables: list[str]) -> Iterator[str]:
    """Yields the faults of one panel."""
    defaults = panel["fieldConfig"]["defaults"]
    if len(panel.get("description", "")) < DESCRIPTION:
        yield f"its description has fewer than {DESCRIPTION} characters: give the meaning and the remedy"
    if not defaults.get("unit"):
        yield "no unit"
    if defaults.get("unit", "").startswith("suffix: "):
        yield "Grafana adds the space before a suffix by itself"
    if panel["type"] != "heatmap" and not defaults.get("thresholds", {}).get("steps"):
        yield "no thresholds"
    if panel.get("datasource") != DATASOURCE:
        yield "its data source is not the variable"
    if not panel.get("targets"):
        yield "no query"
    for target in panel.get("targets", []):
        if "$run" not in target["expr"]:
            yield f"query {target['refId']} does not depend on the chosen run"
        yield from faults_of_names(target["expr"], variables)


def faults_of_names(text: str, variables: list[str]) -> Iterator[str]:
    """Yields the variables in a text that do not exist; Grafana's own begin with two underscores."""
    for name in NAMES.findall(text):
        if name not in variables and not name.startswith("__"):
            yield f"there is no variable ${name}"


def faults_of_link(address: str, uids: list[str], variables: list[str]) -> Iterator[str]:
    """Yields the faults of a link to a dashboard or a file of the repository."""
    path, _, query = address.partition("?")
    if path.startswith("/d/"):
        if path.removeprefix("/d/") not in uids:
            yield f"{address} leads to no dashboard"
        chosen = re.findall(r"\bvar-(\w+)=", query)
        yield from faults_of_names(" ".join([query, *(f"${name}" for name in chosen)]), variables)
    elif path.startswith(FILES):
        if not (REPOSITORY / path.removeprefix(FILES)).is_file():
            yield f"{address} leads to no file"
    else:
        yield f"{address} leads to neither a dashboard nor a file"


def links(panel: dict[str, Any]) -> Iterator[str]:
    """Yields the addresses in a panel's corner and on its values."""
    yield from (link["url"] for link in panel.get("links", []))
    for override in panel["fieldConfig"]["overrides"]:
        for part in override["properties"]:
            if part["id"] == "links":
                yield from (link["url"] for link in part["value"])


def faults_of_variable(variable: dict[str, Any]) -> Iterator[str]:
    """Yields the faults of one variable."""
    for key in ("label", "description"):
        if not variable.get(key):
            yield f"no {key}"
    # Only this matches a missing label, such as the namespace in Compose.
    if variable["type"] == "query" and variable.get("allValue") != ".*":
        yield "its value for All is not .*"


def main() -> int:
    """Checks every dashboard and prints the faults."""
    command_line.parser(__doc__).parse_args()
    boards = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(DASHBOARDS.glob("*.json"))}
    uids = [board["uid"] for board in boards.values()]
    faults, count = [], 0
    for file, board in boards.items():
        faults += [f"{file}: {fault}" for fault in faults_of_board(board)]
        variables = [variable["name"] for variable in board["templating"]["list"]]
        for variable in board["templating"]["list"]:
            faults += [f"{file}: ${variable['name']}: {fault}" for fault in faults_of_variable(variable)]
        for panel in expressions.panels(board):
            count += 1
            faults += [f"{file}: {panel['title']}: {fault}" for fault in faults_of_panel(panel, variables)]
            for address in links(panel):
                faults += [f"{file}: {panel['title']}: {fault}" for fault in faults_of_link(address, uids, variables)]
    if len(set(uids)) != len(uids) or not uids:
        faults.append(f"uids: {uids}")
    return command_line.report("check_dashboards", faults, f"{len(uids)} dashboards, {count} panels")


def _cells(place: dict[str, int]) -> Iterator[tuple]:
    for x in range(place["x"], place["x"] + place["w"]):
        for y in range(place["y"], place["y"] + place["h"]):
            yield (x, y)


if __name__ == "__main__":
    sys.exit(main())
