"""A running cluster, watched through its Prometheus."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Callable

from .. import waiting
from ..observability.api import Prometheus
from ..waiting import Failure
from . import pasted
from .compose import Project, inspect, our_image

# A limit for a test that hangs, not for a slow machine.
SOON = 180.0
# The same for training, which takes two or three minutes on two cores.
TRAINING = 1800.0
VERSIONS_OF_A_START = 2**32


def until(what: str, condition: Callable[[], object], seconds: float = SOON) -> None:
    """Waits for a condition of the cluster."""
    waiting.until(what, condition, seconds, test="cluster")


def crash(container: str) -> None:
    """Ends a container's process as a crash does; after `docker kill` the engine would not restart it."""
    os.kill(inspect(container)[0]["State"]["Pid"], signal.SIGKILL)


class Cluster:
    """The project, with one service as the learner and one as the actors, and its Prometheus."""

    def __init__(self, project: Project, prometheus: Prometheus, learner: str, actor: str) -> None:
        self.project, self.prometheus = project, prometheus
        self.learner, self.actor = learner, actor

    def value(self, metric: str) -> float | None:
        """Returns the only present value of a metric, if there is one; series of removed containers do not count."""
        if not self.prometheus.ready():
            return None
        series = self.prometheus.now(f"last_over_time({metric}[15s])")
        return float(series[0]["value"][1]) if len(series) == 1 else None

    def frames(self) -> float:
        """Returns the frames of the run so far; 0 while the metric does not exist."""
        return self.value("hrm_learner_run_frames") or 0.0

    def start(self, heading: str, actors: int) -> None:
        """Starts it without our images, by the commands below a heading of docs/compose.md; waits as `up` does."""
        for name in ("learner", "actor"):
            # It fails where the image does not exist.
            subprocess.run(["docker", "rmi", "--force", our_image(name)], capture_output=True, check=False)
        self.project.environment["ACTORS"] = str(actors)
        pasted.paste(self.project, heading)
        self.joined(actors)

    def up(self, actors: int) -> None:
        """Starts missing services and this many actors; waits until these have joined and all are healthy."""
        services = (self.learner, self.actor, "prometheus")
        self.project("up", "--detach", "--no-build", "--scale", f"{self.actor}={actors}", *services)
        self.joined(actors)

    def joined(self, actors: int) -> None:
        """Waits until this many actors have joined and all are healthy."""
        wanted = {self.learner: 1, self.actor: actors, "prometheus": 1}
        until(f"{actors} actors are joined", lambda: self.value("hrm_learner_actors") == actors)
        until("all are healthy", lambda: all(self.project.healthy(name) == n for name, n in wanted.items()))

    def trains(self, more: int = 2048) -> None:
        """Waits for more frames."""
        goal = self.frames() + more
        until(f"{goal:.0f} frames", lambda: self.frames() >= goal)

    def learner_container(self) -> str:
        """Returns the learner's container."""
        (container,) = self.project.containers(self.learner)
        return container

    def resumed_at(self) -> int:
        """Returns the frames at which the running learner resumed."""
        said = [line["frames"] for line in self.project.log(self.learner) if line.get("message") == "resumed"]
        return said[-1] if said else 0

    def resumes(self, what: str, start: float) -> None:
        """Waits until the learner has started again and trains on, with versions of its new block."""
        until(f"{what}: the learner's start {start:.0f}", lambda: self.value("hrm_learner_starts") == start)
        if self.resumed_at() <= 0:
            raise Failure(f"{what}: it did not resume")
        self.trains()
        block = (self.value("hrm_learner_weights_version") or 0) // VERSIONS_OF_A_START
        if block != start - 1:
            raise Failure(f"{what}: versions are in block {block}, and this is start {start:.0f}")

    def confined(self) -> None:
        """Checks that the engine confines learner and actors as docker-compose.yml says."""
        for service in (self.learner, self.actor):
            for container in inspect(*self.project.containers(service)):
                host = container["HostConfig"]
                if not host["ReadonlyRootfs"] or host["CapDrop"] != ["ALL"] or host["Privileged"]:
                    raise Failure(f"{service}: not confined: {host}")
                if not host["Memory"] or not (host["NanoCpus"] or host["CpuQuota"]):
                    raise Failure(f"{service}: memory {host['Memory']} and CPUs {host['NanoCpus']} are not limited")
                ports = container["NetworkSettings"]["Ports"].values()
                published = [binding["HostIp"] for bindings in ports for binding in bindings or []]
                if any(address != "127.0.0.1" for address in published):
                    raise Failure(f"{service}: published on {published}")
