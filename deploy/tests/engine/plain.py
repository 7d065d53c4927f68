"""The test of docker-compose.yml: it builds, learns, survives kills and restarts, and gives its result."""

from __future__ import annotations

import time

from ..waiting import Failure
from . import completed
from .compose import run
from .watched import TRAINING, Cluster, crash, until

# Seconds that a stop may take; the engine kills after stop_grace_period.
LONGEST_STOP = 10.0
GOOD = 0.6


def story(cluster: Cluster) -> None:
    """Runs the test."""
    cluster.start("Docker Compose", actors=3)
    cluster.confined()
    success = "hrm_learner_episode_success_ratio"
    until(
        f"success above {GOOD:.0%}",
        lambda: (cluster.value(success) or 0) > GOOD and cluster.frames() > 50_000,
        TRAINING,
    )
    print(f"cluster: success {cluster.value(success):.1%} after {cluster.frames():.0f} frames", flush=True)

    cluster.up(actors=4)
    cluster.up(actors=2)
    cluster.trains()

    joins = cluster.value("hrm_learner_joins_total") or 0
    crash(cluster.project.containers(cluster.actor)[0])
    until("the killed actor is back", lambda: (cluster.value("hrm_learner_joins_total") or 0) > joins)
    until("2 actors are joined", lambda: cluster.value("hrm_learner_actors") == 2)

    crash(cluster.learner_container())
    cluster.resumes("killed", 2)

    before = cluster.frames()
    began = time.monotonic()
    run("docker", "stop", "--time", "60", cluster.learner_container())
    took = time.monotonic() - began
    if took > LONGEST_STOP:
        raise Failure(f"stopping took {took:.1f} s")
    print(f"cluster: the learner stopped within {took:.1f} s", flush=True)
    cluster.project("down")
    cluster.up(actors=2)
    cluster.resumes("down and up", 3)
    # Prometheus made its last scrape up to five seconds before the end.
    if cluster.resumed_at() < before:
        raise Failure(f"it resumed at {cluster.resumed_at()} frames, but had {before:.0f} before the stop")
    print(f"cluster: it resumed at {cluster.resumed_at()} frames", flush=True)
    completed.story(cluster)
