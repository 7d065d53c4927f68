"""The processes: their state, release and use of resources."""

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
    progress,
    rising,
    row,
    rows,
    value_link,
)
from .queries import (
    RECENT,
    Function,
    Query,
    actor,
    either,
    gpu,
    itself,
    lately,
    learner,
    rate,
    recorded,
    spread,
    unfinished,
)

GPU = "{{Hostname}} GPU {{gpu}}"
BEHIND = "instance:hrm_actor_weights_version:behind"
LEARNER_UP = 'up{namespace=~"$namespace", job="hrm-learner"}'


def own(metric: str, function: Function = itself) -> str:
    """A metric of every process of the chosen actors, without learners that have local ones."""
    return actor(metric, 'job="hrm-actor"', function=function)


def of_both(metric: str, function: Function = itself) -> list[Query]:
    """A `process_*` metric of every learner, and its distribution over actors."""
    actors = [Query(f"actors, {query.legend}", query.expr) for query in spread(own(metric, function))]
    return [Query("learner {{run}}", learner(metric, function=function)), *actors]


def build() -> dashboard.Dashboard:
    """The dashboard."""
    made = board("fleet", "Fleet", "The processes: their state, release and use of resources.")
    for panel in health():
        made.with_panel(panel)
    made.with_row(row("Actors"))
    for panel in actors():
        made.with_panel(panel)
    made.with_row(row("Processes"))
    for panel in processes():
        made.with_panel(panel)
    # Closed, because only learners on a GPU have it.
    gpu_row = row("GPU")
    for panel in gpus():
        gpu_row.with_panel(panel)
    made.with_row(gpu_row)
    return made


def health():
    """The row of numbers at the top."""
    bound = learner("hrm_learner_max_policy_lag_versions")
    started = either("process_start_time_seconds")
    yield light(
        "Learners down",
        "Learners that Prometheus saw within a day, whose run is not complete, and that do not answer. Read the end of "
        "the log of the missing one.",
        Query("down", f"count({RECENT} == 0 unless on (namespace) {LEARNER_UP} == 1)"),
        "short",
        [(None, "red"), (0, "green"), (1, "red")],
    )
    yield light(
        "Actors up",
        "Share of the actors known to Prometheus that answer it. Actors that were removed disappear by themselves.",
        Query("up", f"avg({unfinished(own('up'))})"),
        "percentunit",
        falling(0.5, 1),
    )
    yield light(
        "Actors joined",
        "Actors that report that they have joined. Fewer than are running: the log of the others gives the reason.",
        Query("joined", f"sum({unfinished(actor('hrm_actor_connected'))})"),
        "short",
        [(None, "red"), (1, "green")],
    )
    yield light(
        "Farthest behind",
        "Versions that the actor with the oldest weights is behind its learner, over the bound on the policy lag. Above"
        " 100% its unrolls are dropped: the table shows which actor it is.",
        Query(
            "of the bound",
            f"max({unfinished(actor(BEHIND))} / on (namespace) group_left () max by (namespace) ({bound}))",
        ),
        "percentunit",
        rising(0.5, 1),
    )
    yield light(
        "Reconnections",
        "Attempts in the last 10 minutes of actors without a learner to connect again. Some are normal at a restart of "
        "the learner; without a restart, check the network.",
        Query("reconnections", f"sum({unfinished(actor('hrm_actor_reconnects_total', function=lately))})"),
        "short",
        rising(1, 30),
    )
    yield light(
        "Started lately",
        "Share of the processes that started in the last 10 minutes, also under a new name, as pods that are replaced."
        " Expected at a start, an upgrade or a larger fleet; otherwise read the end of the log of the one before.",
        Query("started", f"count(time() - {started} < 600) / count({started})"),
        "percentunit",
        rising(0.1, 0.5),
    )
    yield progress(
        "Starts of the run",
        "Number of starts of the run, this one included. It rises with every restart of the learner.",
        Query("starts", f"max({learner('hrm_learner_starts')})"),
        "short",
        rising(5, 20),
        "not known",
    )
    yield light(
        "Releases",
        "Number of different releases that run. More than one is an upgrade in progress. If it stays, an actor was "
        "forgotten.",
        Query("releases", f"count(count by (version) ({either('hrm_build_info')}))"),
        "short",
        rising(2, 3),
    )


