"""References between the objects of an overlay: selectors, ports, accounts, volumes, targets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import paths
from .manifests import Manifest, Overlay, Workload, workloads_of

DASHBOARDS = sorted(paths.DASHBOARDS.glob("*.json"))
# Labels of other projects, which our network policies name and no overlay contains.
STRANGERS = ({"app.kubernetes.io/name": "prometheus"},)
# Ports of DNS.
NAMES = {53, 5353}
# The port of object stores, whose addresses nobody knows.
STORE = 443
# Kinds of the whole cluster.
CLUSTER = ("Namespace", "PriorityClass")


def faults(overlay: Overlay) -> Iterator[str]:
    """Yields the references of an overlay to missing objects."""
    seen: set[str] = set()
    for manifest in overlay.manifests:
        if str(manifest) in seen:
            yield f"{manifest} occurs twice"
        seen.add(str(manifest))
        if manifest.kind not in CLUSTER and not overlay.has("Namespace", manifest.namespace):
            yield f"{manifest}: namespace {manifest.namespace!r} is not the overlay's"
        yield from (f"{manifest}: {fault}" for fault in _CHECKS.get(manifest.kind, _nothing)(overlay, manifest))
    yield from _dashboards(overlay)


def _nothing(_overlay: Overlay, _manifest: Manifest) -> Iterator[str]:
    return iter(())


def _set(overlay: Overlay, manifest: Manifest) -> Iterator[str]:
    (workload,) = workloads_of(manifest)
    if not workload.matches(manifest.spec["selector"]["matchLabels"]):
        yield "its selector does not find its own pods"
    if manifest.kind == "StatefulSet" and not overlay.has("Service", manifest.spec["serviceName"]):
        yield f"there is no service {manifest.spec['serviceName']}"
    yield from _pods(overlay, workload)


def _jobs(overlay: Overlay, manifest: Manifest) -> Iterator[str]:
    for workload in workloads_of(manifest):
        yield from _pods(overlay, workload)
        if workload.pod.get("restartPolicy") != "Never":
            yield "a policy for failures needs restartPolicy Never"
        containers = {container["name"] for container in workload.containers}
        for rule in workload.spec["podFailurePolicy"]["rules"]:
            named = rule.get("onExitCodes", {}).get("containerName")
            if named and named not in containers:
                yield f"its policy for failures names container {named}, and there is only {sorted(containers)}"
    if manifest.kind == "JobSet":
        jobs = {job["name"] for job in manifest.spec["replicatedJobs"]}
        for missing in set(manifest.spec["successPolicy"]["targetReplicatedJobs"]) - jobs:
            yield f"it waits for job {missing}, and there is only {sorted(jobs)}"


def _pods(overlay: Overlay, workload: Workload) -> Iterator[str]:
    account = workload.pod.get("serviceAccountName", "default")
    if not overlay.has("ServiceAccount", account):
        yield f"there is no service account {account}"
    priority = workload.pod.get("priorityClassName")
    if priority and not overlay.has("PriorityClass", priority):
        yield f"there is no priority class {priority}"
    for spread in workload.pod.get("topologySpreadConstraints", []):
        if not workload.matches(spread["labelSelector"]["matchLabels"]):
            yield f"the spread over {spread['topologyKey']} does not count its own pods"
    volumes = {volume["name"] for volume in workload.pod.get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in workload.spec.get("volumeClaimTemplates", [])}
    for volume in workload.pod.get("volumes", []):
        if "configMap" in volume and not overlay.has("ConfigMap", volume["configMap"]["name"]):
            yield f"there is no config map {volume['configMap']['name']}"
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim and not overlay.has("PersistentVolumeClaim", claim):
            yield f"there is no volume claim {claim}"
    for container in workload.containers:
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"{container['name']}: there is no volume {mount['name']}"
        numbers = {port["containerPort"] for port in container.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            port = container.get(probe, {}).get("grpc", {}).get("port")
            if port not in numbers:
                yield f"{container['name']}: {probe} asks port {port}, which is not in {sorted(numbers)}"
        for source in container.get("envFrom", []):
            # The operator creates the secret.
            if not source["secretRef"].get("optional"):
                yield f"{container['name']}: there is no secret {source['secretRef']['name']}, and it is not optional"


def _dashboards(overlay: Overlay) -> Iterator[str]:
    """Yields the dashboards that an overlay with others lacks."""
    found = {
        name for manifest in overlay.of("ConfigMap") for name in manifest.content["data"] if name.endswith(".json")
    }
    if found:
        yield from (f"no config map has the dashboard {path.name}" for path in DASHBOARDS if path.name not in found)


def _service(overlay: Overlay, manifest: Manifest) -> Iterator[str]:
    yield from _found(overlay, manifest.spec["selector"], [port["targetPort"] for port in manifest.spec["ports"]])


def _budget(overlay: Overlay, manifest: Manifest) -> Iterator[str]:
    labels = manifest.spec["selector"]["matchLabels"]
    yield from _found(overlay, labels, [])
    # Kubernetes cannot tell how many pods a job should have. Without a number to start from, it blocks every eviction.
    if any(workload.ends for workload in overlay.selected(labels)) and not isinstance(
        manifest.spec.get("minAvailable"), int
    ):
        yield "of a job's pods it can only say how many must stay: a number as minAvailable"


def _policy(overlay: Overlay, manifest: Manifest) -> Iterator[str]:
    own = manifest.spec["podSelector"].get("matchLabels", {})
    yield from _found(overlay, own, [])
    for rule in manifest.spec.get("ingress", []):
        yield from _found(overlay, own, [port["port"] for port in rule["ports"]])
        yield from _peers(overlay, rule["from"], [])
    named = False
    for rule in manifest.spec.get("egress", []):
        ports = [port["port"] for port in rule["ports"]]
        if "to" in rule:
            yield from _peers(overlay, rule["to"], ports)
        elif NAMES.issuperset(ports):
            named = True
        else:
            yield f"it allows every peer at {ports}"
    if manifest.spec.get("egress") and not named:
        yield "it allows no DNS, and so no peer with a name"


def _peers(overlay: Overlay, peers: list[dict[str, Any]], ports: list[Any]) -> Iterator[str]:
    for peer in peers:
        if "ipBlock" in peer:
            if ports != [STORE]:
                yield f"it allows {peer['ipBlock']['cidr']} at {ports}"
            continue
        labels = peer["podSelector"]["matchLabels"]
        if labels not in STRANGERS:
            yield from _found(overlay, labels, ports)


def _autoscaler(overlay: Overlay, manifest: Manifest) -> Iterator[str]:
    target = manifest.spec["scaleTargetRef"]
    # KEDA's default.
    kind = target.get("kind", "Deployment")
    if not overlay.has(kind, target["name"]):
        yield f"there is no {kind} {target['name']}"
    for workload in overlay.workloads:
        if workload.manifest.name == target["name"] and "replicas" in workload.spec:
            yield f"{workload.manifest} also sets its replicas"


def _service_monitor(overlay: Overlay, manifest: Manifest) -> Iterator[str]:
    wanted = manifest.spec["selector"]["matchLabels"].items()
    services = [s for s in overlay.of("Service") if wanted <= s.content["metadata"].get("labels", {}).items()]
    ports = {port["name"] for service in services for port in service.spec["ports"]}
    for endpoint in manifest.spec["endpoints"]:
        if endpoint["port"] not in ports:
            yield f"no service that it finds has a port {endpoint['port']}"


def _pod_monitor(overlay: Overlay, manifest: Manifest) -> Iterator[str]:
    ports = [endpoint["port"] for endpoint in manifest.spec["podMetricsEndpoints"]]
    yield from _found(overlay, manifest.spec["selector"]["matchLabels"], ports)


def _found(overlay: Overlay, labels: dict[str, str], ports: list[Any]) -> Iterator[str]:
    workloads = overlay.selected(labels)
    if not workloads:
        yield f"nothing has the labels {labels}"
    for workload in workloads:
        for port in ports:
            if port not in workload.ports and port not in workload.ports.values():
                yield f"{workload} has no port {port}"


_CHECKS = {
    "Deployment": _set,
    "StatefulSet": _set,
    "Job": _jobs,
    "JobSet": _jobs,
    "Service": _service,
    "PodDisruptionBudget": _budget,
    "NetworkPolicy": _policy,
    "HorizontalPodAutoscaler": _autoscaler,
    "ScaledObject": _autoscaler,
    "ServiceMonitor": _service_monitor,
    "PodMonitor": _pod_monitor,
}
