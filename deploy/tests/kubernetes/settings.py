"""Our programs with the environment of image and manifest, compared with the manifests."""

from __future__ import annotations

import re
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import programs
from ..paths import DEPLOY, REPOSITORY
from .manifests import Overlay, Workload

DOCKERFILE = DEPLOY / "docker/Dockerfile"
VERSION = tomllib.loads((REPOSITORY / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]["package"]["version"]
# The registry of our images until an overlay names one.
PLACEHOLDER = "registry.invalid"
# The container's port for each address of the configuration.
ADDRESSES = {
    "hrm-learner": {"listen": "grpc", "metrics_listen": "metrics", "health_listen": "health"},
    "hrm-actor": {"metrics_listen": "metrics", "health_listen": "health"},
}


def faults(overlay: Overlay, bin_dir: Path) -> Iterator[str]:
    """Yields the statements of an overlay about our programs that are false."""
    for workload in overlay.workloads:
        program = workload.name
        container = workload.containers[0]
        target, tag = image_of_ours(container["image"])
        if workload.pod.get("nodeSelector", {}).get("kubernetes.io/arch") != "amd64":
            yield f"{workload}: a node of another architecture cannot run its image"
        if tag != VERSION:
            yield f"{workload}: image {container['image']}, and this is version {VERSION}"
        yield from (f"{workload}: {fault}" for fault in faults_of_registry(container["image"]))
        if overlay.name == "local" and container.get("imagePullPolicy") != "Never":
            yield f"{workload}: a node that lacks the image would ask a registry (imagePullPolicy: Never)"
        if message := programs.rejects(bin_dir / program, container["args"]):
            yield f"{workload}: {program} {' '.join(container['args'])}: {message}"
        if workload.ends != ("--require-complete" in container["args"]):
            yield f"{workload}: --require-complete belongs to jobs, and only to them"
        try:
            config = _configuration(overlay, workload, bin_dir / program, image_environment(target))
        except ValueError as error:
            yield f"{workload}: {error}"
            continue
        section = config[program.removeprefix("hrm-")]
        for key, port in ADDRESSES[program].items():
            if section[key].rpartition(":")[2] != str(workload.ports.get(port)):
                yield f"{workload}: port {port} is {workload.ports.get(port)}, and {key} = {section[key]}"
        if section["drain_seconds"] >= workload.pod["terminationGracePeriodSeconds"]:
            yield f"{workload}: drain_seconds = {section['drain_seconds']} outlasts the grace period"
        if program == "hrm-learner":
            yield from _learner(config, workload)
        else:
            yield from _actor(config, overlay)


def image_of_ours(image: str) -> tuple[str, str]:
    """Returns the Dockerfile's target and the tag of one of our images, from any registry; empty texts for others."""
    match = re.fullmatch(r"(?:.*/)?hrm-impala/([a-z-]+):(\S+)", image)
    return (match[1], match[2]) if match else ("", "")


def faults_of_registry(image: str) -> Iterator[str]:
    """Yields a fault if one of our images names a registry that anybody could fill."""
    target, _ = image_of_ours(image)
    registry = image.partition("/")[0]
    # RFC 2606 reserves this domain, so it never resolves.
    if target and not registry.endswith(".invalid"):
        yield f"image {image}: write {PLACEHOLDER}/hrm-impala/{target}, which no registry answers for"


def image_environment(target: str) -> dict[str, str]:
    """Returns the variables that the Dockerfile sets in a target and in the targets below it."""
    stages: dict[str, tuple[str, dict[str, str]]] = {}
    stage = ""
    for line in re.sub(r"\\\n\s*", "", DOCKERFILE.read_text(encoding="utf-8")).splitlines():
        if match := re.match(r"FROM (\S+) AS (\S+)", line):
            parent, stage = match.groups()
            stages[stage] = (parent, dict(stages.get(parent, ("", {}))[1]))
        elif line.startswith("ENV ") and stage:
            stages[stage][1].update(dict(pair.split("=", 1) for pair in line.split()[1:]))
    if target not in stages:
        raise SystemExit(f"{DOCKERFILE}: there is no target {target}")
    return {key: value for key, value in stages[target][1].items() if key.startswith("HRM__")}


def _configuration(overlay: Overlay, workload: Workload, program: Path, image: dict[str, str]) -> dict[str, Any]:
    """Returns the effective configuration with the container's environment and file."""
    container = workload.containers[0]
    own = {variable["name"]: variable["value"] for variable in container.get("env", [])}
    if "--config" not in container["args"]:
        return programs.configuration(program, image | own)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.toml"
        file.write_text(_config_map(overlay, workload)["run.toml"], encoding="utf-8")
        return programs.configuration(program, image | own, file)


def _config_map(overlay: Overlay, workload: Workload) -> dict[str, str]:
    name = next(v["configMap"]["name"] for v in workload.pod["volumes"] if "configMap" in v)
    return next(manifest.content["data"] for manifest in overlay.of("ConfigMap") if manifest.name == name)


def _learner(config: dict[str, Any], workload: Workload) -> Iterator[str]:
    """Requires the run on the volume, a learner that stays when complete except in a job, and a GPU exactly if there is
    one.
    """
    if config["learner"]["stay_when_complete"] == workload.ends:
        yield f"{workload}: learner.stay_when_complete is {config['learner']['stay_when_complete']}"
    mount = next(m["mountPath"] for m in workload.containers[0]["volumeMounts"] if m["name"] == "runs")
    work = re.search(r"^WORKDIR (/var\S+)$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    if not work or not str(Path(work[1]) / config["run"]["dir"]).startswith(f"{mount}/"):
        yield f"{workload}: run.dir = {config['run']['dir']} is not in {mount}"
    gpus = workload.containers[0]["resources"]["limits"].get("nvidia.com/gpu", 0)
    if (config["run"]["device"] == "cuda") != bool(gpus):
        yield f"{workload}: run.device = {config['run']['device']} with {gpus} GPUs"


def _actor(config: dict[str, Any], overlay: Overlay) -> Iterator[str]:
    """Requires that its learner is a service of the overlay."""
    host, _, port = config["actor"]["learner"].rpartition("//")[2].partition(":")
    services = [service for service in overlay.of("Service") if service.name == host]
    if not any(str(p["port"]) == port for service in services for p in service.spec["ports"]):
        yield f"actor.learner = {config['actor']['learner']} is not a service of the overlay"
