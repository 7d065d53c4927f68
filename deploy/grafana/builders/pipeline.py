"""The path of frames from a maze to an update, and their waits."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from .board import board
from .panels import (
    FRAMES_PER_SECOND,
    NEUTRAL,
    PER_SECOND,
    UNROLLS,
    VERSIONS,
    curve,
    distribution,
    falling,
    light,
    name,
    rising,
    row,
)
from .queries import Query, actor, increase, learner, or_named, rate, recorded, unfinished


def build() -> dashboard.Dashboard:
    """The dashboard."""
    made = board("pipeline", "Pipeline", "The path of frames from a maze to an update, and their waits.")
    for panel in health():
        made.with_panel(panel)
    made.with_row(row("Throughput and time"))
    for panel in time():
        made.with_panel(panel)
    made.with_row(row("Queue, lag and losses on the way"))
    for panel in losses():
        made.with_panel(panel)
    made.with_row(row("Bytes"))
    for panel in traffic():
        made.with_panel(panel)
    return made


def health():
    """The row of numbers at the top."""
    full = f"{learner('hrm_learner_queue_unrolls')} / {learner('hrm_learner_queue_capacity_unrolls')}"
    stale = learner("instance:hrm_learner_unrolls_stale:ratio_rate5m")
    refused = learner("hrm_learner_unrolls_refused_total", 'field!~"session|shutting_down|silent"')
    yield name(
        "Bottleneck",
        "The stage that takes longest on the side that waits least. It must become faster for more frames per second."
        " learner passes, recompute: more learner.threads, fewer loss.passes, a GPU, or fewer actors. actor infer: more"
        " actors.",
        Query(
            "{{part}}: {{stage}}",
            or_named(f"{recorded('namespace:hrm_bottleneck:rate1m')} > 0", part="none", stage="nothing moves"),
        ),
        NEUTRAL,
        span=4,
    )
    yield light(
        "Learner busy",
        "Share of its time that the learner trains. Below 50% in an asynchronous run it is starved: add actors. In a "
        "synchronous run it waits by design while actors act.",
        Query("busy", f"min({unfinished(learner('instance:hrm_learner_busy:ratio_rate5m'))})"),
        "percentunit",
        falling(0.3, 0.5),
    )
    yield light(
        "Actors busy",
        "Mean share of their time that actors act. Below 50% with a busy learner, the learner is saturated: stop some "
        "actors or make the learner faster. In a synchronous run actors wait by design while the learner trains.",
        Query("busy", f"avg({unfinished(actor('instance:hrm_actor_busy:ratio_rate5m'))})"),
        "percentunit",
        falling(0.3, 0.5),
    )
    yield light(
        "Frames trained",
        "Frames per second at the end of the pipeline. At 0 nothing is learnt: Frames at each step shows the step at"
        " which they stop.",
        Query("frames", f"sum({unfinished(learner('hrm_learner_frames_trained_total', function=rate))})"),
        FRAMES_PER_SECOND,
        [(None, "red"), (1, "green")],
    )
    yield light(
        "Queue full",
        "Fill level of the queue in front of the batcher. Full most of the time: the learner is the slow side.",
        Query("full", f"max({unfinished(full)})"),
        "percentunit",
        rising(0.75, 1),
    )
    yield light(
        "Too old to train on",
        "Share of unrolls dropped because their policy was more than learner.max_policy_lag_batches batches old.",
        Query("stale", f"max({unfinished(stale)} >= 0)"),
        "percentunit",
        rising(0.01, 0.05),
    )
    yield light(
        "Rejected",
        "Unrolls rejected since the learner started, except those of actors that must join again. The panel below shows"
        " the field. Any is a fault.",
        Query("rejected", f"sum({unfinished(refused)})"),
        "short",
        rising(1, 1),
        span=2,
    )
    yield light(
        "Traffic",
        "Bytes per second that the learner receives and sends. Near the capacity of its link, the link is the "
        "bottleneck.",
        Query(
            "bytes",
            f"sum({learner('hrm_learner_received_bytes_total', function=rate)})"
            f" + sum({learner('hrm_learner_sent_bytes_total', function=rate)})",
        ),
        "Bps",
        NEUTRAL,
    )


def time():
    """Frames per second at each step, and the time of the threads."""
    stages = learner("hrm_learner_stage_seconds_bucket", function=rate)
    yield curve(
        "Frames at each step",
        "Frames per second from the mazes to the updates. The curves coincide when nothing is lost. Frames stop at the"
        " first step that falls below the one before: received (network), admitted (queue full, or rejected), batched"
        " (dropped, see below), trained (learner).",
        Query("{{step}}", f"sum by (step) ({recorded('namespace_step:hrm_frames:rate1m')})"),
        unit=FRAMES_PER_SECOND,
        low=0,
    )
    yield curve(
        "Learner's time",
        "Shares of the trainer's time. Mostly wait: too few actors, or a slow network. Mostly passes and recompute: the"
        " learner is the limit. Much publish or checkpoint: small batches, or a slow disk.",
        Query("{{stage}}", f"avg by (stage) ({learner('instance_stage:hrm_learner_stage_seconds:rate1m')})"),
        unit="percentunit",
        low=0,
        high=1,
        stacked=True,
    )
    yield curve(
        "Actors' time",
        "Mean shares of the actors' time. Mostly wait: the learner or the link to it is the limit. Mostly infer: the "
        "model is the limit. step is the mazes and should be close to 0.",
        Query("{{stage}}", f"avg by (stage) ({actor('instance_stage:hrm_actor_stage_seconds:rate1m')})"),
        unit="percentunit",
        low=0,
        high=1,
        stacked=True,
    )
    yield curve(
        "Busy",
        "Both sides over time. The side at 100% is the bottleneck. If both wait, the cause lies between them: network, "
        "rollout.unrolls_in_flight, or a batch that needs more actors than are connected.",
        Query("{{part}}", f"avg by (part) ({recorded('namespace_part:hrm_busy:rate1m')})"),
        unit="percentunit",
        low=0,
        high=1,
    )
    yield curve(
        "Learner's stages, slowest 5%",
        "Duration of one pass through a stage; 95% are shorter. A stage that grows over hours points to memory or "
        "disk.",
        Query(
            "{{stage}}",
            f"histogram_quantile(0.95, sum by (le, stage) ({stages}))",
        ),
        unit="s",
        low=0,
    )
    yield curve(
        "Actors' stages, slowest 5%",
        "The same for the actors. wait is the time until the learner takes an unroll; infer and step are one tick.",
        Query(
            "{{stage}}",
            f"histogram_quantile(0.95, sum by (le, stage) ({actor('hrm_actor_stage_seconds_bucket', function=rate)}))",
        ),
        unit="s",
        low=0,
    )


def losses():
    """Waits and losses of unrolls."""
    yield curve(
        "Queue",
        "Unrolls that wait for the batcher, the queue's capacity (learner.queue_unrolls), the size of a batch, and how "
        "many unrolls all actors together may have under way (only in runs that are not synchronous). "
        "Full: actors wait, and the learner is the limit. Never half full while the learner waits: too few actors for "
        "learner.batch_unrolls.",
        Query("waiting {{run}}", learner("hrm_learner_queue_unrolls")),
        Query("bound {{run}}", learner("hrm_learner_queue_capacity_unrolls")),
        Query("batch {{run}}", learner("hrm_learner_batch_unrolls")),
        Query("window {{run}}", learner("hrm_learner_window_unrolls")),
        unit=UNROLLS,
        low=0,
    )
    yield distribution(
        "Policy lag",
        "Versions that batched unrolls were behind the learner. Dark at the top: unrolls wait in the queue while the "
        "weights change. Unrolls above learner.max_policy_lag_batches are dropped and not shown here.",
        Query("{{le}}", f"sum by (le) ({learner('hrm_learner_policy_lag_versions_bucket', function=increase)})"),
        VERSIONS,
    )
    yield curve(
        "Dropped, by reason",
        "Valid unrolls that did not reach training. stale: too old, see the policy lag. fenced: from before their actor"
        " joined again, a few at each reconnection.",
        Query("{{reason}}", f"sum by (reason) ({learner('hrm_learner_unrolls_dropped_total', function=rate)})"),
        unit=PER_SECOND,
        low=0,
    )
    yield curve(
        "Rejected, by field",
        "Unrolls rejected since the learner started, by the invalid field. session: an actor must join again, as after"
        " a restart. Anything else is a fault: see the learner's log.",
        Query("{{field}} {{run}}", learner("hrm_learner_unrolls_refused_total")),
        unit=UNROLLS,
        low=0,
        steps=[(None, "green"), (1, "red")],
    )
    yield curve(
        "Unrolls of the actors",
        "Produced, sent, and abandoned because their session ended first. Produced but not sent: the link is slow.",
        Query("produced", f"sum({actor('hrm_actor_unrolls_produced_total', function=rate)})"),
        Query("sent", f"sum({actor('hrm_actor_unrolls_sent_total', function=rate)})"),
        Query("abandoned", f"sum({actor('hrm_actor_unrolls_abandoned_total', function=rate)})"),
        unit=PER_SECOND,
        low=0,
    )
    yield curve(
        "Unrolls of the learner",
        "Received, admitted to the queue, and batched. Received but not admitted: the queue is full, or the learner "
        "rejects them. Admitted but not batched: the learner drops them.",
        Query("received", f"sum({learner('hrm_learner_unrolls_received_total', function=rate)})"),
        Query("admitted", f"sum({learner('hrm_learner_unrolls_admitted_total', function=rate)})"),
        Query("batched", f"sum({learner('hrm_learner_unrolls_batched_total', function=rate)})"),
        unit=PER_SECOND,
        low=0,
    )


def traffic():
    """Traffic on the network."""
    received = learner("hrm_learner_received_bytes_total", function=rate)
    frames = learner("hrm_learner_frames_received_total", function=rate)
    published = learner("hrm_learner_weights_published_bytes_total", function=rate)
    versions = learner("hrm_learner_weights_published_total", function=rate)
    yield curve(
        "Unrolls up",
        "Bytes per second of unrolls, sent by actors and received by the learner. Too much for the link: "
        'rollout.carry_dtype = "bf16" halves it, a longer rollout.unroll_length lowers the carry\'s share.',
        Query("sent by actors", f"sum({actor('hrm_actor_sent_bytes_total', function=rate)})"),
        Query("received by the learner", f"sum({received})"),
        unit="Bps",
        low=0,
    )
    yield curve(
        "Weights down",
        "Bytes per second of weights, over all actors. It grows with actors times versions; a slow actor skips "
        "versions. Too much for the link: larger batches publish less often.",
        Query("sent by the learner", f"sum({learner('hrm_learner_sent_bytes_total', function=rate)})"),
        Query("received by actors", f"sum({actor('hrm_actor_weights_received_bytes_total', function=rate)})"),
        unit="Bps",
        low=0,
    )
    yield curve(
        "Bytes of a frame, bytes of a broadcast",
        "Size of one frame on the way up, and of one version of the weights on the way down to one actor. Model and "
        "configuration determine both: multiply by frames and actors to size a link.",
        Query("a frame", f"sum({received}) / sum({frames})"),
        Query("a version of the weights", f"sum({published}) / sum({versions})"),
        unit="bytes",
        low=0,
    )
