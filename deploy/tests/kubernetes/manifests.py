"""What kustomize makes of an overlay, and how its objects name each other."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ..paths import K8S

OVERLAYS = sorted(path.parent for path in (K8S / "overlays").glob("*/kustomization.yaml"))


@dataclass(frozen=True)
class Manifest:
    """One object."""

    content: dict[str, Any]

    @property
    def kind(self) -> str:
        """Its kind."""
        return self.content["kind"]

    @property
    def name(self) -> str:
        """Its name."""
        return self.content["metadata"]["name"]

    @property
    def namespace(self) -> str:
        """The namespace it stands in, empty for what stands in none."""
        return self.content["metadata"].get("namespace", "")

    @property
    def custom(self) -> bool:
        """Whether an operator's definition says what it may hold, and not Kubernetes itself."""
        group = self.content["apiVersion"].rpartition("/")[0]
        return "." in group and not group.endswith(".k8s.io")

    @property
    def spec(self) -> dict[str, Any]:
        """What it is."""
        return self.content["spec"]

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True)
class Workload:
    """An object that makes pods: a Deployment or a StatefulSet."""

    manifest: Manifest

    @property
    def pod(self) -> dict[str, Any]:
        """The pods' specification."""
        return self.manifest.spec["template"]["spec"]

    @property
    def labels(self) -> dict[str, str]:
        """The pods' labels."""
        return self.manifest.spec["template"]["metadata"]["labels"]

    @cached_property
    def containers(self) -> list[dict[str, Any]]:
        """Every container of a pod."""
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]

    @cached_property
    def ports(self) -> dict[str, int]:
        """The pods' ports by name."""
        return {port["name"]: port["containerPort"] for one in self.containers for port in one.get("ports", [])}

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether a selector of these labels finds its pods."""
        return labels.items() <= self.labels.items()


@dataclass(frozen=True)
class Overlay:
    """Everything that `kubectl apply -k` would send."""

    name: str
    manifests: list[Manifest]

    def of(self, *kinds: str) -> Iterator[Manifest]:
        """The objects of these kinds."""
        return (manifest for manifest in self.manifests if manifest.kind in kinds)

    @cached_property
    def workloads(self) -> list[Workload]:
        """What makes pods."""
        return [Workload(manifest) for manifest in self.of("Deployment", "StatefulSet")]

    def selected(self, labels: dict[str, str]) -> list[Workload]:
        """The workloads whose pods a selector finds."""
        return [workload for workload in self.workloads if workload.matches(labels)]

    def has(self, kind: str, name: str) -> bool:
        """Whether there is such an object."""
        return any(manifest.name == name for manifest in self.of(kind))


def build(folder: Path, kubectl: str) -> Overlay:
    """An overlay as kustomize makes it."""
    made = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    if made.returncode != 0 or made.stderr:
        raise SystemExit(f"kubectl kustomize {folder}: {made.stderr or made.returncode}")
    return Overlay(folder.name, [Manifest(content) for content in yaml.safe_load_all(made.stdout)])
