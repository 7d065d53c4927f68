"""Checks docker-compose.yml against the files that it uses. Needs no engine.

.env.example lists exactly the variables, with the same defaults. Ports are published on loopback only. Every service
is confined, and every image of others has a health check and a release. One service builds each of our images, and
REGISTRY says where they come from. Our programs accept the environment of image and service. Prometheus asks existing
services at their real ports.

    cargo build --workspace --bins
    python3 -m deploy.tests.engine.check_compose --bin-dir target/debug
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .. import command_line, programs
from ..kubernetes.settings import faults_of_registry, image_environment, image_of_ours
from ..paths import DEPLOY, REPOSITORY
from .compose import EXAMPLE
from .compose import defaults as example_variables

COMPOSE = REPOSITORY / "docker-compose.yml"
SCRAPE = DEPLOY / "prometheus/prometheus.yml"
# The end of a tag such as v3.13.4, with or without a digest.
RELEASE = re.compile(r":v?\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?$")
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
OURS = {
    "learner": "hrm-learner",
    "learner-gpu": "hrm-learner",
    "learner-tls": "hrm-learner",
    "actor": "hrm-actor",
    "actor-tls": "hrm-actor",
}


def filled(text: str, **given: str) -> str:
    """Returns the file with these variables, and every other one at its default."""
    return VARIABLE.sub(lambda match: given.get(match[1], match[2] or ""), text)


def faults_of_variables(text: str) -> Iterator[str]:
    """Yields the variables that .env.example and the file state differently."""
    defaults: dict[str, str] = {}
    for name, default in VARIABLE.findall(text):
        if defaults.setdefault(name, default) != default:
            yield f"${name} has two defaults: {defaults[name]!r} and {default!r}"
    examples = example_variables()
    for name in sorted(defaults.keys() | examples.keys()):
        if defaults.get(name) != examples.get(name):
            yield f"${name} is {defaults.get(name)!r} by default, and {examples.get(name)!r} in {EXAMPLE.name}"


def faults_of_services(services: dict[str, Any], bin_dir: Path) -> Iterator[str]:
    """Yields the faults of single services."""
    for name, service in services.items():
        for port in service.get("ports", []):
            if not str(port).startswith("127.0.0.1:"):
                yield f"{name}: port {port} is not published on loopback only"
        if "restart" not in service:
            yield f"{name}: no restart policy"
        if service.get("cap_drop") != ["ALL"]:
            yield f"{name}: it keeps capabilities (cap_drop: [ALL])"
        if service.get("security_opt") != ["no-new-privileges:true"]:
            yield f"{name}: its processes may gain privileges (security_opt: [no-new-privileges:true])"
        for key in ("cpus", "memory"):
            if key not in service.get("deploy", {}).get("resources", {}).get("limits", {}):
                yield f"{name}: no limit of {key}"
        if name in OURS:
            try:
                config = configuration(service, bin_dir / OURS[name])
            except ValueError as error:
                yield f"{name}: {error}"
                continue
            drain = config[OURS[name].removeprefix("hrm-")]["drain_seconds"]
            if drain >= int(service["stop_grace_period"].removesuffix("s")):
                yield f"{name}: drain_seconds = {drain} is not below stop_grace_period"


def faults_of_images(services: dict[str, Any]) -> Iterator[str]:
    """Yields the services that would not get our image from the one build on this machine."""
    builders: dict[str, list[str]] = {}
    for name, service in services.items():
        image = service["image"]
        target, _ = image_of_ours(image)
        if not target:
            if "healthcheck" not in service:
                yield f"{name}: no health check; those of our images do not apply to {image}"
            if not RELEASE.search(image):
                yield f"{name}: image {image} has no release as its tag, so it changes by itself"
            continue
        yield from (f"{name}: {fault}" for fault in faults_of_registry(image))
        builders.setdefault(image, [])
        policy = service.get("pull_policy")
        if "build" in service:
            builders[image].append(name)
            if service["build"].get("target") != target:
                yield f"{name}: image {image} is built from target {service['build'].get('target')}"
            # With another policy, Compose 2 never pulls it from the user's registry, or never builds it.
            if policy is not None:
                yield f"{name}: pull_policy is {policy}; without one, Compose pulls from REGISTRY, or builds"
        else:
            if not builders[image]:
                yield f"{name}: no service before it builds {image}; Compose 1.29 takes them in the order of the file"
            # Compose 2 would also pull it itself, beside the build.
            if policy != "never":
                yield f"{name}: pull_policy is {policy}, not never, and another service provides {image}"
    for image, names in builders.items():
        if len(names) != 1:
            yield f"image {image} is built by {len(names)} services ({', '.join(names)}), not by one"


def faults_of_registry_chosen(text: str) -> Iterator[str]:
    """Yields the services that would not get our image from the registry that a user names."""
    chosen = "registry.example.org/team"
    for name, service in yaml.safe_load(filled(text, REGISTRY=chosen))["services"].items():
        image = service["image"]
        target, _ = image_of_ours(image)
        if target and not image.startswith(f"{chosen}/hrm-impala/"):
            yield f"{name}: with REGISTRY={chosen} its image is {image}"


def configuration(service: dict[str, Any], program: Path) -> dict[str, Any]:
    """Returns the effective configuration of a service."""
    variables = image_environment(image_of_ours(service["image"])[0]) | service.get("environment", {})
    if "command" not in service:
        return programs.configuration(program, variables)
    inside = service["command"][service["command"].index("--config") + 1]
    return programs.configuration(program, variables, REPOSITORY / "configs" / Path(inside).name)


def faults_of_scraping(services: dict[str, Any]) -> Iterator[str]:
    """Yields the services and ports that Prometheus asks and that do not exist."""
    for job in yaml.safe_load(SCRAPE.read_text(encoding="utf-8"))["scrape_configs"]:
        section = job["job_name"].removeprefix("hrm-").upper()
        for target in job["dns_sd_configs"]:
            for name in target["names"]:
                if name not in services:
                    yield f"{SCRAPE.name}: there is no service {name}"
                    continue
                listen = image_environment(image_of_ours(services[name]["image"])[0])[f"HRM__{section}__METRICS_LISTEN"]
                if listen != f"0.0.0.0:{target['port']}":
                    yield f"{SCRAPE.name}: {name} is asked at port {target['port']} and serves metrics on {listen}"


def main() -> int:
    """Checks everything and prints the faults."""
    parser = command_line.parser(__doc__)
    command_line.add_bin_dir(parser)
    bin_dir = parser.parse_args().bin_dir

    text = COMPOSE.read_text(encoding="utf-8")
    services = yaml.safe_load(filled(text))["services"]
    faults = [*faults_of_variables(text), *faults_of_images(services), *faults_of_registry_chosen(text)]
    faults += [*faults_of_services(services, bin_dir), *faults_of_scraping(services)]
    return command_line.report("check_compose", faults, f"{len(services)} services")


if __name__ == "__main__":
    sys.exit(main())
