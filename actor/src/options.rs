//! The settings of an actor process.

use std::time::Duration;

use hrm_common::config::Config;
use tokio::sync::watch;

use crate::connect::Credentials;

/// Time limit for the learner's answer to a call.
const ANSWER: Duration = Duration::from_secs(10);

/// The settings of an actor process.
#[derive(Debug, Clone)]
pub struct ActorOptions {
    /// URL of the learner, such as `http://127.0.0.1:50051`.
    pub learner: String,
    /// Certificates and the source of the token.
    pub credentials: Credentials,
    /// The actor's name in the learner's log.
    pub name: String,
    /// A random number, one per process. The learner fences an older session with the same number.
    pub actor_id: u64,
    /// Rollout threads, at least 1. All of them share one session and one copy of the weights.
    pub threads: u32,
    /// Most frames per second of a rollout thread; 0 for no limit.
    pub max_frames_per_second: f64,
    /// Shortest wait before the next attempt to connect.
    pub backoff_min: Duration,
    /// Longest wait before the next attempt to connect.
    pub backoff_max: Duration,
    /// Time limit for the learner's answer to a call.
    pub answer: Duration,
    /// Time limit, at shutdown, for the learner to receive the unrolls that were sent.
    pub drain: Duration,
    /// True while the actor is joined to its learner.
    pub joined: watch::Sender<bool>,
}

impl ActorOptions {
    /// Returns the settings of the `[actor]` section, with a random id.
    pub fn new(config: &Config, name: String) -> Self {
        let actor = &config.actor;
        Self {
            learner: actor.learner.clone(),
            credentials: Credentials::new(actor),
            name,
            actor_id: rand::random(),
            threads: actor.resolved_threads(),
            max_frames_per_second: actor.max_frames_per_second,
            backoff_min: actor.backoff_min(),
            backoff_max: actor.backoff_max(),
            answer: ANSWER,
            drain: actor.drain(),
            joined: watch::Sender::new(false),
        }
    }

    /// Returns the shortest time of an unroll of `frames` frames.
    pub(crate) fn least_unroll_time(&self, frames: usize) -> Duration {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        match self.max_frames_per_second {
            0.0 => Duration::ZERO,
            rate => {
                Duration::try_from_secs_f64(frames as f64 / rate).map_or(DAY, |time| time.min(DAY))
            }
        }
    }
}
