"""A real cluster on a real engine: docker-compose.yml and the commands of docs/compose.md, with Compose 1 and 2.

Each Compose builds the images and starts the learner, three actors and Prometheus, which are healthy. The agent learns
four rooms to 60%. The test adds, removes and kills actors. It kills the learner, which resumes from its volume. It
takes everything down, and the run resumes at the next start. The run ends, and the page's commands evaluate it, draw an
episode and copy it. Then the test starts profile tls, which rejects clients without certificate or token. At last it
pulls the images from a registry on this machine. Prometheus answers all questions; it found learner and actors by their
names.

Variables name base images of this machine, and leave out Grafana, of which Debian has no package.

Needs the images of base_images.sh and `make images`, Docker's registry, and about one core for each of the five
processes. `make cluster-test` provides all of them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import command_line
from ..observability.api import Prometheus
from ..observability.processes import free_ports
from ..waiting import Failure
from . import encrypted, plain, pulled
from .compose import Compose, Project, inspect, our_image, releases, run
from .registry import registry
from .watched import Cluster

# Bytes.
LARGEST_IMAGES = {"actor": 30_000_000, "learner": 600_000_000}


def images() -> None:
    """Checks the images without running them."""
    for name, largest in LARGEST_IMAGES.items():
        (image,) = inspect(our_image(name))
        config = image["Config"]
        if image["Size"] > largest:
            raise Failure(f"{name}: {image['Size']} bytes are more than {largest}")
        if config["User"].split(":")[0] in ("", "0", "root"):
            raise Failure(f"{name}: runs as root")
        if "health" not in " ".join(config["Healthcheck"]["Test"]):
            raise Failure(f"{name}: no health check")
        for label in ("title", "description", "version", "revision", "licenses", "source"):
            if not config["Labels"].get(f"org.opencontainers.image.{label}"):
                raise Failure(f"{name}: no label {label}")
        print(f"cluster: image {name}: {image['Size'] / 1e6:.0f} MB", flush=True)


def prometheus_3(image: str) -> None:
    """Checks that the image holds what the test says it holds."""
    said = run("docker", "run", "--rm", "--network=none", image, "--version").splitlines()[0]
    if not said.startswith("prometheus, version 3."):
        raise Failure(f"{image} is not Prometheus 3: {said}")
    print(f"cluster: {said}", flush=True)


@contextmanager
def cluster(project: Project, learner: str, actor: str) -> Iterator[tuple[Cluster, int]]:
    """Yields the project and the learner's published port. Removes it afterwards; prints logs of a failure."""
    port, web, prometheus, grafana = free_ports(4)
    project.environment |= {
        "LEARNER_PORT": str(port),
        "WEB_PORT": str(web),
        "PROMETHEUS_PORT": str(prometheus),
        "GRAFANA_PORT": str(grafana),
        # More frames than the test trains.
        "TOTAL_FRAMES": "100000000",
    }
    try:
        project("down", "--volumes")
        yield Cluster(project, Prometheus(prometheus), learner, actor), port
    except Failure:
        for service in (learner, actor, "prometheus"):
            for line in project.log(service)[-10:]:
                print(f"    {service}: {line}", file=sys.stderr)
        raise
    finally:
        project("down", "--volumes")


def stories(compose: Compose, arguments: argparse.Namespace) -> None:
    """Runs all tests with one Compose."""
    built = {
        "RUST_IMAGE": arguments.rust,
        "RUNTIME_IMAGE": arguments.runtime,
        "PROMETHEUS_IMAGE": arguments.prometheus,
        # Compose asks for this image even where no container needs it.
        "GRAFANA_IMAGE": arguments.prometheus,
        "GRAFANA_REPLICAS": "0",
    }
    with cluster(Project(compose, "hrm-test", built), "learner", "actor") as (up, _):
        plain.story(up)
    with cluster(Project(compose, "hrm-test-tls", built, ["tls"]), "learner-tls", "actor-tls") as (up, port):
        encrypted.story(up, port)
    with tempfile.TemporaryDirectory() as folder, registry(arguments.registry, Path(folder)) as started:
        ours, others = f"{started.address}/team", f"{started.address}/prometheus:debian"
        try:
            for name in LARGEST_IMAGES:
                pulled.push(our_image(name), our_image(name, ours))
            pulled.push(arguments.prometheus, others)
            settings = built | {"REGISTRY": ours, "PROMETHEUS_IMAGE": others, "GRAFANA_IMAGE": others}
            with cluster(Project(compose, "hrm-test-pulled", settings), "learner", "actor") as (up, _):
                pulled.story(up, ours)
        finally:
            pulled.forget(started.address)


def main() -> int:
    """Runs all tests with both releases of Compose."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--rust", required=True, metavar="IMAGE", help="for RUST_IMAGE of the Dockerfile")
    parser.add_argument("--runtime", required=True, metavar="IMAGE", help="for RUNTIME_IMAGE of the Dockerfile")
    parser.add_argument("--prometheus", required=True, metavar="IMAGE", help="Prometheus 3")
    parser.add_argument("--registry", required=True, metavar="FILE", type=Path, help="Docker's registry, the program")
    arguments = parser.parse_args()
    began = time.monotonic()
    try:
        both = releases()
        images()
        prometheus_3(arguments.prometheus)
        for compose in both:
            print(f"cluster: {compose}", flush=True)
            stories(compose, arguments)
    except Failure as failure:
        print(f"cluster: {failure}", file=sys.stderr)
        return 1
    print(f"cluster: passed in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
