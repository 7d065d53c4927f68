//! `[rollout]` and `[actor]`: how actors act, and how one finds its learner.

use std::{net::SocketAddr, time::Duration};

use http::Uri;
use serde::{Deserialize, Serialize};

use super::{
    address,
    rules::{self, Checked},
};
use crate::model::Dtype;

/// `[rollout]`: how every actor of a run acts. The learner decides and tells the actors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutConfig {
    /// Environments of one actor: N.
    pub envs: usize,
    /// Ticks of an unroll: T.
    pub unroll_length: usize,
    /// The dtype in which the carry at an unroll's start travels. With `bf16` the actor goes on
    /// from the rounded values, so that both sides start from the same bits.
    pub carry_dtype: Dtype,
    /// Whether an actor waits for the weights made from its last unroll (policy lag 0).
    pub synchronous: bool,
    /// Unrolls that an actor may have under way that the trainer has not taken yet. 1 is enough to play
    /// the next unroll while the learner trains on the last; every further one hides more of the
    /// network's latency and adds to the policy lag.
    pub unrolls_in_flight: usize,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            envs: 32,
            unroll_length: 16,
            carry_dtype: Dtype::F32,
            synchronous: false,
            unrolls_in_flight: 1,
        }
    }
}

impl RolloutConfig {
    /// Environments of one actor at most: a bound on what a learner can make an actor allocate.
    const MAX_ENVS: usize = 4096;
    /// Ticks of an unroll at most, for the same reason.
    const MAX_UNROLL_LENGTH: usize = 1024;

    /// Unrolls under way of one actor at most.
    const MAX_IN_FLIGHT: usize = 64;

    /// Frames of one unroll: N times T.
    pub fn frames(&self) -> usize {
        self.envs * self.unroll_length
    }

    pub(super) fn check(&self) -> Checked {
        rules::between("rollout.envs", self.envs, 1, Self::MAX_ENVS)?;
        rules::between(
            "rollout.unrolls_in_flight",
            self.unrolls_in_flight,
            1,
            Self::MAX_IN_FLIGHT,
        )?;
        rules::between(
            "rollout.unroll_length",
            self.unroll_length,
            1,
            Self::MAX_UNROLL_LENGTH,
        )
    }
}

/// `[actor]`: what belongs to one actor process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorConfig {
    /// The learner's URL.
    pub learner: String,
    /// Where an actor process serves `/metrics`; `""` in a file switches it off.
    #[serde(with = "address::or_off")]
    pub metrics_listen: Option<SocketAddr>,
    /// Where an actor process serves the gRPC health service, for probes; off by default.
    #[serde(with = "address::or_off")]
    pub health_listen: Option<SocketAddr>,
    /// The shortest wait before another attempt to reach the learner, in milliseconds.
    pub backoff_min_ms: u64,
    /// The longest such wait, in milliseconds.
    pub backoff_max_ms: u64,
    /// How long the actor may take to finish when asked to stop, in seconds.
    pub drain_seconds: u64,
}

impl Default for ActorConfig {
    fn default() -> Self {
        Self {
            learner: "http://127.0.0.1:50051".to_owned(),
            metrics_listen: Some(address::loopback(9101)),
            health_listen: None,
            backoff_min_ms: 100,
            backoff_max_ms: 5000,
            drain_seconds: 10,
        }
    }
}

impl ActorConfig {
    /// The shortest wait before another attempt to reach the learner.
    pub fn backoff_min(&self) -> Duration {
        Duration::from_millis(self.backoff_min_ms)
    }

    /// The longest wait before another attempt to reach the learner.
    pub fn backoff_max(&self) -> Duration {
        Duration::from_millis(self.backoff_max_ms)
    }

    /// How long the actor may take to finish when asked to stop.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }

    pub(super) fn check(&self) -> Checked {
        if let Err(reason) = plain_url(&self.learner) {
            return rules::conflict(
                "actor.learner",
                format!("{:?}", self.learner),
                reason,
                "set it to the learner's address, such as http://127.0.0.1:50051",
            );
        }
        rules::at_least("actor.backoff_min_ms", self.backoff_min_ms, 1)?;
        if self.backoff_max_ms < self.backoff_min_ms {
            return rules::conflict(
                "actor.backoff_max_ms",
                self.backoff_max_ms,
                format!("it is below actor.backoff_min_ms = {}", self.backoff_min_ms),
                "raise it, or lower actor.backoff_min_ms",
            );
        }
        Ok(())
    }
}

/// Accepts `http://host:port`, which is all that the transport speaks.
fn plain_url(url: &str) -> Result<(), String> {
    let uri: Uri = url.parse().map_err(|e| format!("it is not a URL ({e})"))?;
    if uri.scheme_str() != Some("http") {
        return Err("it must start with http://".to_owned());
    }
    if uri.host().is_none_or(str::is_empty) || uri.port_u16().is_none() {
        return Err("it must name a host and a port".to_owned());
    }
    if uri
        .path_and_query()
        .is_some_and(|rest| rest.as_str() != "/")
    {
        return Err("it must have nothing after the port".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learner_is_named_by_scheme_host_and_port() {
        for good in [
            "http://127.0.0.1:50051",
            "http://learner:1/",
            "http://[::1]:50051",
        ] {
            assert_eq!(plain_url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "learner",
            "learner:50051",
            "https://learner:50051",
            "http://learner",
            "http://l:1/x",
        ] {
            assert!(plain_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_longest_wait_is_not_below_the_shortest() {
        let config = ActorConfig {
            backoff_min_ms: 10,
            backoff_max_ms: 9,
            ..Default::default()
        };
        assert_eq!(
            config.check().expect_err("10 > 9").key,
            "actor.backoff_max_ms"
        );
    }
}
