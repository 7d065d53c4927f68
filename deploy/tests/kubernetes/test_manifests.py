"""Tests of the manifests' checks: each finds what is wrong with an overlay.

Needs the programs in the folder BIN_DIR, and kubectl (KUBECTL).

    BIN_DIR=target/debug python3 -m unittest deploy.tests.kubernetes.test_manifests
"""

from __future__ import annotations

import copy
import os
import unittest
from collections.abc import Callable
from functools import cache
from typing import Any

from ..paths import K8S, REPOSITORY
from . import check_manifests
from .manifests import Manifest, Overlay, build

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
            (
                ("jobset", "JobSet", "hrm"),
                lambda s: s["spec"]["successPolicy"]["targetReplicatedJobs"].append("x"),
                "x",
            ),
        ):
            found = self.found(*where, change)
            self.assertEqual(len(found), 1, (said, found))
            self.assertIn(said, found[0])


if __name__ == "__main__":
    unittest.main()
