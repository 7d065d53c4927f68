"""The processes: which run, what of, and what they use."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from .board import board
from .panels import (
    CORES,
    FRAMES_PER_SECOND,
    PER_SECOND,
    VERSIONS,
    bars,
    curve,
    facts,
    falling,
    light,
    rising,
    row,
    rows,
)
from .queries import Query, actor, learner, process, rate, recorded, unfinished

BEHIND = "instance:hrm_actor_weights_version:behind"
EITHER = "hrm-learner|hrm-actor"


def build() -> dashboard.Dashboard:
    """The dashboard."""
    made = board("fleet", "Fleet", "The processes: which run, what of, and what they use.")
    for panel in health():
        made.with_panel(panel)
    made.with_row(row("Actors"))
    for panel in actors():
        made.with_panel(panel)
    made.with_row(row("Processes"))
    for panel in processes():
        made.with_panel(panel)
    return made


def health():
    """One glance."""
    yield light(
        "Learners up",
        "Share of the learners that answer Prometheus. Below 100%: read the log of the one that is missing.",
        Query("up", 'avg(up{namespace=~"$namespace", job="hrm-learner"})'),
        "percentunit",
        falling(0.5, 1),
        none="none known",
    )
    yield light(
        "Actors up",
        "Share of the actors known to Prometheus that answer it. Those that are gone for good disappear by themselves.",
        Query("up", 'avg(up{namespace=~"$namespace", job="hrm-actor"})'),
        "percentunit",
        falling(0.5, 1),
        none="none known",
    )
    yield light(
        "Actors joined",
        "Actors that say that they are joined. Fewer than run: read the log of the others for why they cannot join.",
        Query("joined", f"sum({unfinished(actor('hrm_actor_connected'))})"),
        "short",
        [(None, "red"), (1, "green")],
        none="none",
    )
    yield light(
        "Farthest behind",
        "Versions that the actor with the oldest weights is behind its learner, over the bound on the policy lag. Above"
        " 100% what it plays is dropped: see the table for which it is.",
        Query(
            "of the bound",
            f"max({unfinished(actor(BEHIND))}) / min({learner('hrm_learner_max_policy_lag_versions')})",
        ),
        "percentunit",
        rising(0.5, 1),
        none="none",
    )
    yield light(
        "Reconnections",
        "Times in the last 10 minutes that actors had no learner and tried again. Some at a restart of the learner; "
        "without one, look at the network.",
        Query("reconnections", f"sum(increase({actor('hrm_actor_reconnects_total')}[10m]))"),
        "short",
        rising(1, 30),
    )
    yield light(
        "Restarts",
        "Processes that started in the last 10 minutes in place of another. Expected at an upgrade; else read the end"
        " of their previous log.",
        Query("restarts", f"sum(changes({process(EITHER, 'process_start_time_seconds')}[10m]))"),
        "short",
        rising(1, 5),
    )
    yield light(
        "Starts of the run",
        "How often the run was started, this time included. It rises with every restart of the learner.",
        Query("starts", f"max({learner('hrm_learner_starts')})"),
        "short",
        rising(5, 20),
    )
    yield light(
        "Releases",
        "Different releases that run. More than one is an upgrade under way; one that stays is an actor that was "
        "forgotten.",
        Query("releases", f"count(count by (version) ({process(EITHER, 'hrm_build_info')}))"),
        "short",
        rising(2, 3),
    )


def actors():
    """Which actors there are and how they do."""
    yield rows(
        "Actors",
        "Every actor: whether it is joined, how old its weights are, how busy it is, what it produces and uses. Sort by"
        " a column to find the odd one out; restart one that stays behind.",
        (
            Query("joined", f"sum by (instance) ({actor('hrm_actor_connected')})"),
            "short",
            [(None, "red"), (1, "green")],
        ),
        (Query("weights of version", f"max by (instance) ({actor('hrm_actor_weights_version')})"), "none", None),
        (Query("versions behind", f"max by (instance) ({actor(BEHIND)})"), "short", None),
        (Query("frames/s", f"sum by (instance) ({rate(actor('hrm_actor_frames_total'))})"), "short", None),
        (Query("busy", f"avg by (instance) ({actor('instance:hrm_actor_busy:ratio_rate5m')})"), "percentunit", None),
        (
            Query("reconnections", f"sum by (instance) ({actor('hrm_actor_reconnects_total')})"),
            "short",
            [(None, "green"), (10, "orange")],
        ),
        (
            Query("cores", f"sum by (instance) ({rate(process('hrm-actor', 'process_cpu_seconds_total'))})"),
            "short",
            None,
        ),
        (
            Query("memory", f"sum by (instance) ({process('hrm-actor', 'process_resident_memory_bytes')})"),
            "bytes",
            None,
        ),
        (
            Query("up for", f"time() - min by (instance) ({process('hrm-actor', 'process_start_time_seconds')})"),
            "s",
            None,
        ),
    )
    yield curve(
        "Versions behind, by actor",
        "How far the weights that each actor acts on are behind the learner's newest. A sawtooth of one batch is"
        " normal; a line that only rises is an actor that gets none (an alert).",
        Query("{{instance}}", actor(BEHIND)),
        Query("bound", f"max({learner('hrm_learner_max_policy_lag_versions')})"),
        unit=VERSIONS,
        low=0,
    )
    yield bars(
        "Actors, by version of their weights",
        "How many actors act on which version now. All on one or two neighbours is normal; one left far behind is not.",
        Query("version {{version}}", f'count_values("version", {actor("hrm_actor_weights_version")})'),
        "short",
        [(None, "blue")],
    )
    yield curve(
        "Frames, by actor",
        "Frames a second of each actor. One below the others has a slower or a shared core; all falling together wait "
        "for the learner.",
        Query("{{instance}}", rate(actor("hrm_actor_frames_total"))),
        unit=FRAMES_PER_SECOND,
        low=0,
    )
    yield curve(
        "Connections",
        "Actors as the learner counts them, and as they say themselves. They differ for up to 40 s after an actor died;"
        " longer, and a connection is half open. Room for: as many as would just keep the learner busy, at most twice"
        " those there are; a synchronous run has no such number.",
        Query("joined, says the learner", f"sum({learner('hrm_learner_actors')})"),
        Query("joined, say the actors", f"sum({actor('hrm_actor_connected')})"),
        Query(
            "room for",
            f"sum({learner('hrm_learner_actors')} * on (namespace) group_left ()"
            f" {recorded('namespace:hrm_learner_headroom:ratio')})",
        ),
        unit="short",
        low=0,
    )
    yield curve(
        "Joins and reconnections",
        "Joins that the learner accepted, and times that actors tried again. Reconnections without joins: they do not "
        "reach it, or it refuses them.",
        Query("joins", f"sum({rate(learner('hrm_learner_joins_total'))})"),
        Query("reconnections", f"sum({rate(actor('hrm_actor_reconnects_total'))})"),
        unit=PER_SECOND,
        low=0,
    )
    yield curve(
        "Weights received, by actor",
        "Versions a second that arrive at each actor; the learner publishes one for every batch, and a slow actor skips"
        " some. 0 while others receive: see HrmWeightsNotReachingActor.",
        Query("{{instance}}", rate(actor("hrm_actor_weights_received_total"))),
        Query("bound: published", f"sum({rate(learner('hrm_learner_weights_published_total'))})"),
        unit=PER_SECOND,
        low=0,
    )
    yield curve(
        "Turned away",
        "Connections and calls that the learner turned away before anything of theirs was read. unauthenticated or "
        "forbidden: a token that is missing, wrong or a viewer's (actor.token_file), or a stranger. sessions, "
        "connections: raise learner.max_sessions or learner.max_connections, or look for whoever opens so many.",
        Query("{{reason}}", f"sum by (reason) ({rate(learner('hrm_learner_calls_refused_total'))})"),
        unit=PER_SECOND,
        low=0,
    )


def processes():
    """What they use."""
    yield curve(
        "CPU",
        "Cores used. An actor uses one when it does not wait; a learner learner.threads while it trains. Less, without "
        "waiting, is a limit of the container or a shared machine.",
        Query("{{job}} {{instance}}", f"rate({process(EITHER, 'process_cpu_seconds_total')}[$__rate_interval])"),
        unit=CORES,
        low=0,
    )
    yield curve(
        "Memory",
        "Resident memory. It is bounded by the queue, the batch and the model; one that rises for hours is a leak: note"
        " the release and restart the process.",
        Query("{{job}} {{instance}}", f"{process(EITHER, 'process_resident_memory_bytes')}"),
        unit="bytes",
        low=0,
    )
    yield curve(
        "Open files",
        "Open file descriptors, sockets among them, over the limit. Near 100% the learner can accept no more actors: "
        "raise the limit (ulimit -n).",
        Query("{{job}} {{instance}}", f"{process(EITHER, 'process_open_fds')} / {process(EITHER, 'process_max_fds')}"),
        unit="percentunit",
        low=0,
        steps=rising(0.5, 0.9),
    )
    yield curve(
        "Threads",
        "Threads of each process. Constant after the start; a rise is a fault worth reporting.",
        Query("{{job}} {{instance}}", f"{process(EITHER, 'process_threads')}"),
        unit="short",
        low=0,
    )
    yield curve(
        "Files that cannot be written",
        "Times in the last 10 minutes that the file system refused what a learner writes. Training goes on, and what "
        "is not saved is lost with the process: make room, or make the volume writable.",
        Query("{{file}}", f"sum by (file) (increase({learner('hrm_learner_write_failures_total')}[10m]))"),
        unit="short",
        low=0,
        steps=rising(1, 2),
    )
    yield curve(
        "Undone",
        "Frames that were trained on and are trained on anew since a learner was killed, and batches whose updates were"
        " undone because they spoilt the weights. The latter: lower optimizer.learning_rate.",
        Query("frames after a kill", f"sum(increase({learner('hrm_learner_frames_rolled_back_total')}[10m]))"),
        Query("batches", f"sum(increase({learner('hrm_learner_rollbacks_total')}[10m]))"),
        unit="short",
        low=0,
    )
    yield facts(
        "Builds",
        "Which release every process is. The learner and its actors should be of the same one; where they differ in the"
        " wire version, actors are refused.",
        Query("", f"{process(EITHER, 'hrm_build_info')}"),
        "job",
        "instance",
        "role",
        "version",
    )
    yield facts(
        "Runs",
        "What every learner trains, and on which device. The wrong maze or preset here is a configuration that was not"
        " mounted; `cpu` in place of `cuda:0` is explained by the learner's log line `device chosen`.",
        Query("", learner("hrm_learner_run_info")),
        "instance",
        "run",
        "maze",
        "preset",
        "carry",
        "synchronous",
        "device",
    )
