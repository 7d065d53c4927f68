"""The end of a run: the cluster is idle as docs/compose.md says, and its commands give the result."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from ..waiting import Failure
from . import pasted
from .compose import log
from .watched import TRAINING, Cluster, until

# Frames that the run still trains.
LAST = 20_000
# The files of the run that a reader wants, and the picture that the commands draw.
RESULT = ("summary.json", "learning-curve.svg", "replay.html", "walk.svg")


def story(cluster: Cluster) -> None:
    """Lets the run end, and reads its result."""
    ends(cluster)
    idles(cluster)
    with tempfile.TemporaryDirectory() as folder:
        shown = pasted.paste(cluster.project, "Result", Path(folder))
        same_result(shown, Path(folder) / "four-rooms")


def ends(cluster: Cluster) -> None:
    """Starts the learner with fewer frames to train, and waits for its final evaluation."""
    cluster.project.environment["TOTAL_FRAMES"] = str(int(cluster.frames()) + LAST)
    cluster.project("up", "--detach", "--no-build", cluster.learner)

    def stays() -> bool:
        said = [str(line.get("message")) for line in cluster.project.log(cluster.learner)]
        return any(message.startswith("the run is complete; staying") for message in said)

    until("the run is complete", stays, TRAINING)


def idles(cluster: Cluster) -> None:
    """Checks the state in which a complete run leaves the cluster."""
    alert = 'ALERTS{alertname="HrmRunComplete", alertstate="firing"}'

    def told(actor: str) -> bool:
        return any(line.get("message") == "the run is complete" for line in log(actor))

    actors = cluster.project.containers(cluster.actor, every=True)
    until("the learner says so", lambda: cluster.value("hrm_learner_run_complete") == 1)
    until("every actor has learned it and exited", lambda: all(map(told, actors)))
    until("the alert HrmRunComplete fires", lambda: cluster.prometheus.now(alert))
    until("the learner is healthy", lambda: cluster.project.healthy(cluster.learner) == 1)


def same_result(shown: str, run: Path) -> None:
    """Compares what the evaluation printed with the copied run."""
    missing = [name for name in RESULT if not (run / name).is_file()]
    if missing:
        raise Failure(f"the copied run lacks {', '.join(missing)}")
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    (greedy,) = (one for one in summary["evaluations"] if one["policy"] == "greedy")
    wanted = f"Greedy on {greedy['episodes']} held-out episodes: {100 * greedy['success']:.1f}% reach the goal"
    if not summary["complete"] or wanted not in shown:
        raise Failure(f"the copied run is complete: {summary['complete']}, with {greedy}, but eval printed\n{shown}")
    print(f"cluster: {wanted}, as in the copied run", flush=True)
