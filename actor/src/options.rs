//! How an actor reaches its learner.

use std::time::Duration;

use hrm_common::config::Config;
use tokio::sync::watch;

use crate::connect::Credentials;

/// The longest that a learner may take to answer a call.
const ANSWER: Duration = Duration::from_secs(10);

/// How an actor process reaches its learner.
#[derive(Debug, Clone)]
pub struct ActorOptions {
    /// URL of the learner, such as `http://127.0.0.1:50051`.
    pub learner: String,
    /// Certificates and token.
    pub credentials: Credentials,
    /// A name for the learner's logs.
    pub name: String,
    /// Random, one per process: an older session of the same actor is fenced off by it.
    pub actor_id: u64,
    /// Shortest wait before connecting again.
    pub backoff_min: Duration,
    /// Longest wait before connecting again.
    pub backoff_max: Duration,
    /// The longest that the learner may take to answer a call.
    pub answer: Duration,
    /// How long a shutdown may wait for the learner to take what was sent.
    pub drain: Duration,
    /// Told when the actor joins its learner and when it has lost it.
    pub joined: watch::Sender<bool>,
}

impl ActorOptions {
    /// The options of a configuration's `[actor]`, with a random id.
    pub fn new(config: &Config, name: String) -> Self {
        let actor = &config.actor;
        Self {
            learner: actor.learner.clone(),
            credentials: Credentials::new(actor),
            name,
            actor_id: rand::random(),
            backoff_min: actor.backoff_min(),
            backoff_max: actor.backoff_max(),
            answer: ANSWER,
            drain: actor.drain(),
            joined: watch::Sender::new(false),
        }
    }
}
