"""Writes components/monitoring/rules.yaml: the rules of deploy/prometheus/ as a PrometheusRule of the operator.

The result is committed. Change deploy/prometheus/rules/, run this, and commit both.

    python3 -m deploy.k8s.rules            # write
    python3 -m deploy.k8s.rules --check    # exit status 1 where the file differs from what would be written
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from .. import generated

FOLDER = Path(__file__).resolve().parent
TARGET = FOLDER / "components/monitoring/rules.yaml"
SOURCES = sorted((FOLDER.parent / "prometheus/rules").glob("*.yml"))
HEAD = "# Made by deploy/k8s/rules.py from deploy/prometheus/rules/, where the comments are.\n"


def render() -> str:
    """The text of the file."""
    groups = [group for path in SOURCES for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "hrm", "namespace": "hrm"},
        "spec": {"groups": groups},
    }
    return HEAD + yaml.safe_dump(rule, sort_keys=False, width=110)


def main() -> int:
    """Writes or checks the file."""
    return generated.main("rules", __doc__, {TARGET: render()})


if __name__ == "__main__":
    sys.exit(main())
