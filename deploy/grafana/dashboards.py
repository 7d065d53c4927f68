"""Writes Grafana's dashboards: dashboards/*.json.

The JSON is committed. Change builders/*.py, run this, and commit both.

    python3 -m deploy.grafana.dashboards            # write
    python3 -m deploy.grafana.dashboards --check    # exit status 1, and a diff, where a file differs
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel, RowPanel

from .. import generated
from .builders import fleet, pipeline, training

FOLDER = Path(__file__).resolve().parent / "dashboards"
DASHBOARDS = {
    "training.json": training.build,
    "pipeline.json": pipeline.build,
    "fleet.json": fleet.build,
}


def render(dashboard: Dashboard) -> str:
    """Returns the text of a dashboard's file, with numbered panels."""
    for number, panel in enumerate(every(dashboard), start=1):
        panel.id_val = number
    return json.dumps(dashboard, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def every(dashboard: Dashboard) -> Iterator[Panel | RowPanel]:
    """Yields all panels, those of closed rows included."""
    for panel in dashboard.panels or []:
        yield panel
        if isinstance(panel, RowPanel):
            yield from panel.panels


def main() -> int:
    """Writes or checks every dashboard."""
    texts = {FOLDER / name: render(build().build()) for name, build in DASHBOARDS.items()}
    strangers = sorted(path.name for path in FOLDER.glob("*.json") if path not in texts)
    return generated.main("dashboards", __doc__, texts, strangers)


if __name__ == "__main__":
    sys.exit(main())
