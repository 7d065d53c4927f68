"""What the two programs export: the metrics of common/src/telemetry/names.rs, and what every process says of itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from ..paths import REPOSITORY

NAMES = REPOSITORY / "common/src/telemetry/names.rs"

# The metrics-process crate's, of either program.
PROCESS = {
    "process_cpu_seconds_total": "Counter",
    "process_resident_memory_bytes": "Gauge",
    "process_virtual_memory_bytes": "Gauge",
    "process_open_fds": "Gauge",
    "process_max_fds": "Gauge",
    "process_threads": "Gauge",
    "process_start_time_seconds": "Gauge",
}

# Labels that Prometheus gives to whatever it scrapes; the last two in Kubernetes only.
TARGET = ("job", "instance", "namespace", "pod")

# Prometheus's own.
OWN = {"up": (), "ALERTS": ("alertname", "alertstate", "severity")}

# Every value of a label, or None where any is possible.
Values = Optional[frozenset[str]]


@dataclass(frozen=True)
class Metric:
    """A series' name as Prometheus knows it."""

    name: str
    kind: str
    labels: dict[str, Values] = field(default_factory=dict)


def metrics(source: Path = NAMES) -> dict[str, Metric]:
    """Every series that a program exports, by name: three for each histogram."""
    text = source.read_text(encoding="utf-8")
    labels = {**_enumerations(text), **_structures(text)}
    found = []
    for kind, label, name in re.findall(r'\w+: (Counter|Gauge|Histogram)<(\w+)> = "(\w+)"', text):
        own = labels[label]
        if kind == "Histogram":
            found.append(Metric(f"{name}_bucket", "Counter", {**own, "le": None}))
            found += [Metric(f"{name}_{part}", "Counter", own) for part in ("sum", "count")]
        else:
            found.append(Metric(name, kind, own))
    if not found:
        raise SystemExit(f"{source}: no metric is declared there; has its macro changed?")
    found += [Metric(name, kind) for name, kind in PROCESS.items()]
    found += [Metric(name, "Gauge", {label: None for label in own}) for name, own in OWN.items()]
    return {metric.name: metric for metric in found}


def _enumerations(text: str) -> dict[str, dict[str, Values]]:
    """Labels whose values are known: `label! { Type = "key" { Variant = "value", ... } }`."""
    found = {}
    block = re.compile(r'^label! \{.*?(\w+) = "(\w+)" \{(.*?)^    \}', re.DOTALL | re.MULTILINE)
    for name, key, body in block.findall(text):
        found[name] = {key: frozenset(re.findall(r'^\s*\w+ = "(\w+)"', body, re.MULTILINE))}
    return found


def _structures(text: str) -> dict[str, dict[str, Values]]:
    """Labels whose values are not: the strings in `impl Labelled for Type { fn labels ... }`."""
    found = {}
    block = re.compile(r"^impl Labelled for (\w+) \{\s+fn labels(.*?)\n    \}", re.DOTALL | re.MULTILINE)
    for name, body in block.findall(text):
        found[name] = {key: None for key in re.findall(r'"(\w+)"', body)}
    return found
