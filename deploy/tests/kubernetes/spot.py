"""Actors may run on spot nodes and prefer them. The learner never runs there, and nothing evicts it on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .manifests import Overlay, Workload

# Labels of spot nodes, by which AKS also taints them. A schema allows any.
# https://docs.cloud.google.com/kubernetes-engine/docs/concepts/spot-vms
# https://docs.aws.amazon.com/eks/latest/userguide/managed-node-groups.html
# https://karpenter.sh/docs/concepts/scheduling/
# https://learn.microsoft.com/azure/aks/spot-node-pool
LABELS = {
    ("cloud.google.com/gke-spot", "true"),
    ("eks.amazonaws.com/capacityType", "SPOT"),
    ("karpenter.sh/capacity-type", "spot"),
    ("kubernetes.azure.com/scalesetpriority", "spot"),
}
# The Cluster Autoscaler's and Karpenter's. A schema allows any.
PROTECTED = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
# The scheduler's.
SPREAD = {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
# The Cluster Autoscaler adds no node for pods below it.
CUTOFF = -10


def faults(overlay: Overlay) -> Iterator[str]:
    """Yields the faults of an overlay with priorities, which is one with actors on spot nodes."""
    classes = {manifest.name: manifest.content for manifest in overlay.of("PriorityClass")}
    if not classes:
        return
    for workload in overlay.workloads:
        own = classes.get(workload.pod.get("priorityClassName", ""), {})
        # references.py names a class that does not exist.
        value = own.get("value", 0)
        if workload.matches({"app.kubernetes.io/name": "hrm-learner"}):
            yield from (f"{workload}: {fault}" for fault in _learner(overlay, workload))
            if own and value <= 0:
                yield f"{workload}: priority {value} is not above the default"
        else:
            yield from (f"{workload}: {fault}" for fault in _actor(workload))
            if own and not CUTOFF <= value < 0:
                yield f"{workload}: priority {value} is not between {CUTOFF} and the default"
            if own and own.get("preemptionPolicy") != "Never":
                yield f"{workload}: it takes the place of other pods"


def _actor(workload: Workload) -> Iterator[str]:
    tolerated = {
        (taint["key"], taint.get("value", ""))
        for taint in workload.pod.get("tolerations", [])
        if taint.get("effect") == "NoSchedule"
    }
    yield from _compared("tolerates", tolerated)
    terms = _affinity(workload).get("preferredDuringSchedulingIgnoredDuringExecution", [])
    # A term holds if all its expressions hold, and a node has one of the labels.
    if any(len(term["preference"]["matchExpressions"]) != 1 for term in terms):
        yield "a preference needs labels of several clouds at once"
    wanted = [expression for term in terms for expression in term["preference"]["matchExpressions"]]
    yield from _compared("prefers", _values(wanted, "In"))
    spreads = workload.pod.get("topologySpreadConstraints", [])
    if {spread["topologyKey"] for spread in spreads} != SPREAD:
        yield f"it is not spread over {sorted(SPREAD)}"
    if any(spread["whenUnsatisfiable"] != "ScheduleAnyway" for spread in spreads):
        yield "it waits for a node that would spread it evenly"


def _learner(overlay: Overlay, workload: Workload) -> Iterator[str]:
    spot = {key for key, _ in LABELS}
    yield from (f"it tolerates {t.get('key')}" for t in workload.pod.get("tolerations", []) if t.get("key") in spot)
    required = _affinity(workload).get("requiredDuringSchedulingIgnoredDuringExecution", {})
    terms = required.get("nodeSelectorTerms", [])
    # One of the terms must hold, with all its expressions.
    if len(terms) > 1:
        yield "a node needs to avoid the labels of one cloud only"
    avoided = [expression for term in terms for expression in term["matchExpressions"]]
    yield from _compared("avoids", _values(avoided, "NotIn"))
    annotations = workload.spec["template"]["metadata"].get("annotations", {})
    yield from (f"annotation {key} is not {value}" for key, value in PROTECTED.items() if annotations.get(key) != value)
    every = (manifest.spec for manifest in overlay.of("PodDisruptionBudget"))
    budgets = [budget for budget in every if workload.matches(budget["selector"]["matchLabels"])]
    if not any(budget.get("minAvailable") == 1 for budget in budgets):
        yield "no disruption budget keeps its one pod"
    if any(budget.get("unhealthyPodEvictionPolicy") != "AlwaysAllow" for budget in budgets):
        yield "its budget also keeps a pod that is not ready, such as that of a complete run"


def _affinity(workload: Workload) -> dict[str, Any]:
    return workload.pod.get("affinity", {}).get("nodeAffinity", {})


def _values(expressions: list[dict[str, Any]], operator: str) -> set[tuple[str, str]]:
    found = (expression for expression in expressions if expression["operator"] == operator)
    return {(expression["key"], value) for expression in found for value in expression["values"]}


def _compared(verb: str, labels: set[tuple[str, str]]) -> Iterator[str]:
    yield from (f"it {verb} {key}={value}, which marks no spot node" for key, value in sorted(labels - LABELS))
    yield from (f"nothing in it {verb} {key}={value}" for key, value in sorted(LABELS - labels))
