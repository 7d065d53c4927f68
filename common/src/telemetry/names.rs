//! All metrics, each declared once.
//!
//! A metric is a constant, and its type holds its kind and its label. The compiler therefore rejects a wrong name, kind
//! or label:
//!
//! ```
//! use hrm_common::telemetry::names::{self, LearnerStage};
//!
//! names::LEARNER_UPDATES.get().increment(1);
//! names::LEARNER_STAGE_SECONDS.with(LearnerStage::Passes).record(0.25);
//! ```
//!
//! On a hot path, keep the handle that `get` or `with` returns, because each lookup computes a hash.

use metrics::Unit;

pub use super::{
    labels::{
        ActorStage, Build, CallRefused, Clip, DropReason, Field, Labelled, LearnerStage, LossTerm,
        Outcome, Role, RunFile, RunInfo, Statistic, Unlabelled,
    },
    metric::{Counter, Description, Gauge, Histogram},
};

/// Declares metrics. The documentation of each is its help text in Prometheus.
macro_rules! metrics {
    ($(#[doc = $help:literal] $constant:ident: $kind:ident<$label:ty> = $name:literal, $unit:ident;)*) => {
        $(
            #[doc = $help]
            pub const $constant: $kind<$label> = $kind::new($name);
        )*

        /// All metrics.
        pub const ALL: &[Description] = &[$(Description {
            name: $name,
            help: $help,
            unit: Unit::$unit,
            describe: $kind::<$label>::describe,
            start: $kind::<$label>::start,
        },)*];
    };
}

metrics! {
    /// 1, with the release and role of the process as labels.
    BUILD_INFO: Gauge<Build> = "hrm_build_info", Count;

    /// Frames played.
    ACTOR_FRAMES: Counter<Unlabelled> = "hrm_actor_frames_total", Count;
    /// Unrolls finished.
    ACTOR_UNROLLS_PRODUCED: Counter<Unlabelled> = "hrm_actor_unrolls_produced_total", Count;
    /// Unrolls passed to the transport.
    ACTOR_UNROLLS_SENT: Counter<Unlabelled> = "hrm_actor_unrolls_sent_total", Count;
    /// Frames of the unrolls passed to the transport.
    ACTOR_FRAMES_SENT: Counter<Unlabelled> = "hrm_actor_frames_sent_total", Count;
    /// Unrolls abandoned because their session ended before they were sent.
    ACTOR_UNROLLS_ABANDONED: Counter<Unlabelled> = "hrm_actor_unrolls_abandoned_total", Count;
    /// Bytes of the unrolls passed to the transport.
    ACTOR_SENT_BYTES: Counter<Unlabelled> = "hrm_actor_sent_bytes_total", Bytes;
    /// Versions of the weights received completely.
    ACTOR_WEIGHTS_RECEIVED: Counter<Unlabelled> = "hrm_actor_weights_received_total", Count;
    /// Bytes of weights received.
    ACTOR_WEIGHTS_RECEIVED_BYTES: Counter<Unlabelled> = "hrm_actor_weights_received_bytes_total", Bytes;
    /// Version of the weights that the actor uses.
    ACTOR_WEIGHTS_VERSION: Gauge<Unlabelled> = "hrm_actor_weights_version", Count;
    /// Actors of this process that are joined to their learner.
    ACTOR_CONNECTED: Gauge<Unlabelled> = "hrm_actor_connected", Count;
    /// Rollout threads of the joined actors of this process.
    ACTOR_ROLLOUT_THREADS: Gauge<Unlabelled> = "hrm_actor_rollout_threads", Count;
    /// Attempts to reconnect to the learner.
    ACTOR_RECONNECTS: Counter<Unlabelled> = "hrm_actor_reconnects_total", Count;
    /// Time that rollout threads spent in each stage. The rate of the sum per thread is the stage's share of the time.
    ACTOR_STAGE_SECONDS: Histogram<ActorStage> = "hrm_actor_stage_seconds", Seconds;

    /// Unrolls received, valid or not.
    LEARNER_UNROLLS_RECEIVED: Counter<Unlabelled> = "hrm_learner_unrolls_received_total", Count;
    /// Frames of the unrolls received that could be decoded.
    LEARNER_FRAMES_RECEIVED: Counter<Unlabelled> = "hrm_learner_frames_received_total", Count;
    /// Bytes of the unrolls received.
    LEARNER_RECEIVED_BYTES: Counter<Unlabelled> = "hrm_learner_received_bytes_total", Bytes;
    /// Unrolls rejected, by the invalid field.
    LEARNER_UNROLLS_REFUSED: Counter<Field> = "hrm_learner_unrolls_refused_total", Count;
    /// Unrolls admitted to the queue.
    LEARNER_UNROLLS_ADMITTED: Counter<Unlabelled> = "hrm_learner_unrolls_admitted_total", Count;
    /// Frames admitted to the queue.
    LEARNER_FRAMES_ADMITTED: Counter<Unlabelled> = "hrm_learner_frames_admitted_total", Count;
    /// Valid unrolls that training did not use, by reason.
    LEARNER_UNROLLS_DROPPED: Counter<DropReason> = "hrm_learner_unrolls_dropped_total", Count;
    /// Frames of valid unrolls that training did not use, by reason.
    LEARNER_FRAMES_DROPPED: Counter<DropReason> = "hrm_learner_frames_dropped_total", Count;
    /// Unrolls in the queue before the batcher.
    LEARNER_QUEUE_UNROLLS: Gauge<Unlabelled> = "hrm_learner_queue_unrolls", Count;
    /// Capacity of the queue before the batcher, in unrolls.
    LEARNER_QUEUE_CAPACITY: Gauge<Unlabelled> = "hrm_learner_queue_capacity_unrolls", Count;
    /// Unrolls stacked into batches.
    LEARNER_UNROLLS_BATCHED: Counter<Unlabelled> = "hrm_learner_unrolls_batched_total", Count;
    /// Frames stacked into batches.
    LEARNER_FRAMES_BATCHED: Counter<Unlabelled> = "hrm_learner_frames_batched_total", Count;
    /// Frames trained on, each counted once for any number of passes.
    LEARNER_FRAMES_TRAINED: Counter<Unlabelled> = "hrm_learner_frames_trained_total", Count;
    /// Frames trained on after the checkpoint from which the run resumed, and therefore rolled back.
    LEARNER_FRAMES_ROLLED_BACK: Counter<Unlabelled> = "hrm_learner_frames_rolled_back_total", Count;
    /// Updates that this process made.
    LEARNER_UPDATES: Counter<Unlabelled> = "hrm_learner_updates_total", Count;
    /// Updates without effect, because their gradient was not finite or they were rolled back.
    LEARNER_UPDATES_SKIPPED: Counter<Unlabelled> = "hrm_learner_updates_skipped_total", Count;
    /// Batches whose updates were rolled back because the weights, or results computed with them, were not finite.
    LEARNER_ROLLBACKS: Counter<Unlabelled> = "hrm_learner_rollbacks_total", Count;
    /// Policy lag of batched frames, in versions; each batch makes one.
    LEARNER_POLICY_LAG: Histogram<Unlabelled> = "hrm_learner_policy_lag_versions", Count;
    /// Segments of the decisions in batched frames.
    LEARNER_SEGMENTS: Histogram<Unlabelled> = "hrm_learner_decision_segments", Count;
    /// Policy lag above which an unroll is dropped, in versions.
    LEARNER_MAX_POLICY_LAG: Gauge<Unlabelled> = "hrm_learner_max_policy_lag_versions", Count;
    /// Unrolls per batch.
    LEARNER_BATCH_UNROLLS: Gauge<Unlabelled> = "hrm_learner_batch_unrolls", Count;
    /// Unrolls that actors may have under way, in runs that are not synchronous. Further actors wait.
    LEARNER_WINDOW_UNROLLS: Gauge<Unlabelled> = "hrm_learner_window_unrolls", Count;
    /// Time spent in each stage. The rate of the sum is the stage's share of the time.
    LEARNER_STAGE_SECONDS: Histogram<LearnerStage> = "hrm_learner_stage_seconds", Seconds;

    /// 1, with the run, its maze, model, device, kernels and backend as labels.
    LEARNER_RUN_INFO: Gauge<RunInfo> = "hrm_learner_run_info", Count;
    /// Starts of the run, including the current one.
    LEARNER_STARTS: Gauge<Unlabelled> = "hrm_learner_starts", Count;
    /// Frames of the run so far, including earlier processes.
    LEARNER_RUN_FRAMES: Gauge<Unlabelled> = "hrm_learner_run_frames", Count;
    /// Frames after which the run is complete.
    LEARNER_RUN_FRAMES_GOAL: Gauge<Unlabelled> = "hrm_learner_run_frames_goal", Count;
    /// 1 once the run is complete, 0 before.
    LEARNER_RUN_COMPLETE: Gauge<Unlabelled> = "hrm_learner_run_complete", Count;
    /// Settled episodes, by outcome. An episode is settled once the longest one that began with it has ended.
    LEARNER_EPISODES: Counter<Outcome> = "hrm_learner_episodes_total", Count;
    /// Success rate of the last settled uniform episodes; absent until there are 100.
    LEARNER_SUCCESS: Gauge<Unlabelled> = "hrm_learner_episode_success_ratio", Count;
    /// Mean return of the last settled uniform episodes.
    LEARNER_EPISODE_RETURN: Gauge<Unlabelled> = "hrm_learner_episode_return", Count;
    /// Mean length of the last settled uniform episodes, in steps.
    LEARNER_EPISODE_LENGTH: Gauge<Unlabelled> = "hrm_learner_episode_length_steps", Count;
    /// Path ratio of the last settled uniform episodes.
    LEARNER_PATH_RATIO: Gauge<Unlabelled> = "hrm_learner_episode_path_ratio", Count;
    /// The curriculum's largest distance from start to goal, in steps; 0 when every episode is uniform.
    LEARNER_CURRICULUM_DISTANCE: Gauge<Unlabelled> = "hrm_learner_curriculum_distance_steps", Count;

    /// Terms of the loss, averaged over the last batch.
    LEARNER_LOSS: Gauge<LossTerm> = "hrm_learner_loss", Count;
    /// Norm of the gradient before clipping, averaged over the last batch.
    LEARNER_GRADIENT_NORM: Gauge<Unlabelled> = "hrm_learner_gradient_norm", Count;
    /// Gradient noise scale (McCandlish et al. 2018) in frames; absent if one thread computes a minibatch.
    LEARNER_NOISE_SCALE: Gauge<Unlabelled> = "hrm_learner_gradient_noise_scale_frames", Count;
    /// Learning rate of the last update.
    LEARNER_LEARNING_RATE: Gauge<Unlabelled> = "hrm_learner_learning_rate", Count;
    /// Share of the last batch's importance weights that V-trace clipped by more than rounding.
    LEARNER_CLIPPED: Gauge<Clip> = "hrm_learner_clipped_ratio", Count;

    /// Size of log(pi/mu) in the last batch with frames at policy lag 0, where actor and learner have the same weights.
    LEARNER_LAG_ZERO_LOG_RATIO: Gauge<Statistic> = "hrm_learner_lag_zero_log_ratio", Count;

    /// Versions of the weights published.
    LEARNER_WEIGHTS_PUBLISHED: Counter<Unlabelled> = "hrm_learner_weights_published_total", Count;
    /// Bytes of weights published, each version counted once.
    LEARNER_WEIGHTS_PUBLISHED_BYTES: Counter<Unlabelled> = "hrm_learner_weights_published_bytes_total", Bytes;
    /// Version of the newest weights.
    LEARNER_WEIGHTS_VERSION: Gauge<Unlabelled> = "hrm_learner_weights_version", Count;
    /// Bytes of weights sent to all subscribers.
    LEARNER_SENT_BYTES: Counter<Unlabelled> = "hrm_learner_sent_bytes_total", Bytes;
    /// Connections and calls rejected before their content was read, by reason.
    LEARNER_CALLS_REFUSED: Counter<CallRefused> = "hrm_learner_calls_refused_total", Count;
    /// Time at which the certificate of the learner's port expires, in seconds since 1970. Exists with TLS only.
    LEARNER_CERTIFICATE_EXPIRY: Gauge<Unlabelled> = "hrm_learner_certificate_expiry_timestamp_seconds", Seconds;
    /// Clients that follow the live page.
    LEARNER_PAGE_CLIENTS: Gauge<Unlabelled> = "hrm_learner_page_clients", Count;
    /// Actors that are joined.
    LEARNER_ACTORS: Gauge<Unlabelled> = "hrm_learner_actors", Count;
    /// Joins of actors.
    LEARNER_JOINS: Counter<Unlabelled> = "hrm_learner_joins_total", Count;

    /// Completion time of the newest checkpoint, in seconds since 1970. Its age is `time()` minus this.
    LEARNER_CHECKPOINT_TIME: Gauge<Unlabelled> = "hrm_learner_checkpoint_timestamp_seconds", Seconds;
    /// Frames of the run at the newest checkpoint.
    LEARNER_CHECKPOINT_FRAMES: Gauge<Unlabelled> = "hrm_learner_checkpoint_frames", Count;
    /// Frames of the run at the newest checkpoint in the copy at `checkpoint.copy_to`.
    LEARNER_COPIED_FRAMES: Gauge<Unlabelled> = "hrm_learner_copied_checkpoint_frames", Count;

    /// Failed writes and removals of files while training, by file. Training continues.
    LEARNER_WRITE_FAILURES: Counter<RunFile> = "hrm_learner_write_failures_total", Count;

    /// Success rate of the last evaluation.
    LEARNER_EVAL_SUCCESS: Gauge<Unlabelled> = "hrm_learner_eval_success_ratio", Count;
    /// Path ratio of the last evaluation.
    LEARNER_EVAL_PATH_RATIO: Gauge<Unlabelled> = "hrm_learner_eval_path_ratio", Count;
    /// Mean length of the last evaluation's episodes, in steps.
    LEARNER_EVAL_LENGTH: Gauge<Unlabelled> = "hrm_learner_eval_episode_length_steps", Count;
    /// Frames of the run when the last evaluation's weights were published.
    LEARNER_EVAL_FRAMES: Gauge<Unlabelled> = "hrm_learner_eval_frames", Count;
}

/// Describes all metrics to the recorder, and starts the counters of the process's roles at 0.
pub(crate) fn register(roles: &[Role]) {
    for metric in ALL {
        (metric.describe)(metric.name, metric.unit, metric.help.trim());
        if roles.iter().any(|role| metric.belongs_to(*role)) {
            (metric.start)(metric.name);
        }
    }
    for &role in roles {
        BUILD_INFO
            .with(Build {
                role,
                version: env!("CARGO_PKG_VERSION"),
            })
            .set(1.0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    /// Returns the metrics page after `work`.
    fn scraped(work: impl FnOnce()) -> String {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, work);
        recorder.handle().render()
    }

    #[test]
    fn names_are_unique_and_follow_prometheus() {
        let mut seen = HashSet::new();
        for metric in ALL {
            assert!(
                seen.insert(metric.name),
                "{} is declared twice",
                metric.name
            );
            assert!(metric.name.starts_with("hrm_"), "{}", metric.name);
            assert!(
                metric
                    .name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{}",
                metric.name
            );
            assert!(metric.help.trim().ends_with('.'), "{}", metric.name);
        }
    }

    #[test]
    fn exactly_the_counters_end_in_total() {
        let everything = scraped(|| register(&[Role::Actor, Role::Learner]));
        let of_type = |name: &str| {
            everything
                .lines()
                .find_map(|line| line.strip_prefix(&format!("# TYPE {name} ")))
                .map(str::to_owned)
        };
        for metric in ALL
            .iter()
            .filter(|m| m.name != LEARNER_UNROLLS_REFUSED.name())
        {
            let counter = of_type(metric.name).as_deref() == Some("counter");
            assert_eq!(metric.name.ends_with("_total"), counter, "{}", metric.name);
        }
    }

    #[test]
    fn a_role_starts_with_its_own_counters_at_zero() {
        let actor = scraped(|| register(&[Role::Actor]));
        assert!(actor.contains("\nhrm_actor_frames_total 0\n"), "{actor}");
        assert!(
            actor.contains("hrm_build_info{role=\"actor\",version="),
            "{actor}"
        );
        assert!(!actor.contains("\nhrm_learner_"), "{actor}");

        let learner = scraped(|| register(&[Role::Learner]));
        for line in [
            "hrm_learner_unrolls_dropped_total{reason=\"stale\"} 0",
            "hrm_learner_unrolls_dropped_total{reason=\"fenced\"} 0",
            "hrm_learner_episodes_total{outcome=\"success\"} 0",
        ] {
            assert!(learner.contains(line), "{line} in {learner}");
        }
    }

    #[test]
    fn registering_a_role_again_keeps_its_counts() {
        let text = scraped(|| {
            LEARNER_UPDATES.get().increment(3);
            register(&[Role::Learner]);
        });
        assert!(text.contains("\nhrm_learner_updates_total 3\n"), "{text}");
    }

    #[test]
    fn labels_and_help_are_scraped() {
        let text = scraped(|| {
            register(&[Role::Learner]);
            LEARNER_UNROLLS_REFUSED.with(Field("tokens")).increment(2);
            LEARNER_LOSS.with(LossTerm::Value).set(0.5);
        });
        for line in [
            "# HELP hrm_learner_unrolls_refused_total Unrolls rejected, by the invalid field.",
            "hrm_learner_unrolls_refused_total{field=\"tokens\"} 2",
            "hrm_learner_loss{term=\"value\"} 0.5",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
