"""Autoscalers must ask for series that exist, of a run that they can scale."""

from __future__ import annotations

import re
from collections.abc import Iterator

import promql_parser as promql
import yaml

from ..observability.check_promql import inference
from ..observability.labels import Fault, selectors
from ..paths import K8S, RULES
from .manifests import Manifest, Overlay

RECORDING = RULES / "recording.yml"
# The keys of KEDA's scaler for Prometheus. KEDA's schema allows any.
TRIGGER = {
    *("serverAddress", "query", "queryParameters", "threshold", "activationThreshold", "namespace", "cortexOrgID"),
    *("customHeaders", "ignoreNullValues", "unsafeSsl", "timeout", "authModes"),
}
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
            for name in trigger["metadata"].keys() - TRIGGER:
                yield f"{scaler}: trigger {trigger['name']}: KEDA's scaler for Prometheus has no {name}"
            query = trigger["metadata"].get("query", "")
            yield from (f"{scaler}: {query}: {fault}" for fault in _of_query(query, scaler.namespace))
    if any(_scalers(overlay)):
        for settings in overlay.of("ConfigMap"):
            run = settings.content["data"].get("run.toml")
            if run and not re.search(r"^synchronous = false$", run, re.MULTILINE):
                yield f"{settings}: a synchronous run waits for its actors by design, so that share cannot scale it"


def _of_query(query: str, namespace: str) -> Iterator[str]:
    """Yields the faults of a query that must return one number about the runs of a namespace."""
    try:
        parsed = promql.parse(query)
        labels = inference().of(parsed)
    except (Fault, ValueError) as fault:
        yield str(fault)
        return
    if labels:
        yield f"it returns a series per {', '.join(sorted(labels))}"
    for selector in selectors(parsed):
        if f'namespace="{namespace}"' not in str(selector):
            yield f"{selector.name} is of any namespace, and the scaler's is {namespace}"


def _scalers(overlay: Overlay) -> Iterator[Manifest]:
    return overlay.of("HorizontalPodAutoscaler", "ScaledObject")
