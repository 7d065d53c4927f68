"""The metrics of the two programs: those of common/src/telemetry/, and the `process_*` metrics. Others beside them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from ..paths import REPOSITORY

TELEMETRY = REPOSITORY / "common/src/telemetry"

# Metrics of the crate metrics-process, in both programs.
PROCESS = {
    "process_cpu_seconds_total": "Counter",
    "process_resident_memory_bytes": "Gauge",
    "process_virtual_memory_bytes": "Gauge",
    "process_open_fds": "Gauge",
    "process_max_fds": "Gauge",
    "process_threads": "Gauge",
    "process_start_time_seconds": "Gauge",
}

# Labels that Prometheus adds to every target; the last two in Kubernetes only.
TARGET = ("job", "instance", "namespace", "pod")

# Prometheus's own series.
OWN = {"up": (), "ALERTS": ("alertname", "alertstate", "severity")}

# Metrics of NVIDIA's DCGM exporter, under its default counters, and their labels. Unless Prometheus honours the labels
# of a target, it renames the pod and the namespace that the exporter names.
GPU = (
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_FB_FREE",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_GPU_TEMP",
)
GPU_LABELS = ("gpu", "UUID", "modelName", "Hostname", "exported_namespace", "exported_pod")

# Series that none of our processes exports.
FOREIGN = {**OWN, **dict.fromkeys(GPU, GPU_LABELS)}

# The values of a label, or None if any value is possible.
Values = Optional[frozenset[str]]


@dataclass(frozen=True)
class Metric:
    """A series, under its name in Prometheus."""

    name: str
    kind: str
    labels: dict[str, Values] = field(default_factory=dict)


def metrics(source: Path = TELEMETRY) -> dict[str, Metric]:
    """Returns every exported series by name; a histogram has three."""
    text, labelled = ((source / name).read_text(encoding="utf-8") for name in ("names.rs", "labels.rs"))
    labels = {**_enumerations(labelled), **_structures(labelled)}
    found = []
    for kind, label, name in re.findall(r'\w+: (Counter|Gauge|Histogram)<(\w+)> = "(\w+)"', text):
        own = labels[label]
        if kind == "Histogram":
            found.append(Metric(f"{name}_bucket", "Counter", {**own, "le": None}))
            found += [Metric(f"{name}_{part}", "Counter", own) for part in ("sum", "count")]
        else:
            found.append(Metric(name, kind, own))
    if not found:
        raise SystemExit(f"{source}: no metric is declared there. If its macro changed, adapt this parser")
    found += [Metric(name, kind) for name, kind in PROCESS.items()]
    found += [Metric(name, "Gauge", {label: None for label in own}) for name, own in FOREIGN.items()]
    return {metric.name: metric for metric in found}


def _enumerations(text: str) -> dict[str, dict[str, Values]]:
    """Returns the labels with known values: `label! { Type = "key" { Variant = "value", ... } }`."""
    found = {}
    block = re.compile(r'^label! \{.*?(\w+) = "(\w+)" \{(.*?)^    \}', re.DOTALL | re.MULTILINE)
    for name, key, body in block.findall(text):
        found[name] = {key: frozenset(re.findall(r'^\s*\w+ = "(\w+)"', body, re.MULTILINE))}
    return found


def _structures(text: str) -> dict[str, dict[str, Values]]:
    """Returns the labels with any value: the strings in `impl Labelled for Type { fn labels ... }`."""
    found = {}
    block = re.compile(r"^impl Labelled for (\w+) \{\s+fn labels(.*?)\n    \}", re.DOTALL | re.MULTILINE)
    for name, body in block.findall(text):
        found[name] = {key: None for key in re.findall(r'"(\w+)"', body)}
    return found
