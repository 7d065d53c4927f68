//! `[learner]`: the learner process, its queue and the length of the run.

use std::{net::SocketAddr, num::NonZero, thread, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    address,
    rules::{self, Checked},
};

/// `[learner]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearnerConfig {
    /// Where the gRPC service listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Actors that `hrm-learner train` starts in its own process; 0 where they run elsewhere.
    pub local_actors: usize,
    /// Threads that share a minibatch; 0 for as many as there are cores.
    pub threads: usize,
    /// Unrolls of one batch.
    pub batch_unrolls: usize,
    /// Unrolls that wait for the batcher at most: what bounds the learner's memory.
    pub queue_unrolls: usize,
    /// Unrolls whose policy is older than this many versions are dropped.
    pub max_policy_lag: u64,
    /// The run is complete after this many frames.
    pub total_frames: u64,
    /// The run is complete after this many minutes; 0 for no limit.
    pub max_minutes: f64,
    /// Once the run is complete, keep metrics and health until asked to stop, for supervisors that start again
    /// whatever ends.
    pub stay_when_complete: bool,
    /// How long the learner may take to finish when asked to stop, in seconds.
    pub drain_seconds: u64,
    /// Where the learner serves `/metrics`; `""` in a file switches it off.
    #[serde(with = "address::or_off")]
    pub metrics_listen: Option<SocketAddr>,
    /// Where the learner serves the gRPC health service alone, for probes that need no access to
    /// `learner.listen`, which serves it too; off by default.
    #[serde(with = "address::or_off")]
    pub health_listen: Option<SocketAddr>,
}

impl Default for LearnerConfig {
    fn default() -> Self {
        Self {
            listen: address::loopback(50051),
            local_actors: 2,
            threads: 0,
            batch_unrolls: 2,
            queue_unrolls: 4,
            max_policy_lag: 256,
            total_frames: 250_000,
            max_minutes: 0.0,
            stay_when_complete: false,
            drain_seconds: 10,
            metrics_listen: Some(address::loopback(9100)),
            health_listen: None,
        }
    }
}

impl LearnerConfig {
    /// How long the learner may take to finish when asked to stop.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }

    /// The longest the run may take, if there is a limit.
    pub fn time_limit(&self) -> Option<Duration> {
        (self.max_minutes > 0.0).then(|| Duration::from_secs_f64(self.max_minutes * 60.0))
    }

    /// Threads that share a minibatch, with 0 resolved to the number of cores.
    pub fn resolved_threads(&self) -> usize {
        match self.threads {
            0 => thread::available_parallelism().map_or(1, NonZero::get),
            threads => threads,
        }
    }

    pub(super) fn check(&self) -> Checked {
        /// A century: what a `Duration` can hold with room to spare.
        const MAX_MINUTES: f64 = 100.0 * 366.0 * 24.0 * 60.0;
        rules::at_least("learner.batch_unrolls", self.batch_unrolls, 1)?;
        if self.queue_unrolls < self.batch_unrolls {
            return rules::conflict(
                "learner.queue_unrolls",
                self.queue_unrolls,
                format!(
                    "it is below learner.batch_unrolls = {}: the queue could never hold a batch",
                    self.batch_unrolls
                ),
                format!("set it to {} or more", self.batch_unrolls),
            );
        }
        rules::at_least("learner.total_frames", self.total_frames, 1)?;
        rules::between("learner.max_minutes", self.max_minutes, 0.0, MAX_MINUTES)
    }
}
