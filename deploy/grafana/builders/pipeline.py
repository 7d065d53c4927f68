"""Where frames go between a maze and an update, and where they wait."""

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
from .queries import Query, actor, learner, or_named, rate, recorded, unfinished


def build() -> dashboard.Dashboard:
    """The dashboard."""
    made = board("pipeline", "Pipeline", "Where frames go between a maze and an update, and where they wait.")
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
    """One glance."""
    refused = learner("hrm_learner_unrolls_refused_total", 'field!~"session|shutting_down|silent"')
    yield name(
        "Bottleneck",
        "The stage that takes longest on the side that waits least: what has to become faster for more frames a second."
        " learner passes, recompute: more learner.threads, fewer loss.passes, a GPU, or fewer actors. actor infer: more"
        " actors.",
        Query(
            "{{part}}: {{stage}}",
            or_named(recorded("namespace:hrm_bottleneck:rate1m"), part="none", stage="nothing moves"),
        ),
        NEUTRAL,
        span=4,
    )
    yield light(
        "Learner busy",
        "Share of its time that the learner trains. Below 50% in a run that is not synchronous it is starved: add "
        "actors. In a synchronous run it waits by design while actors act.",
        Query("busy", f"min({learner('instance:hrm_learner_busy:ratio_rate5m')})"),
        "percentunit",
        falling(0.3, 0.5),
    )
    yield light(
        "Actors busy",
        "Share of their time that actors act, on average. Below 50% with a busy learner it is saturated: stop some "
        "actors or make it faster. In a synchronous run they wait by design while the learner trains.",
        Query("busy", f"avg({actor('instance:hrm_actor_busy:ratio_rate5m')})"),
        "percentunit",
        falling(0.3, 0.5),
    )
    yield light(
        "Frames trained",
        "What comes out at the end of the pipeline, frames a second. At 0 nothing is learnt: see Frames at each step"
        " for where they stay.",
        Query("frames", f"sum({unfinished(rate(learner('hrm_learner_frames_trained_total')))})"),
        FRAMES_PER_SECOND,
        [(None, "red"), (1, "green")],
        none="not training",
    )
    yield light(
        "Queue full",
        "How full the queue in front of the batcher is. Full most of the time: the learner is the slow side.",
        Query("full", f"max({learner('hrm_learner_queue_unrolls')} / {learner('hrm_learner_queue_capacity_unrolls')})"),
        "percentunit",
        rising(0.75, 1),
        none="empty",
    )
    yield light(
        "Too old to train on",
        "Share of unrolls dropped because their policy was more than learner.max_policy_lag versions old.",
        Query("stale", f"max({learner('instance:hrm_learner_unrolls_stale:ratio_rate5m')} >= 0)"),
        "percentunit",
        rising(0.01, 0.05),
        none="none",
    )
    yield light(
        "Refused",
        "Unrolls refused since the learner started, but for those of actors that must join again. The panel below says"
        " for which field: any is a fault.",
        Query("refused", f"sum({refused})"),
        "short",
        rising(1, 1),
        span=2,
        none="none",
    )
    yield light(
        "Traffic",
        "Bytes a second that the learner receives and sends. Near what its link carries, the link is the bottleneck.",
        Query(
            "bytes",
            f"sum({rate(learner('hrm_learner_received_bytes_total'))})"
            f" + sum({rate(learner('hrm_learner_sent_bytes_total'))})",
        ),
        "Bps",
        NEUTRAL,
    )


def time():
    """Frames a second at each step, and where threads spend their time."""
    yield curve(
        "Frames at each step",
        "Frames a second from the mazes to the updates. All curves lie on each other when nothing is lost. The first"
        " that falls behind the one before it is where they stay: received (network), admitted (queue full, or"
        " refused), batched (dropped, see below), trained (learner).",
        Query("{{step}}", recorded("namespace_step:hrm_frames:rate1m")),
        unit=FRAMES_PER_SECOND,
        low=0,
    )
    yield curve(
        "Learner's time",
        "Shares of the trainer's time. Mostly wait: too few actors, or a slow network. Mostly passes and recompute: the"
        " learner is what limits. Much publish or checkpoint: small batches, or a slow disk.",
        Query("{{stage}}", f"avg by (stage) ({learner('instance_stage:hrm_learner_stage_seconds:rate1m')})"),
        unit="percentunit",
        low=0,
        high=1,
        stacked=True,
    )
    yield curve(
        "Actors' time",
        "Shares of the actors' time, on average. Mostly wait: the learner is what limits, or the link to it. Mostly "
        "infer: the model; step is the mazes and should be next to nothing.",
        Query("{{stage}}", f"avg by (stage) ({actor('instance_stage:hrm_actor_stage_seconds:rate1m')})"),
        unit="percentunit",
        low=0,
        high=1,
        stacked=True,
    )
    yield curve(
        "Busy",
        "Both sides over time. The one that is at 100% is the bottleneck; when both wait it is what lies between them: "
        "network, rollout.unrolls_in_flight, or a batch that waits for more actors than there are.",
        Query("{{part}}", recorded("namespace_part:hrm_busy:rate1m")),
        unit="percentunit",
        low=0,
        high=1,
    )
    yield curve(
        "Learner's stages, slowest 5%",
        "How long one pass through a stage takes, 95% are shorter. A stage that grows over hours hints at memory or"
        " disk.",
        Query(
            "{{stage}}",
            f"histogram_quantile(0.95, sum by (le, stage) ({rate(learner('hrm_learner_stage_seconds_bucket'))}))",
        ),
        unit="s",
        low=0,
    )
    yield curve(
        "Actors' stages, slowest 5%",
        "The same of the actors. A long wait is the time until the learner takes an unroll; infer and step are one"
        " tick.",
        Query(
            "{{stage}}",
            f"histogram_quantile(0.95, sum by (le, stage) ({rate(actor('hrm_actor_stage_seconds_bucket'))}))",
        ),
        unit="s",
        low=0,
    )


