"""Folders that the checks read."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
K8S = DEPLOY / "k8s"
RULES = DEPLOY / "prometheus/rules"
CHART = DEPLOY / "chart"
DASHBOARDS = DEPLOY / "grafana/dashboards"
