"""Tests of the manifests' checks: each finds what is wrong with an overlay.

Needs the programs in the folder BIN_DIR, and kubectl (KUBECTL).

    BIN_DIR=target/debug python3 -m unittest deploy.tests.kubernetes.test_manifests
"""

from __future__ import annotations

import copy
import itertools
import os
import unittest
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from ..paths import K8S, REPOSITORY
from . import check_manifests, scaling, schemas
from .manifests import OVERLAYS, Manifest, Overlay, build, combined

BIN_DIR = REPOSITORY / os.environ.get("BIN_DIR", "target/debug")
KUBECTL = os.environ.get("KUBECTL", "kubectl")


@cache
def overlay(name: str) -> Overlay:
    """An overlay, built once."""
    return build(K8S / "overlays" / name, KUBECTL)


def changed(whole: Overlay, kind: str, name: str, change: Callable[[dict[str, Any]], object]) -> Overlay:
    """The overlay with one object changed."""
    manifests = []
    for manifest in whole.manifests:
        content = copy.deepcopy(manifest.content)
        if (manifest.kind, manifest.name) == (kind, name):
            change(content)
        manifests.append(Manifest(content))
    return Overlay(whole.name, manifests)


class Jobs(unittest.TestCase):
    """Runs that end."""

    def found(self, name: str, kind: str, of: str, change: Callable[[dict[str, Any]], object]) -> list[str]:
        """The faults of an overlay with one object changed."""
        return list(check_manifests.faults(changed(overlay(name), kind, of, change), BIN_DIR))

    def test_faults_are_named(self) -> None:
        def pod(job: dict[str, Any]) -> dict[str, Any]:
            return job["spec"]["template"]["spec"]

        def budget(service: dict[str, Any]) -> None:
            labels = {"app.kubernetes.io/name": "hrm-actor"}
            service["kind"], service["apiVersion"] = "PodDisruptionBudget", "policy/v1"
            service["spec"] = {"maxUnavailable": "50%", "selector": {"matchLabels": labels}}

        learner, actor = ("job", "Job", "hrm-learner"), ("job", "Job", "hrm-actor")
        for where, change, said in (
            (learner, lambda job: pod(job)["containers"][0]["args"].remove("--require-complete"), "--require-complete"),
            (actor, lambda job: pod(job)["containers"][0]["args"].append("--leaner"), "--leaner"),
            (actor, lambda job: pod(job).update(restartPolicy="OnFailure"), "restartPolicy Never"),
            (learner, lambda job: pod(job)["containers"][0]["env"].pop(), "learner.stay_when_complete is True"),
            (learner, lambda job: pod(job)["containers"][0].update(name="lerner"), "names container learner"),
            (("job", "PersistentVolumeClaim", "runs-hrm-learner-0"), lambda c: c["metadata"].update(name="x"), "claim"),
            (("job", "ServiceAccount", "hrm-actor"), lambda a: a["metadata"].update(name="x"), "no service account"),
            (("job", "PodMonitor", "hrm-actor"), budget, "a number as minAvailable"),
            (learner, lambda job: pod(job).pop("nodeSelector"), "another architecture"),
            (
                ("job", "ConfigMap", "hrm-dashboard-fleet"),
                lambda c: c["data"].clear(),
                "no config map has the dashboard",
            ),
            (
                ("jobset", "JobSet", "hrm"),
                lambda s: s["spec"]["successPolicy"]["targetReplicatedJobs"].append("x"),
                "x",
            ),
        ):
            found = self.found(*where, change)
            self.assertEqual(len(found), 1, (said, found))
            self.assertIn(said, found[0])


