"""The progress of a run, and the skill of its policy."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from .board import board
from .panels import (
    ALERTS,
    FRAMES_PER_SECOND,
    NEUTRAL,
    PER_SECOND,
    STEPS,
    VERSIONS,
    against_frames,
    curve,
    falling,
    light,
    link,
    name,
    progress,
    rising,
    row,
    url,
)
from .queries import (
    Query,
    last_known,
    lately,
    learner,
    or_named,
    rate,
    recorded,
    unfinished,
)

RUN = "{{run}} on {{maze}}"
EVALUATED = f"{RUN}, evaluated"

# A run that has not reached its goal yet is healthy, so nothing is red.
GOOD = [(None, "blue"), (0.9, "green")]

# NaN where nothing was batched.
STALE = learner("instance:hrm_learner_unrolls_stale:ratio_rate5m")

# Also of a learner that is down, so that the age grows until it saves again.
SAVED = unfinished(last_known("hrm_learner_checkpoint_timestamp_seconds"))
STARTED = unfinished(last_known("process_start_time_seconds", 'job="hrm-learner"'))
LAST_SAVED = f"max by (namespace) ({SAVED} or {STARTED})"

# One curve: with several runs chosen, the largest value.
FRAMES_SO_FAR = f"max({learner('hrm_learner_run_frames')})"
EVALUATED_FRAMES = f"max({learner('hrm_learner_eval_frames')})"


def build() -> dashboard.Dashboard:
    """The dashboard."""
    made = board("training", "Training", "The progress of a run, and the skill of its policy.")
    for panel in health():
        made.with_panel(panel)
    made.with_row(row("How well it acts"))
    for panel in acting():
        made.with_panel(panel)
    made.with_row(row("How it learns"))
    for panel in learning():
        made.with_panel(panel)
    return made


def health():
    """The row of numbers at the top."""
    goal = learner("hrm_learner_run_frames_goal")
    yield name(
        "Alerts",
        "Warnings and critical alerts of the project that fire now. The link leads to their causes and remedies.",
        Query(
            "{{alertname}}",
            or_named(
                recorded("ALERTS", 'alertname=~"Hrm.+"', 'severity!="info"', 'alertstate="firing"'),
                alertname="none",
            ),
        ),
        [(None, "green"), (1, "red")],
        to=link("Causes and remedies", ALERTS),
    )
    yield light(
        "Actors",
        "Actors that have joined and not left. Without actors, training stops: start some, or read their log.",
        # The gauge exists only after the first one has joined.
        Query(
            "actors",
            f"sum({unfinished(learner('hrm_learner_actors') + ' or ' + learner('hrm_learner_joins_total'))})",
        ),
        "short",
        [(None, "red"), (1, "green")],
        to=link("Fleet", url("fleet")),
    )
    yield progress(
        "Progress",
        "Frames of the run so far, as a share of learner.total_frames, at which it is complete. A run may also end by "
        "learner.max_minutes.",
        Query("progress", f"min({learner('hrm_learner_run_frames')} / {goal})"),
        "percentunit",
        NEUTRAL,
        "not known",
    )
    yield progress(
        "Success",
        "Share of the last 500 uniform episodes that reached the goal, acting as in training, after the first 5,000 "
        "episodes of all kinds. Random moves reach 21% on four rooms. If it stays there, check the curriculum's "
        "distance and the policy lag.",
        Query("success", f"min({learner('instance_run:hrm_learner_episode_success_ratio:settled')})"),
        "percentunit",
        GOOD,
        "not known yet",
    )
    yield light(
        "Frames trained",
        "Frames per second that the learner trains on. At 0 nothing is learnt: see Actors, then the Pipeline "
        "dashboard.",
        Query("frames", f"sum({unfinished(learner('hrm_learner_frames_trained_total', function=rate))})"),
        FRAMES_PER_SECOND,
        [(None, "red"), (1, "green")],
        to=link("Pipeline", url("pipeline")),
    )
    yield light(
        "Too old to train on",
        "Share of unrolls dropped because their policy is more than learner.max_policy_lag_batches batches old. Above"
        " 5% too much of the actors' work is lost: raise learner.batch_unrolls or stop some actors.",
        Query("stale", f"max({unfinished(STALE)} >= 0)"),
        "percentunit",
        rising(0.01, 0.05),
        to=link("Pipeline", url("pipeline")),
    )
    yield light(
        "Checkpoint age",
        "Time since the last checkpoint, which a crash now would lose. A learner that never saved counts from its "
        "start. Lower checkpoint.interval_frames, or read its log and check the free space of run.dir.",
        Query("age", f"max(time() - {LAST_SAVED})"),
        "s",
        rising(900, 1800),
    )
    yield light(
        "Updates skipped",
        "Updates of the last 10 minutes whose gradient was not finite (a NaN loss shows here). Any is too many: "
        "return to an older checkpoint with a lower optimizer.learning_rate.",
        Query("skipped", f"sum({unfinished(learner('hrm_learner_updates_skipped_total', function=lately))})"),
        "short",
        rising(1, 1),
    )


def acting():
    """Success, return and paths, against time and against frames."""
    yield curve(
        "Success by maze",
        "Share of episodes that reach the goal: of the last 500 uniform ones in training, and greedy on held-out ones"
        " (evaluated). A fall after a rise: compare entropy, clip shares and policy lag just before it.",
        Query(RUN, learner("hrm_learner_episode_success_ratio")),
        Query(EVALUATED, learner("hrm_learner_eval_success_ratio")),
        unit="percentunit",
        span=12,
        low=0,
        high=1,
        steps=GOOD,
    )
    yield against_frames(
        "Success against frames",
        "The same against frames, which do not depend on the machine: use it to compare runs. After a resume the frames"
        " return to those of the checkpoint. Choose one run.",
        FRAMES_SO_FAR,
        Query("in training", f"max({learner('hrm_learner_episode_success_ratio')})"),
        also=(EVALUATED_FRAMES, Query("evaluated", f"max({learner('hrm_learner_eval_success_ratio')})")),
        unit="percentunit",
        span=12,
        low=0,
        high=1,
    )
    yield curve(
        "Return by maze",
        "Mean undiscounted return of the last 500 uniform episodes. It rises with success and falls with every step "
        "taken, so it still rises after success is at 100%. If it does not, paths do not get shorter.",
        Query(RUN, learner("hrm_learner_episode_return")),
        unit="short",
    )
    yield against_frames(
        "Return against frames",
        "Return against frames, to compare runs. A run below an earlier one at equal frames learns more slowly: "
        "compare their config.toml. Choose one run.",
        FRAMES_SO_FAR,
        Query("in training", f"max({learner('hrm_learner_episode_return')})"),
        unit="short",
    )
    yield curve(
        "Episode length",
        "Mean steps of the last 500 uniform episodes, and of the last evaluation. At env.max_steps they all fail.",
        Query(RUN, learner("hrm_learner_episode_length_steps")),
        Query(EVALUATED, learner("hrm_learner_eval_episode_length_steps")),
        unit=STEPS,
        low=0,
    )
    yield curve(
        "Path ratio",
        "Steps walked over shortest paths with every door open, successes only. 1 is a lower bound; the replanning "
        "oracle reaches about 1.3. Much more at high success means detours: train longer, or lower loss.gamma.",
        Query(RUN, learner("hrm_learner_episode_path_ratio")),
        Query(EVALUATED, learner("hrm_learner_eval_path_ratio")),
        unit="short",
        low=1,
        steps=rising(1.5, 3),
    )
    yield against_frames(
        "Path ratio against frames",
        "Path ratio against frames, to compare runs. It needs more frames than success. If it stays high while success "
        "is at 100%, train longer. Choose one run.",
        FRAMES_SO_FAR,
        Query("in training", f"max({learner('hrm_learner_episode_path_ratio')})"),
        also=(EVALUATED_FRAMES, Query("evaluated", f"max({learner('hrm_learner_eval_path_ratio')})")),
        unit="short",
        low=1,
    )
    yield curve(
        "Curriculum's distance",
        "Largest distance of the goal in curriculum episodes; 0 once every episode is uniform. On four rooms it leaves "
        "its start within 40,000 frames. If it does not, nothing is learnt (see docs/troubleshooting.md).",
        Query("{{run}}", learner("hrm_learner_curriculum_distance_steps")),
        unit=STEPS,
        low=0,
    )


def loss(term: str) -> str:
    """A term of the loss."""
    return learner("hrm_learner_loss", f'term="{term}"')


def segments(part: str) -> str:
    """The rate of the decisions' segments, or of the decisions."""
    return f"sum by (run) ({learner(f'hrm_learner_decision_segments_{part}', function=rate)})"


