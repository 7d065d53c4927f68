"""Checks what every panel of the dashboards shows, on a real Prometheus with a scripted history.

The history (history.py) has three runs, 200 actors that are replaced by new pods, and four states. In each state every
panel must show the values of values.py. A panel of one run must show nothing of another. Events must be found in a
range of minutes and in a range of a week. No Grafana is needed: grafana.py does with the queries what Grafana does.
With --pictures, each dashboard is drawn in each state, with Grafana's values but not its drawing.

Needs Debian's package prometheus.

    python3 -m deploy.tests.panels.check_panels
    python3 -m deploy.tests.panels.check_panels --pictures /tmp/pictures
"""

from __future__ import annotations

import contextlib
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import command_line
from . import grafana, history, pictures, values
from .database import Database, fill
from .grafana import View

# The time ranges of values.EVENTS.
EVENT_RANGES = (history.WINDOW, 6 * history.HOUR, 7 * history.DAY)
# Relative.
TOLERANCE = 0.005


def faults_of_state(view: View, name: str, board: dict[str, Any], number: int) -> Iterator[str]:
    """Yields the panels of a dashboard that do not show what they must in a state."""
    tiles, curves, tables = values.TILES[name], values.CURVES[name], values.TABLES.get(name, {})
    for panel in grafana.panels(board):
        title = panel["title"]
        if title in tiles:
            found, wanted = tile(view, panel), tiles[title][number]
            if found != wanted:
                yield f"{title}: {found!r} and not {wanted!r}"
        elif title in curves:
            yield from faults_of_curves(view, panel, {key: row[number] for key, row in curves[title].items()})
        elif title in tables:
            yield from faults_of_table(view, panel, {key: row[number] for key, row in tables[title].items()})
        else:
            yield f"{title}: values.py does not say what it must show"
    titles = {panel["title"] for panel in grafana.panels(board)}
    yield from (f"{title}: there is no such panel" for title in {*tiles, *curves, *tables} - titles)


def faults_of_curves(view: View, panel: dict[str, Any], wanted: dict[str, Any]) -> Iterator[str]:
    """Yields the curves that do not end at their value. One that ended before the others has none."""
    found: dict[str, float | None] = {}
    for key, points in view.curves(panel):
        if key in found:
            yield f"{panel['title']}: two curves are called {key!r}"
        found[key] = view.ending(points)
    for key in sorted(wanted.keys() | found.keys()):
        if not same(found.get(key), wanted.get(key)):
            yield f"{panel['title']}: {key}: {found.get(key)} and not {wanted.get(key)}"


def faults_of_table(view: View, panel: dict[str, Any], wanted: dict[str, Any]) -> Iterator[str]:
    """Yields the cells of the first line that are not as they must be."""
    lines = view.table(panel)
    first = {"lines": len(lines), **(lines[0] if lines else {})}
    for key, value in wanted.items():
        if value is not None and not same(first.get(key), value):
            yield f"{panel['title']}: {key}: {first.get(key)} and not {value}"


def faults_of_choice(database: Database, board: dict[str, Any], name: str) -> Iterator[str]:
    """Yields the panels that the choice of a run does not filter."""
    for number, state in enumerate(history.STATES):
        _, end = history.window(state)
        nothing = View(database, end, {"run": "unknown"})
        for panel in grafana.panels(board):
            title = panel["title"]
            if title in values.OTHER_TILES[name]:
                for run in history.OTHERS:
                    found, wanted = tile(View(database, end, {"run": run.name}), panel), values.OTHER_TILES[name][title]
                    if found != wanted:
                        yield f"{state}: {title}: {found!r} of run {run.name}, and not {wanted!r}"
            if number == 0 and any(nothing.query(panel, target) for target in panel["targets"]):
                yield f"{title}: it shows something of an unknown run"


def faults_of_events(database: Database, board: dict[str, Any]) -> Iterator[str]:
    """Yields the events that are not found in a range."""
    _, end = history.window("healthy")
    for annotation in board["annotations"]["list"]:
        for length, wanted in zip(EVENT_RANGES, values.EVENTS[annotation["name"]]):
            view = View(database, end, {"run": history.CARRY.name}, range=length)
            found = len(view.events(annotation))
            if found != wanted:
                yield f"event {annotation['name']}: {found} and not {wanted} in {length / history.HOUR:g} h"


def tile(view: View, panel: dict[str, Any]) -> str:
    """Returns the text and the colour of a stat panel."""
    curves = view.curves(panel) or [("", [])]
    if panel["options"].get("textMode") == "name":
        return ", ".join(f"{key} {grafana.shown(panel, grafana.last(points))[1]}" for key, points in curves)
    return ", ".join(" ".join(grafana.shown(panel, grafana.last(points))) for _, points in curves)


def same(found: Any, wanted: Any) -> bool:
    """True if two values are equal, numbers nearly."""
    if isinstance(found, (int, float)) and isinstance(wanted, (int, float)):
        return math.isclose(found, wanted, rel_tol=TOLERANCE, abs_tol=1e-9)
    return found == wanted


def main() -> int:
    """Checks everything, and draws it if asked."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="draw every dashboard in every state into DIR")
    arguments = parser.parse_args()

    began, boards, faults, count = time.monotonic(), grafana.dashboards(), [], 0
    with tempfile.TemporaryDirectory(prefix="hrm-panels-") as folder, contextlib.closing(Database(folder)) as database:
        fill(database)
        for name, board in boards.items():
            for number, state in enumerate(history.STATES):
                view = View(database, history.window(state)[1], {"run": history.CARRY.name})
                faults += [f"{name}: {state}: {fault}" for fault in faults_of_state(view, name, board, number)]
                if arguments.pictures:
                    pictures.draw(view, board, arguments.pictures / f"{name.lower()}-{state}.png")
            faults += [f"{name}: {fault}" for fault in faults_of_choice(database, board, name)]
            faults += [f"{name}: {fault}" for fault in faults_of_events(database, board)]
            count += len(list(grafana.panels(board)))
    summary = f"{count} panels in {len(history.STATES)} states, in {time.monotonic() - began:.0f} s"
    return command_line.report("check_panels", faults, summary)


if __name__ == "__main__":
    sys.exit(main())
