"""The restricted Pod Security Standard, as far as our pods can break it, and stricter rules of ours."""

from __future__ import annotations

from collections.abc import Iterator

from .manifests import Workload

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
HOST = ("hostNetwork", "hostPID", "hostIPC")


def faults(workload: Workload) -> Iterator[str]:
    """Yields the faults of a workload's pods."""
    pod = workload.pod
    yield from (f"{key} is set" for key in HOST if pod.get(key))
    for volume in pod.get("volumes", []):
        for kind in volume.keys() - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is a {kind}"
    if pod.get("automountServiceAccountToken") is not False:
        yield "the service account's token is mounted"
    if not pod.get("terminationGracePeriodSeconds"):
        yield "no terminationGracePeriodSeconds"
    for container in workload.containers:
        # The pod's values apply to a container that sets none.
        context = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
        where = container["name"]
        if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
            yield f"{where}: may run as root"
        if context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{where}: no seccompProfile"
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{where}: allowPrivilegeEscalation is not false"
        if context.get("privileged") or context.get("procMount", "Default") != "Default":
            yield f"{where}: privileged"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{where}: capabilities are not dropped, all of them"
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{where}: the root file system is not read-only"
        for kind in ("requests", "limits"):
            for resource in ("cpu", "memory"):
                if resource not in container.get("resources", {}).get(kind, {}):
                    yield f"{where}: no {kind} of {resource}"
        yield from (f"{where}: hostPort" for port in container.get("ports", []) if "hostPort" in port)