def learning():
    """Losses, gradients and updates."""
    lag = learner("hrm_learner_policy_lag_versions_bucket", function=rate)
    yield curve(
        "Losses",
        "Terms of the loss, mean over the last batch. loss.value_cost and loss.entropy_cost weight the total. The "
        "value's error should fall; a policy loss near 0 is normal. A jump: lower optimizer.learning_rate.",
        *[Query(f"{term} {{{{run}}}}", loss(term)) for term in ("policy", "value", "total")],
        unit="short",
    )
    yield curve(
        "Entropy",
        "Entropy of the policy in nats: 1.386 is random among four moves, and it should fall slowly. Near 0 before "
        "success is high means that the policy settled too early: raise loss.entropy_cost.",
        Query("{{run}}", loss("entropy")),
        unit="short",
        low=0,
        steps=falling(0.02, 0.05),
    )
    yield curve(
        "Gradient norm",
        "Before clipping, mean over the last batch. If it is always far above optimizer.max_grad_norm, clipping "
        "decides the effective learning rate. If it explodes, lower optimizer.learning_rate.",
        Query("{{run}}", learner("hrm_learner_gradient_norm")),
        unit="short",
        low=0,
    )
    yield curve(
        "Gradient noise scale",
        "In frames. Minibatches much smaller than it gain from more actors and larger batches; above it, more frames "
        "change little. Absent with one update thread.",
        Query("{{run}}", learner("hrm_learner_gradient_noise_scale_frames")),
        unit="short",
        low=0,
    )
    yield curve(
        "Policy lag",
        "Versions that the policies of batched unrolls were behind the learner, and the bound above which unrolls are "
        "dropped. One batch makes one version; at seven batches nothing was learnt. High: more learner.batch_unrolls, fewer actors, rollout.unrolls_in_flight = 1.",
        Query("half are below", f"histogram_quantile(0.5, sum by (le) ({lag}))"),
        Query("95% are below", f"histogram_quantile(0.95, sum by (le) ({lag}))"),
        Query("bound", f"max({learner('hrm_learner_max_policy_lag_versions')})"),
        unit=VERSIONS,
        low=0,
    )
    yield curve(
        "Importance weights clipped",
        "Share of V-trace's importance weights that were clipped. It rises with the distance of the actors' policies "
        "from the learner's. Near 1 their unrolls teach little: lower the policy lag.",
        Query("{{weight}} {{run}}", learner("hrm_learner_clipped_ratio")),
        unit="percentunit",
        low=0,
        high=1,
    )
    yield curve(
        "Actors against learner",
        "Size of log(pi/mu) at policy lag 0, where both have the same weights, in the last batch with such frames. 0 with "
        "the same kernels, a few hundredths in bfloat16 with others. More: compare the releases and the kernels.",
        Query("{{statistic}} {{run}}", learner("hrm_learner_lag_zero_log_ratio")),
        unit="short",
        low=0,
    )
    yield curve(
        "Learning rate",
        "Learning rate of the last update. It rises over optimizer.warmup_updates, then falls to its final fraction at "
        "the end of the run. If success still rises then, the run was too short.",
        Query("{{run}}", learner("hrm_learner_learning_rate")),
        unit="short",
        low=0,
    )
    yield curve(
        "Episodes",
        "Episodes settled, by outcome. An episode counts once the longest one begun at the same time has ended. "
        "Truncated ones ran out of steps. No episodes: no frames arrive.",
        Query("{{outcome}}", f"sum by (outcome) ({learner('hrm_learner_episodes_total', function=rate)})"),
        unit=PER_SECOND,
        low=0,
        stacked=True,
    )
    yield curve(
        "Segments per decision",
        "Mean segments of the decisions that were trained. It falls as decisions end earlier by a rule of "
        "model.segments, and acting speeds up with it. Without a rule it stays.",
        Query("{{run}}", f"{segments('sum')} / {segments('count')}"),
        unit="short",
        low=0,
    )
    yield curve(
        "Updates",
        "Optimiser updates per second, and those skipped because their gradient, or the weights after them, were not "
        "finite. Skipped updates raise an alert. Few updates per second with busy actors mean a saturated learner.",
        Query("made", f"sum({learner('hrm_learner_updates_total', function=rate)})"),
        Query("skipped", f"sum({learner('hrm_learner_updates_skipped_total', function=rate)})"),
        unit=PER_SECOND,
        low=0,
    )
    yield curve(
        "Frames",
        "Frames of the run so far, at the newest checkpoint, and at the last evaluation. A crash loses the frames since"
        " the checkpoint. Frames that fall are a resume.",
        Query("trained {{run}}", learner("hrm_learner_run_frames")),
        Query("saved {{run}}", learner("hrm_learner_checkpoint_frames")),
        Query("evaluated {{run}}", learner("hrm_learner_eval_frames")),
        unit="short",
        low=0,
    )
