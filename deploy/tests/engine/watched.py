"""A cluster that is up, and what its Prometheus says of it."""

from __future__ import annotations

import os
import signal
from typing import Callable

from .. import waiting
from ..observability.api import Prometheus
from ..waiting import Failure
from .compose import Project, inspect

# A limit for a test that hangs, not for a slow machine.
SOON = 180.0
VERSIONS_OF_A_START = 2**32


def until(what: str, condition: Callable[[], object], seconds: float = SOON) -> None:
    """Waits for a condition of the cluster."""
    waiting.until(what, condition, seconds, test="cluster")


def crash(container: str) -> None:
    """Ends a container's process as a crash does; `docker kill` would count as a wish that it stay down."""
    os.kill(inspect(container)[0]["State"]["Pid"], signal.SIGKILL)


class Cluster:
    """The project with one service as the learner and one as the actors, and what its Prometheus says of them."""

    def __init__(self, project: Project, prometheus: Prometheus, learner: str, actor: str) -> None:
        self.project, self.prometheus = project, prometheus
        self.learner, self.actor = learner, actor

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
        wanted = {self.learner: 1, self.actor: actors, "prometheus": 1}
        self.project("up", "--detach", "--no-build", "--scale", f"{self.actor}={actors}", *wanted)
        until(f"{actors} actors are joined", lambda: self.value("hrm_learner_actors") == actors)
        until("all are healthy", lambda: all(self.project.healthy(name) == n for name, n in wanted.items()))

    def trains(self, more: int = 2048) -> None:
        """Waits until frames go on."""
        goal = self.frames() + more
        until(f"{goal:.0f} frames", lambda: self.frames() >= goal)

    def learner_container(self) -> str:
        """The learner's container."""
        (container,) = self.project.containers(self.learner)
        return container

    def resumed_at(self) -> int:
        """Frames at which the learner that runs now went on."""
        said = [line["frames"] for line in self.project.log(self.learner) if line.get("message") == "resumed"]
        return said[-1] if said else 0

    def resumes(self, what: str, start: float) -> None:
        """Waits until the learner has started once more and its frames and versions go on."""
        until(f"{what}: the learner's start {start:.0f}", lambda: self.value("hrm_learner_starts") == start)
        if self.resumed_at() <= 0:
            raise Failure(f"{what}: it did not resume")
        self.trains()
        block = (self.value("hrm_learner_weights_version") or 0) // VERSIONS_OF_A_START
        if block != start - 1:
            raise Failure(f"{what}: versions are in block {block}, and this is start {start:.0f}")

    def confined(self) -> None:
        """Makes sure that the engine lets learner and actors do no more than docker-compose.yml says."""
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