def actors():
    """The state of every actor."""
    yield rows(
        "Actors",
        "Every actor: connection, age of its weights, busy share, output and use of resources. The one with the oldest "
        "weights comes first; restart an actor that stays behind. Its name shows it alone.",
        (
            Query("joined", f"sum by (instance) ({actor('hrm_actor_connected')})"),
            "short",
            [(None, "red"), (1, "green")],
        ),
        (Query("weights of version", f"max by (instance) ({actor('hrm_actor_weights_version')})"), "none", None),
        (Query("versions behind", f"max by (instance) ({actor(BEHIND)})"), "short", None),
        (Query("frames/s", f"sum by (instance) ({actor('hrm_actor_frames_total', function=rate)})"), "short", None),
        (Query("busy", f"avg by (instance) ({actor('instance:hrm_actor_busy:ratio_rate5m')})"), "percentunit", None),
        (
            Query("reconnections", f"sum by (instance) ({actor('hrm_actor_reconnects_total')})"),
            "short",
            [(None, "green"), (10, "orange")],
        ),
        (Query("cores", f"sum by (instance) ({own('process_cpu_seconds_total', rate)})"), "short", None),
        (Query("memory", f"sum by (instance) ({own('process_resident_memory_bytes')})"), "bytes", None),
        (Query("up for", f"time() - min by (instance) ({own('process_start_time_seconds')})"), "s", None),
        by="instance",
        worst="versions behind",
        to=value_link("This actor", "fleet", "actor"),
        none="no actors",
    )
    yield curve(
        "Versions behind",
        "Distance of the actors' weights from the learner's newest, over actors. A sawtooth of one batch is normal. If "
        "the highest only rises, an actor receives none (an alert); the table above names it.",
        *spread(actor(BEHIND)),
        Query("bound {{run}}", learner("hrm_learner_max_policy_lag_versions")),
        unit=VERSIONS,
        low=0,
    )
    yield bars(
        "Actors, by versions behind",
        "Number of actors at each distance from the newest weights now, at most ten of them. Small distances are "
        "normal, an actor far behind is not.",
        Query("{{behind}} behind", f'topk(10, count_values("behind", {actor(BEHIND)}))'),
        "short",
        [(None, "blue")],
    )
    yield curve(
        "Frames of an actor",
        "Frames per second of an actor, over actors. A lowest far below the others has a slower or shared core. All "
        "fall together when they wait for the learner.",
        *spread(actor("hrm_actor_frames_total", function=rate)),
        unit=FRAMES_PER_SECOND,
        low=0,
    )
    yield curve(
        "Weights received by an actor",
        "Versions per second that arrive at an actor, over actors. The learner publishes one for every batch, and a "
        "slow actor skips some. A lowest of 0 while others receive: see HrmWeightsNotReachingActor.",
        *spread(actor("hrm_actor_weights_received_total", function=rate)),
        Query("bound: published {{run}}", learner("hrm_learner_weights_published_total", function=rate)),
        unit=PER_SECOND,
        span=6,
        low=0,
    )
    yield curve(
        "Connections",
        "Actors by the learner's count and by their own. The two differ for up to 40 s after an actor died; if "
        "longer, a connection is half open. Room for: the number that would just keep the learner busy, at most twice "
        "the present one. A synchronous run has no such number.",
        Query("joined, by the learner", f"sum({learner('hrm_learner_actors')})"),
        Query("joined, by the actors", f"sum({actor('hrm_actor_connected')})"),
        Query(
            "room for",
            f"sum({learner('hrm_learner_actors')} * on (namespace) group_left ()"
            f" {recorded('namespace:hrm_learner_headroom:ratio')})",
        ),
        unit="short",
        span=6,
        low=0,
    )
    yield curve(
        "Joins and reconnections",
        "Joins that the learner accepted, and attempts of actors to connect again. Reconnections without joins: actors "
        "do not reach the learner, or it rejects them.",
        Query("joins", f"sum({learner('hrm_learner_joins_total', function=rate)})"),
        Query("reconnections", f"sum({actor('hrm_actor_reconnects_total', function=rate)})"),
        unit=PER_SECOND,
        span=6,
        low=0,
    )
    yield curve(
        "Turned away",
        "Connections and calls that the learner rejected before it read anything from them. unauthenticated or "
        "forbidden: a token that is missing, wrong or a viewer's (actor.token_file), or an unknown client. sessions, "
        "connections: raise learner.max_sessions or learner.max_connections, or find the client that opens so many.",
        Query("{{reason}}", f"sum by (reason) ({learner('hrm_learner_calls_refused_total', function=rate)})"),
        unit=PER_SECOND,
        span=6,
        low=0,
    )