def losses():
    """What waits and what is lost."""
    yield curve(
        "Queue",
        "Unrolls that wait for the batcher, what can wait (learner.queue_unrolls), and what makes a batch. Full: actors"
        " wait, the learner limits. Never half full while the learner waits: too few actors for learner.batch_unrolls.",
        Query("waiting {{instance}}", learner("hrm_learner_queue_unrolls")),
        Query("bound {{instance}}", learner("hrm_learner_queue_capacity_unrolls")),
        Query("batch {{instance}}", learner("hrm_learner_batch_unrolls")),
        unit=UNROLLS,
        low=0,
    )
    yield distribution(
        "Policy lag",
        "How many versions behind the learner batched unrolls were. Dark at the top: unrolls wait their turn while the "
        "weights move on. What is above learner.max_policy_lag is dropped and not in here.",
        Query(
            "{{le}}", f"sum by (le) (increase({learner('hrm_learner_policy_lag_versions_bucket')}[$__rate_interval]))"
        ),
        VERSIONS,
    )
    yield curve(
        "Dropped, by reason",
        "Sound unrolls that did not reach training. stale: too old, see the policy lag. fenced: from before their actor"
        " joined anew, a few at each reconnection.",
        Query("{{reason}}", f"sum by (reason) ({rate(learner('hrm_learner_unrolls_dropped_total'))})"),
        unit=PER_SECOND,
        low=0,
    )
    yield curve(
        "Refused, by field",
        "Unrolls that were refused, by the field that was wrong, since the learner started. session: an actor must join"
        " again, as after a restart. Anything else is a fault: see the learner's log.",
        Query("{{field}} {{instance}}", learner("hrm_learner_unrolls_refused_total")),
        unit=UNROLLS,
        low=0,
        steps=[(None, "green"), (1, "red")],
    )
    yield curve(
        "Unrolls of the actors",
        "Produced, sent, and given up because their session ended first. Produced but not sent: the link is slow.",
        Query("produced", f"sum({rate(actor('hrm_actor_unrolls_produced_total'))})"),
        Query("sent", f"sum({rate(actor('hrm_actor_unrolls_sent_total'))})"),
        Query("abandoned", f"sum({rate(actor('hrm_actor_unrolls_abandoned_total'))})"),
        unit=PER_SECOND,
        low=0,
    )
    yield curve(
        "Unrolls of the learner",
        "Received, admitted to the queue, and batched. Received but not admitted: the queue is full, or they are "
        "refused. Admitted but not batched: they are dropped.",
        Query("received", f"sum({rate(learner('hrm_learner_unrolls_received_total'))})"),
        Query("admitted", f"sum({rate(learner('hrm_learner_unrolls_admitted_total'))})"),
        Query("batched", f"sum({rate(learner('hrm_learner_unrolls_batched_total'))})"),
        unit=PER_SECOND,
        low=0,
    )


def traffic():
    """What goes over the network."""
    received = rate(learner("hrm_learner_received_bytes_total"))
    frames = rate(learner("hrm_learner_frames_received_total"))
    published = rate(learner("hrm_learner_weights_published_bytes_total"))
    versions = rate(learner("hrm_learner_weights_published_total"))
    yield curve(
        "Unrolls up",
        "Bytes a second of unrolls, as actors send and as the learner receives them. Too much for the link: "
        'rollout.carry_dtype = "bf16" halves it, a longer rollout.unroll_length lowers the carry\'s share.',
        Query("sent by actors", f"sum({rate(actor('hrm_actor_sent_bytes_total'))})"),
        Query("received by the learner", f"sum({received})"),
        unit="Bps",
        low=0,
    )
    yield curve(
        "Weights down",
        "Bytes a second of weights, all actors together. It grows with actors times versions; a slow actor skips "
        "versions. Too much for the link: larger batches publish less often.",
        Query("sent by the learner", f"sum({rate(learner('hrm_learner_sent_bytes_total'))})"),
        Query("received by actors", f"sum({rate(actor('hrm_actor_weights_received_bytes_total'))})"),
        unit="Bps",
        low=0,
    )
    yield curve(
        "Bytes of a frame, bytes of a broadcast",
        "What one frame costs on the way up, and one version of the weights on the way down to one actor. Constants of "
        "the model and the configuration: multiply by frames and actors to size a link.",
        Query("a frame", f"sum({received}) / sum({frames})"),
        Query("a version of the weights", f"sum({published}) / sum({versions})"),
        unit="bytes",
        low=0,
    )
