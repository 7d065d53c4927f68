#!/usr/bin/env python3
"""A real cluster on a real engine: docker-compose.yml, unchanged, with images that were built from the Dockerfile.

Learner, three actors and Prometheus come up and are well; the agent learns four rooms to 60%; actors are added, taken
away and killed; the learner is killed and resumes from its volume; everything is taken down and goes on when it comes
up again. What is asked, Prometheus answers, which found learner and actors by their names. Grafana is left out.

Needs the images hrm-impala/actor and hrm-impala/learner (make images), Prometheus's under the name that
docker-compose.yml has for it, and about a core for each of the five.

    python3 cluster.py
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Callable

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "observability"))

from api import Prometheus  # noqa: E402
from compose import Failure, Project, inspect, run  # noqa: E402
from processes import free_ports  # noqa: E402

SERVICES = ("learner", "actor", "prometheus")
LARGEST_IMAGE = 600_000_000
# What stopping may take; the engine kills after stop_grace_period.
LONGEST_STOP = 10.0
GOOD = 0.6
# Limits for a test that hangs, not for a slow machine: learning takes two or three minutes on two cores.
SOON, LEARNING = 180.0, 1800.0
VERSIONS_OF_A_START = 2**32


def until(what: str, condition: Callable[[], object], seconds: float = SOON) -> None:
    """Returns once `condition` holds, and says how long that took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise Failure(f"not within {seconds:.0f} s: {what}")
        time.sleep(1)
    print(f"cluster: {what} ({time.monotonic() - began:.0f} s)", flush=True)


def images() -> None:
    """What can be seen of the images without running them."""
    for name in ("actor", "learner"):
        (image,) = inspect(f"hrm-impala/{name}:0.1.0")
        config = image["Config"]
        if image["Size"] > LARGEST_IMAGE:
            raise Failure(f"{name}: {image['Size']} bytes are more than {LARGEST_IMAGE}")
        if config["User"].split(":")[0] in ("", "0", "root"):
            raise Failure(f"{name}: runs as root")
        if "health" not in " ".join(config["Healthcheck"]["Test"]):
            raise Failure(f"{name}: no health check")
        for label in ("title", "description", "version", "revision", "licenses", "source"):
            if not config["Labels"].get(f"org.opencontainers.image.{label}"):
                raise Failure(f"{name}: no label {label}")
        print(f"cluster: image {name}: {image['Size'] / 1e6:.0f} MB", flush=True)


def crash(container: str) -> None:
    """Ends a container's process as a crash does; `docker kill` would count as a wish that it stay down."""
    os.kill(inspect(container)[0]["State"]["Pid"], signal.SIGKILL)


class Cluster:
    """The project, and what its Prometheus says of it."""

    def __init__(self, project: Project, prometheus: Prometheus) -> None:
        self.project, self.prometheus = project, prometheus

    def value(self, metric: str) -> float | None:
        """The one value that a metric has now, if any: not one of a container that was there before."""
        if not self.prometheus.ready():
            return None
        series = self.prometheus.now(f"last_over_time({metric}[15s])")
        return float(series[0]["value"][1]) if len(series) == 1 else None

    def frames(self) -> float:
        """Frames of the run so far; 0 while nobody says."""
        return self.value("hrm_learner_run_frames") or 0.0

    def up(self, actors: int) -> None:
        """Brings up what is not, with so many actors, and waits until they are joined and everything is well."""
        self.project("up", "--detach", "--no-build", "--scale", f"actor={actors}", *SERVICES)
        until(f"{actors} actors are joined", lambda: self.value("hrm_learner_actors") == actors)
        wanted = {"learner": 1, "actor": actors, "prometheus": 1}
        until("all are healthy", lambda: all(self.project.healthy(name) == n for name, n in wanted.items()))

    def trains(self, more: int = 2048) -> None:
        """Waits until frames go on."""
        goal = self.frames() + more
        until(f"{goal:.0f} frames", lambda: self.frames() >= goal)

    def learner(self) -> str:
        """The learner's container."""
        (container,) = self.project.containers("learner")
        return container


