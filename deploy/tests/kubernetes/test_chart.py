"""Tests of the Helm chart: it renders the objects of the overlays, and its schema refuses other values.

The namespace is Helm's to make. Lists of named parts, such as volumes, are compared in any order. Helm comes from
PyPI, as a library. Needs kubectl (KUBECTL).

    python3 -m unittest deploy.tests.kubernetes.test_chart
"""

from __future__ import annotations

import os
import unittest
from typing import Any

import helm_python
import yaml

from ..paths import CHART, K8S
from .manifests import OVERLAYS, Overlay, build, combined

KUBECTL = os.environ.get("KUBECTL", "kubectl")
VALUES = {path.stem: path for path in sorted((CHART / "values").glob("*.yaml"))}

SPOT = {"key": "example.com/spot", "operator": "Exists", "effect": "NoSchedule"}


def combination() -> Overlay:
    """An overlay of what the overlays do not combine."""
    images = [
        {
            "name": f"registry.invalid/hrm-impala/{name}",
            "newName": f"registry.example/hrm-impala/{name}",
            "newTag": "1.2.3",
        }
        for name in ("learner", "actor")
    ]
    patch = [
        {"op": "replace", "path": "/spec/parallelism", "value": 8},
        {"op": "add", "path": "/spec/template/spec/tolerations", "value": [SPOT]},
    ]
    patches = [{"target": {"kind": "Job", "name": "hrm-actor"}, "patch": yaml.safe_dump(patch)}]
    return combined(["tls", "job"], KUBECTL, namespace="second", images=images, patches=patches)


def rendered(values: dict[str, Any], namespace: str = "hrm") -> dict[str, Any]:
    """The objects that Helm makes, by kind and name."""
    with helm_python.Chart.load(str(CHART)) as chart:
        chart.validate_schema(values)
        texts = chart.render(values, name="run", namespace=namespace)
    return by_name(content for text in texts.values() for content in yaml.safe_load_all(text) if content)


def made(overlay: Overlay) -> dict[str, Any]:
    """The objects of an overlay, by kind and name."""
    return by_name(manifest.content for manifest in overlay.manifests if manifest.kind != "Namespace")


def by_name(contents: Any) -> dict[str, Any]:
    """Objects by kind and name, with lists of named parts in order."""
    return {f"{content['kind']}/{content['metadata']['name']}": ordered(content) for content in contents}


def ordered(content: Any) -> Any:
    """A value with every list of named parts sorted."""
    if isinstance(content, dict):
        return {key: ordered(part) for key, part in content.items()}
    if not isinstance(content, list):
        return content
    parts = [ordered(part) for part in content]
    named = all(isinstance(part, dict) and "name" in part for part in parts)
    return sorted(parts, key=lambda part: part["name"]) if named else parts


class Chart(unittest.TestCase):
    """The chart beside the overlays."""

    maxDiff = None

    def same(self, values: dict[str, Any], overlay: Overlay, namespace: str = "hrm") -> None:
        """Requires the same objects of both."""
        found, wanted = rendered(values, namespace), made(overlay)
        self.assertEqual(found.keys(), wanted.keys(), overlay.name)
        for name, content in wanted.items():
            self.assertEqual(found[name], content, f"{overlay.name}: {name}")

    def test_it_renders_every_overlay(self) -> None:
        self.assertEqual({folder.name for folder in OVERLAYS}, VALUES.keys())
        for folder in OVERLAYS:
            values = yaml.safe_load(VALUES[folder.name].read_text(encoding="utf-8"))
            run = folder / "run.toml"
            if run.exists():
                values["run"] = run.read_text(encoding="utf-8")
            self.same(values, build(folder, KUBECTL))

    def test_it_renders_the_base(self) -> None:
        self.same({}, build(K8S / "base", KUBECTL))

    def test_it_renders_a_combination_in_another_namespace(self) -> None:
        values = {
            "image": {"registry": "registry.example", "tag": "1.2.3"},
            "mode": "job",
            "tls": True,
            "actor": {"replicas": 8, "tolerations": [SPOT]},
        }
        self.same(values, combination(), "second")

    def test_it_renders_jobs_on_spot_nodes(self) -> None:
        for mode in ("job", "jobset"):
            values = {"mode": mode, "spot": {"enabled": True}, "copy": True}
            self.same(values, combined(["spot", "copy", mode], KUBECTL))

    def test_releases_in_two_namespaces_share_no_priority_class(self) -> None:
        values = {"spot": {"enabled": True}}
        first, second = ({name for name in rendered(values, space) if "Priority" in name} for space in ("a", "b"))
        self.assertEqual((len(first), len(second), first & second), (2, 2, set()))

    def test_labels_and_tolerations_of_the_operator_are_added(self) -> None:
        labels = {"example.com/spot": "yes"}
        objects = rendered({"spot": {"enabled": True, "labels": labels}, "actor": {"tolerations": [SPOT]}})
        actor, learner = (
            objects[name]["spec"]["template"]["spec"] for name in ("Deployment/hrm-actor", "StatefulSet/hrm-learner")
        )
        own = {"key": "example.com/spot", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}
        self.assertIn(own, actor["tolerations"])
        self.assertIn(SPOT, actor["tolerations"])
        required = learner["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        avoided = {"key": "example.com/spot", "operator": "NotIn", "values": ["yes"]}
        self.assertIn(avoided, required["nodeSelectorTerms"][0]["matchExpressions"])

    def test_its_schema_refuses_other_values(self) -> None:
        for values in (
            {"replicas": 3},
            {"actor": {"replica": 3}},
            {"actor": {"replicas": "3"}},
            {"mode": "jobs"},
            {"mode": "job", "autoscaler": "keda"},
            {"mode": "job", "queue": "training"},
            {"tls": "true"},
            {"image": {"registry": ""}},
            {"learner": {"image": "learner-rocm"}},
            {"learner": {"resources": {"request": {"cpu": "1"}}}},
            {"actor": {"tolerations": [{"keys": "x"}]}},
            {"spot": True},
            {"spot": {"enabled": "true"}},
            {"spot": {"label": {"example.com/spot": "true"}}},
            {"spot": {"labels": {"example.com/spot": True}}},
            {"copy": "s3://my-bucket"},
        ):
            with self.assertRaises(helm_python.HelmError, msg=values):
                rendered(values)

    def test_helm_finds_nothing_to_improve(self) -> None:
        found = helm_python.lint(str(CHART), strict=True)
        self.assertEqual((found["errors"], [m for m in found["messages"] if m["severity"] > 1]), ([], []))


if __name__ == "__main__":
    unittest.main()
