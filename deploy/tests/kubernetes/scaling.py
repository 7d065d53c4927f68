"""Autoscalers must ask for a recorded series, of a run that it can scale."""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from ..paths import K8S, RULES
from .manifests import Manifest, Overlay

RECORDING = RULES / "recording.yml"
ADAPTER = K8S / "components/hpa/adapter-values.yaml"


def faults(overlay: Overlay) -> Iterator[str]:
    """Yields the faults of an overlay's autoscalers."""
    records = {r["record"] for g in yaml.safe_load(RECORDING.read_text())["groups"] for r in g["rules"]}
    served = {
        rule["name"]["as"]: rule["seriesQuery"]
        for rule in yaml.safe_load(ADAPTER.read_text(encoding="utf-8"))["rules"]["external"]
    }
    for scaler in overlay.of("HorizontalPodAutoscaler"):
        for metric in scaler.spec["metrics"]:
            name = metric["external"]["metric"]["name"]
            if served.get(name) not in records:
                yield f"{scaler}: {ADAPTER.name} makes {name} of {served.get(name)}, which nothing records"
    for scaler in overlay.of("ScaledObject"):
        for trigger in scaler.spec["triggers"]:
            query = trigger["metadata"]["query"]
            if not any(record in query for record in records):
                yield f"{scaler}: nothing records what it asks for: {query}"
            if f'namespace="{scaler.namespace}"' not in query:
                yield f"{scaler}: its namespace is {scaler.namespace}, but it asks for another: {query}"
    if any(_scalers(overlay)):
        for settings in overlay.of("ConfigMap"):
            if not re.search(r"^synchronous = false$", settings.content["data"].get("run.toml", ""), re.MULTILINE):
                yield f"{settings}: a synchronous run waits for its actors by design, so that share cannot scale it"


def _scalers(overlay: Overlay) -> Iterator[Manifest]:
    return overlay.of("HorizontalPodAutoscaler", "ScaledObject")