def isolated(cluster: Cluster) -> None:
    """What a container may do, as the engine has it."""
    for service in ("learner", "actor"):
        for container in inspect(*cluster.project.containers(service)):
            host = container["HostConfig"]
            if not host["ReadonlyRootfs"] or host["CapDrop"] != ["ALL"] or host["Privileged"]:
                raise Failure(f"{service}: not confined: {host}")
            if not host["Memory"] or not (host["NanoCpus"] or host["CpuQuota"]):
                raise Failure(f"{service}: memory {host['Memory']} and CPUs {host['NanoCpus']} are not limited")
        for ports in (inspect(one)[0]["NetworkSettings"]["Ports"] for one in cluster.project.containers(service)):
            published = [binding["HostIp"] for bindings in ports.values() for binding in bindings or []]
            if any(address != "127.0.0.1" for address in published):
                raise Failure(f"{service}: published on {published}")


def learner_resumes(cluster: Cluster, what: str, start: float) -> None:
    """Waits until the learner has started once more and its frames and versions go on."""
    until(f"{what}: the learner's start {start:.0f}", lambda: cluster.value("hrm_learner_starts") == start)
    resumed = [line["frames"] for line in cluster.project.log("learner") if line.get("message") == "resumed"]
    if not resumed or resumed[-1] <= 0:
        raise Failure(f"{what}: it did not resume")
    cluster.trains()
    block = (cluster.value("hrm_learner_weights_version") or 0) // VERSIONS_OF_A_START
    if block != start - 1:
        raise Failure(f"{what}: versions are in block {block}, and this is start {start:.0f}")


def story(cluster: Cluster) -> None:
    """Everything in turn."""
    cluster.up(actors=3)
    isolated(cluster)
    success = "hrm_learner_episode_success_ratio"
    until(
        f"success above {GOOD:.0%}",
        lambda: (cluster.value(success) or 0) > GOOD and cluster.frames() > 50_000,
        LEARNING,
    )
    print(f"cluster: success {cluster.value(success):.1%} after {cluster.frames():.0f} frames", flush=True)

    cluster.up(actors=4)
    cluster.up(actors=2)
    cluster.trains()

    crash(cluster.project.containers("actor")[0])
    joins = cluster.value("hrm_learner_joins_total") or 0
    until("the killed actor is back", lambda: (cluster.value("hrm_learner_joins_total") or 0) > joins)
    until("2 actors are joined", lambda: cluster.value("hrm_learner_actors") == 2)

    crash(cluster.learner())
    learner_resumes(cluster, "killed", 2)

    before = cluster.frames()
    began = time.monotonic()
    run("docker", "stop", "--time", "60", cluster.learner())
    took = time.monotonic() - began
    if took > LONGEST_STOP:
        raise Failure(f"stopping took {took:.1f} s")
    print(f"cluster: the learner stopped within {took:.1f} s", flush=True)
    cluster.project("down")
    cluster.up(actors=2)
    learner_resumes(cluster, "down and up", 3)
    resumed = [line["frames"] for line in cluster.project.log("learner") if line.get("message") == "resumed"]
    # What Prometheus had last was scraped up to five seconds before the end.
    if resumed[-1] < before:
        raise Failure(f"it resumed at {resumed[-1]} frames, and had {before:.0f} before it was stopped")
    print(f"cluster: it went on from {resumed[-1]} frames", flush=True)


def main() -> int:
    """Runs the story, and leaves nothing behind."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    learner, prometheus, grafana = free_ports(3)
    project = Project(
        "hrm-test",
        {
            "LEARNER_PORT": str(learner),
            "PROMETHEUS_PORT": str(prometheus),
            "GRAFANA_PORT": str(grafana),
            # One more than there will be frames.
            "TOTAL_FRAMES": "100000000",
        },
    )
    began = time.monotonic()
    try:
        project("down", "--volumes")
        images()
        story(Cluster(project, Prometheus(prometheus)))
    except Failure as failure:
        print(f"cluster: {failure}", file=sys.stderr)
        for service in SERVICES:
            for line in project.log(service)[-10:]:
                print(f"    {service}: {line}", file=sys.stderr)
        return 1
    finally:
        project("down", "--volumes")
    print(f"cluster: passed in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