class Spot(unittest.TestCase):
    """Actors on spot nodes, and a learner that stays."""

    def test_faults_are_named(self) -> None:
        def pod(workload: dict[str, Any]) -> dict[str, Any]:
            return workload["spec"]["template"]["spec"]

        def affinity(workload: dict[str, Any]) -> dict[str, Any]:
            return pod(workload)["affinity"]["nodeAffinity"]

        def preferred(workload: dict[str, Any]) -> list[dict[str, Any]]:
            return affinity(workload)["preferredDuringSchedulingIgnoredDuringExecution"]

        def required(workload: dict[str, Any]) -> list[dict[str, Any]]:
            return affinity(workload)["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]

        def annotations(workload: dict[str, Any]) -> dict[str, str]:
            return workload["spec"]["template"]["metadata"]["annotations"]

        def spread(workload: dict[str, Any]) -> dict[str, Any]:
            return pod(workload)["topologySpreadConstraints"][0]

        def port(policy: dict[str, Any]) -> None:
            policy["spec"]["egress"][0]["ports"][0]["port"] = 80

        learner, actor = ("StatefulSet", "hrm-learner"), ("Deployment", "hrm-actor")
        budget, policy = ("PodDisruptionBudget", "hrm-learner"), ("NetworkPolicy", "hrm-learner-copy")
        low, high = ("PriorityClass", "hrm-actor"), ("PriorityClass", "hrm-learner")
        gke = {"key": "cloud.google.com/gke-spot", "operator": "Exists"}
        for of, change, said in (
            (actor, lambda w: pod(w)["tolerations"].pop(), "tolerates kubernetes.azure.com/scalesetpriority=spot"),
            (actor, lambda w: preferred(w).pop(0), "prefers cloud.google.com/gke-spot=true"),
            (actor, lambda w: spread(w).update(whenUnsatisfiable="DoNotSchedule"), "waits for a node"),
            (actor, lambda w: spread(w).update(topologyKey="zone"), "not spread over"),
            (actor, lambda w: spread(w)["labelSelector"].update(matchLabels={"a": "b"}), "does not count its own"),
            (actor, lambda w: pod(w).update(priorityClassName="low"), "no priority class low"),
            (low, lambda c: c.update(value=-11), "not between -10"),
            (low, lambda c: c.pop("preemptionPolicy"), "takes the place of other pods"),
            (high, lambda c: c.update(value=0), "not above the default"),
            (learner, lambda w: required(w)[0]["matchExpressions"].pop(1), "avoids eks.amazonaws.com/capacityType"),
            (learner, lambda w: required(w).append({"matchExpressions": []}), "one cloud only"),
            (learner, lambda w: pod(w).update(tolerations=[gke]), "tolerates cloud.google.com/gke-spot"),
            (learner, lambda w: annotations(w).pop("karpenter.sh/do-not-disrupt"), "do-not-disrupt is not true"),
            (budget, lambda b: b["spec"].update(minAvailable=0), "keeps its one pod"),
            (budget, lambda b: b["spec"].pop("unhealthyPodEvictionPolicy"), "not ready"),
            (policy, lambda p: p["spec"]["egress"].pop(), "no DNS"),
            (policy, lambda p: p["spec"]["egress"][0]["to"].pop() and port(p), "allows 0.0.0.0/0 at [80]"),
        ):
            found = list(check_manifests.faults(changed(overlay("spot"), *of, change), BIN_DIR))
            self.assertEqual(len(found), 1, (said, found))
            self.assertIn(said, found[0])

    def test_it_combines_with_jobs(self) -> None:
        for mode in ("job", "jobset"):
            self.assertEqual(list(check_manifests.faults(combined(["spot", "copy", mode], KUBECTL), BIN_DIR)), [])


# Maps with keys of the writer's choice. The other checks compare them with the objects that they select.
FREE = {"labels", "matchLabels", "annotations", "data", "nodeSelector", "limits", "requests"}


def keys(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the path of every key, one for all elements of a list."""
    if isinstance(content, list):
        for at, part in enumerate(content):
            yield from keys(part, (*path, at))
    elif isinstance(content, dict) and not FREE.intersection(path[-1:]) and not _selects(content, path):
        for key, part in content.items():
            yield (*path, key)
            yield from keys(part, (*path, key))


def _selects(content: dict[str, Any], path: tuple[Any, ...]) -> bool:
    """True for the selector of a Service, which is a map of labels."""
    return path == ("spec", "selector") and all(isinstance(value, str) for value in content.values())


def misspelt(content: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    """The object with one key misspelt."""
    wrong = copy.deepcopy(content)
    inner: Any = wrong
    for part in path[:-1]:
        inner = inner[part]
    inner[f"{path[-1]}x"] = inner.pop(path[-1])
    return wrong


class Typos(unittest.TestCase):
    """Unknown fields."""

    def fault(self, name: str, manifest: Manifest) -> str | None:
        """The first fault of an object alone."""
        alone = Overlay(name, [manifest])
        return next(itertools.chain(schemas.faults(manifest), scaling.faults(alone)), None)

    def test_a_typo_in_any_key_of_any_object_is_named(self) -> None:
        tried = set()
        for folder in OVERLAYS:
            for manifest in overlay(folder.name).manifests:
                places = {
                    tuple(part for part in path if isinstance(part, str)): path for path in keys(manifest.content)
                }
                self.assertGreater(len(places), 3, manifest)
                self.assertIsNone(self.fault(folder.name, manifest))
                for place, path in places.items():
                    # Most objects are the same in every overlay.
                    key = (manifest.kind, manifest.name, place)
                    if key not in tried and place not in (("apiVersion",), ("kind",)):
                        tried.add(key)
                        found = self.fault(folder.name, Manifest(misspelt(manifest.content, path)))
                        self.assertIsNotNone(found, f"{folder.name}: {manifest}: {place}")
        self.assertGreater(len(tried), 500)


if __name__ == "__main__":
    unittest.main()
