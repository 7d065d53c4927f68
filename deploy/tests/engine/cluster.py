"""A real cluster on a real engine: the unchanged docker-compose.yml with images built from the Dockerfile.

Learner, three actors and Prometheus start and are healthy. The agent learns four rooms to 60%. The test adds, removes
and kills actors. It kills the learner, which resumes from its volume. It takes everything down, and the run resumes at
the next start. Then it repeats this with profile tls, which rejects clients without certificate or token. Prometheus
answers all questions; it found learner and actors by their names. Grafana is left out.

Needs the images of actor and learner (make images), Prometheus's image under the name in docker-compose.yml, and about
one core for each of the five processes.

    python3 -m deploy.tests.engine.cluster
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .. import command_line
from ..observability.api import Prometheus
from ..observability.processes import free_ports
from ..waiting import Failure
from . import encrypted, plain
from .compose import Project, inspect
from .watched import Cluster

# Bytes.
LARGEST_IMAGES = {"actor": 30_000_000, "learner": 600_000_000}


def images() -> None:
    """Checks the images without running them."""
    for name, largest in LARGEST_IMAGES.items():
        (image,) = inspect(f"registry.invalid/hrm-impala/{name}:0.1.0")
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


@contextmanager
def cluster(name: str, learner: str, actor: str, *profiles: str) -> Iterator[tuple[Cluster, int]]:
    """Yields a project of its own and the learner's published port. Removes it afterwards; prints logs of a failure."""
    port, web, prometheus, grafana = free_ports(4)
    settings = {
        "LEARNER_PORT": str(port),
        "WEB_PORT": str(web),
        "PROMETHEUS_PORT": str(prometheus),
        "GRAFANA_PORT": str(grafana),
        # More frames than the test trains.
        "TOTAL_FRAMES": "100000000",
    }
    project = Project(name, settings, profiles)
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


def main() -> int:
    """Runs both tests."""
    command_line.parser(__doc__).parse_args()
    began = time.monotonic()
    try:
        images()
        with cluster("hrm-test", "learner", "actor") as (up, _):
            plain.story(up)
        with cluster("hrm-test-tls", "learner-tls", "actor-tls", "tls") as (up, port):
            encrypted.story(up, port)
    except Failure as failure:
        print(f"cluster: {failure}", file=sys.stderr)
        return 1
    print(f"cluster: passed in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
