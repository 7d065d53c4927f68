"""Writes Grafana's dashboards: dashboards/*.json.

The JSON is committed. Change builders/*.py, run this, and commit both.

    python3 -m deploy.grafana.dashboards            # write
    python3 -m deploy.grafana.dashboards --check    # exit status 1, and a diff, where a file differs
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from .builders import fleet, pipeline, training

FOLDER = Path(__file__).resolve().parent / "dashboards"
DASHBOARDS = {
    "training.json": training.build,
    "pipeline.json": pipeline.build,
    "fleet.json": fleet.build,
}


def render(dashboard: Dashboard) -> str:
    """Returns the text of a dashboard's file, with numbered panels."""
    for number, panel in enumerate(dashboard.panels or [], start=1):
        panel.id_val = number
    return json.dumps(dashboard, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def difference(path: Path, wanted: str) -> list[str]:
    """Returns the changes of a file, as lines of a diff."""
    found = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = (found.splitlines(keepends=True), wanted.splitlines(keepends=True))
    return list(difflib.unified_diff(*lines, f"{path.name} (committed)", f"{path.name} (made)"))


def main() -> int:
    """Writes or checks every dashboard."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file differs")
    check = parser.parse_args().check

    texts = {FOLDER / name: render(build().build()) for name, build in DASHBOARDS.items()}
    if check:
        differences = [line for path, text in texts.items() for line in difference(path, text)]
        strangers = sorted(path.name for path in FOLDER.glob("*.json") if path not in texts)
        sys.stdout.writelines(differences)
        for name in strangers:
            print(f"{name}: no builder writes it")
        if differences or strangers:
            print("dashboards: run `make generated` and commit what it writes", file=sys.stderr)
            return 1
        print(f"dashboards: {len(texts)} as committed")
        return 0
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
        print(f"dashboards: wrote {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