def processes():
    """The use of resources."""
    yield curve(
        "CPU",
        "Cores used. An actor uses one when it does not wait, a learner uses learner.threads while it trains. Less, "
        "without waiting, means a limit of the container or a shared machine.",
        *of_both("process_cpu_seconds_total", rate),
        unit=CORES,
        low=0,
    )
    yield curve(
        "Memory",
        "Resident memory. Queue, batch and model bound it. A curve that rises for hours is a leak: note the release and"
        " restart the process.",
        *of_both("process_resident_memory_bytes"),
        unit="bytes",
        low=0,
    )
    yield curve(
        "Open files",
        "Open file descriptors, sockets included, over the limit. Near 100% the learner accepts no more actors: raise "
        "the limit (ulimit -n).",
        Query("learner {{run}}", f"{learner('process_open_fds')} / {learner('process_max_fds')}"),
        Query("actors, highest", f"max({own('process_open_fds')} / {own('process_max_fds')})"),
        unit="percentunit",
        low=0,
        steps=rising(0.5, 0.9),
    )
    yield curve(
        "Threads",
        "Threads of each process. Constant after the start; report a rise as a bug.",
        *of_both("process_threads"),
        unit="short",
        low=0,
    )
    yield curve(
        "Files that cannot be written",
        "Writes of a learner that the file system refused in the last 10 minutes. Training continues, but unsaved work "
        "is lost with the process: free space, or make the volume writable.",
        Query("{{file}}", f"sum by (file) ({learner('hrm_learner_write_failures_total', function=lately)})"),
        unit="short",
        low=0,
        steps=rising(1, 2),
    )
    yield curve(
        "Undone",
        "Frames trained on that were lost when a learner was killed and are trained on again, and batches whose updates"
        " were rolled back because they left weights that are not finite. For the latter, lower optimizer.learning_rate.",
        Query("frames after a kill", f"sum({learner('hrm_learner_frames_rolled_back_total', function=lately)})"),
        Query("batches", f"sum({learner('hrm_learner_rollbacks_total', function=lately)})"),
        unit="short",
        low=0,
    )
    yield facts(
        "Builds",
        "Number of processes of each release. The learner and its actors should have the same one. The learner rejects "
        "actors with another wire version.",
        Query("", f"count by (job, role, version) ({either('hrm_build_info')})"),
        "job",
        "role",
        "version",
        "Value",
        none="no process",
        span=12,
    )
    yield facts(
        "Runs",
        "Maze, model and device of every learner. A wrong maze or preset means that the configuration was not mounted."
        " For `cpu` in place of `cuda:0`, the learner's log line `device chosen` gives the reason.",
        Query("", learner("hrm_learner_run_info")),
        "run",
        "instance",
        "maze",
        "preset",
        "carry",
        "synchronous",
        "device",
        none="no learner",
        to=value_link("This run", "training", "run"),
        span=12,
    )


def gpus():
    """The GPUs of the learners, by NVIDIA's DCGM exporter."""
    yield curve(
        "GPU busy",
        "Share of the time in which a kernel ran on the GPU. Low while the learner is busy: small batches or "
        "minibatches, so raise learner.batch_unrolls. Low while it waits: too few actors.",
        Query(GPU, gpu("DCGM_FI_DEV_GPU_UTIL")),
        unit="percent",
        span=6,
        low=0,
        high=100,
    )
    yield curve(
        "GPU memory",
        "Share of the GPU's memory in use, by all processes on it. It is constant after the first batch. Near 100%: "
        "smaller minibatches, or another process uses the GPU.",
        Query(GPU, f"{gpu('DCGM_FI_DEV_FB_USED')} / ({gpu('DCGM_FI_DEV_FB_USED')} + {gpu('DCGM_FI_DEV_FB_FREE')})"),
        unit="percentunit",
        span=6,
        low=0,
        high=1,
        steps=rising(0.9, 0.97),
    )
    yield curve(
        "GPU power",
        "Power that the GPU draws. Far below its limit while the GPU is busy means that small kernels keep it waiting.",
        Query(GPU, gpu("DCGM_FI_DEV_POWER_USAGE")),
        unit="watt",
        span=6,
        low=0,
    )
    yield curve(
        "GPU temperature",
        "Temperature of the GPU. Near 90 degrees most GPUs lower their clock: check the cooling and the neighbours.",
        Query(GPU, gpu("DCGM_FI_DEV_GPU_TEMP")),
        unit="celsius",
        span=6,
        steps=rising(80, 90),
    )
