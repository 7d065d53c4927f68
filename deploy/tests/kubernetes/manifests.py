"""The objects of an overlay after kustomize, and their names for each other."""

from __future__ import annotations

import os
import subprocess
import tempfile
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
        """Its namespace, or an empty text."""
        return self.content["metadata"].get("namespace", "")

    @property
    def spec(self) -> dict[str, Any]:
        """Its specification."""
        return self.content["spec"]

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True)
class Workload:
    """Equal pods that an object creates."""

    manifest: Manifest
    # The name of the program in the pods.
    name: str
    # The specification with the pods' template.
    spec: dict[str, Any]

    @property
    def pod(self) -> dict[str, Any]:
        """The pods' specification."""
        return self.spec["template"]["spec"]

    @property
    def labels(self) -> dict[str, str]:
        """The pods' labels."""
        return self.spec["template"]["metadata"]["labels"]

    @property
    def ends(self) -> bool:
        """True if Kubernetes takes the exit status 0 of a pod for its completion."""
        return self.manifest.kind in ("Job", "JobSet")

    @cached_property
    def containers(self) -> list[dict[str, Any]]:
        """Every container of a pod."""
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]

    @cached_property
    def ports(self) -> dict[str, int]:
        """The pods' ports by name."""
        return {port["name"]: port["containerPort"] for one in self.containers for port in one.get("ports", [])}

    def matches(self, labels: dict[str, str]) -> bool:
        """True if a selector of these labels finds its pods."""
        return labels.items() <= self.labels.items()

    def __str__(self) -> str:
        return str(self.manifest) if self.name == self.manifest.name else f"{self.manifest}: {self.name}"


def workloads_of(manifest: Manifest) -> list[Workload]:
    """Returns the pods that an object creates."""
    match manifest.kind:
        case "Deployment" | "StatefulSet" | "Job":
            return [Workload(manifest, manifest.name, manifest.spec)]
        case "JobSet":
            jobs = manifest.spec["replicatedJobs"]
            # The name that the controller gives to the job, without its number.
            return [Workload(manifest, f"{manifest.name}-{job['name']}", job["template"]["spec"]) for job in jobs]
    return []


@dataclass(frozen=True)
class Overlay:
    """All objects that `kubectl apply -k` would send."""

    name: str
    manifests: list[Manifest]

    def of(self, *kinds: str) -> Iterator[Manifest]:
        """The objects of these kinds."""
        return (manifest for manifest in self.manifests if manifest.kind in kinds)

    @cached_property
    def workloads(self) -> list[Workload]:
        """All pods of the overlay."""
        return [workload for manifest in self.manifests for workload in workloads_of(manifest)]

    def selected(self, labels: dict[str, str]) -> list[Workload]:
        """The workloads whose pods a selector finds."""
        return [workload for workload in self.workloads if workload.matches(labels)]

    def has(self, kind: str, name: str) -> bool:
        """True if the overlay has such an object."""
        return any(manifest.name == name for manifest in self.of(kind))


def build(folder: Path, kubectl: str) -> Overlay:
    """Returns an overlay after kustomize."""
    made = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    if made.returncode != 0 or made.stderr:
        raise SystemExit(f"kubectl kustomize {folder}: {made.stderr or made.returncode}")
    return Overlay(folder.name, [Manifest(content) for content in yaml.safe_load_all(made.stdout)])


def combined(components: list[str], kubectl: str, **more: Any) -> Overlay:
    """Returns the base with some components, and with more fields of its kustomization, after kustomize."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        k8s = os.path.relpath(K8S, folder)
        content = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [f"{k8s}/base"],
            "components": [f"{k8s}/components/{component}" for component in components],
            **more,
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        return Overlay("+".join(components), build(folder, kubectl).manifests)
