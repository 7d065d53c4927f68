//! `[rollout]` and `[actor]`: how actors act, and how one finds its learner.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use http::Uri;
use serde::{Deserialize, Serialize};

use super::{
    address, file,
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
#[serde(default)]
pub struct ActorConfig {
    /// The learner's URL: `http://host:port`, or `https://host:port` for TLS.
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
    /// Certificates of the authority that signed the learner's, a PEM file; for `https://`.
    #[serde(with = "file::or_none")]
    pub tls_ca: Option<PathBuf>,
    /// The actor's certificate chain, a PEM file, where the learner asks for one (`learner.tls_client_ca`).
    #[serde(with = "file::or_none")]
    pub tls_certificate: Option<PathBuf>,
    /// The private key of `tls_certificate`, a PEM file.
    #[serde(with = "file::or_none")]
    pub tls_private_key: Option<PathBuf>,
    /// A file with the actor's token in its first line, where the learner asks for one
    /// (`learner.actor_tokens_file`). Read at every attempt to connect.
    #[serde(with = "file::or_none")]
    pub token_file: Option<PathBuf>,
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
            tls_ca: None,
            tls_certificate: None,
            tls_private_key: None,
            token_file: None,
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
        self.check_connection()?;
        rules::between("actor.drain_seconds", self.drain_seconds, 0, rules::DAY)?;
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

    /// What TLS needs is there with `https://`, and a token is not shown to a network.
    fn check_connection(&self) -> Checked {
        let refuse = |reason: &str, remedy: &str| {
            rules::conflict(
                "actor.learner",
                format!("{:?}", self.learner),
                reason,
                remedy,
            )
        };
        let learner = match Learner::of(&self.learner) {
            Ok(learner) => learner,
            Err(reason) => {
                let remedy = "set it to the learner's address, such as http://127.0.0.1:50051 or \
                              https://learner:50051";
                return refuse(&reason, remedy);
            }
        };
        rules::both(
            ("actor.tls_certificate", &self.tls_certificate),
            ("actor.tls_private_key", &self.tls_private_key),
        )?;
        rules::needs(
            ("actor.tls_certificate", &self.tls_certificate),
            ("actor.tls_ca", &self.tls_ca),
        )?;
        match (learner.tls, &self.tls_ca) {
            (true, None) => refuse(
                "it asks for TLS, but nothing says which authority's certificate to trust",
                "set actor.tls_ca to the certificates of the authority that signed the learner's",
            ),
            (false, Some(_)) => refuse(
                "it asks for no TLS, so actor.tls_ca would protect nothing",
                "begin it with https://, or leave actor.tls_ca out",
            ),
            _ if self.token_file.is_some() && !learner.tls && !learner.here => refuse(
                "the token of actor.token_file would cross the network unencrypted",
                "begin it with https:// and set actor.tls_ca, or leave actor.token_file out",
            ),
            _ => Ok(()),
        }
    }
}

/// What a learner's URL says.
#[derive(Debug, PartialEq, Eq)]
struct Learner {
    /// `https`.
    tls: bool,
    /// On the loopback interface.
    here: bool,
}

impl Learner {
    /// Reads `http://host:port` or `https://host:port`.
    fn of(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|e| format!("it is not a URL ({e})"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("it must start with http:// or https://".to_owned()),
        };
        let host = uri.host().unwrap_or_default();
        if host.is_empty() || uri.port_u16().is_none() {
            return Err("it must name a host and a port".to_owned());
        }
        if uri
            .path_and_query()
            .is_some_and(|rest| rest.as_str() != "/")
        {
            return Err("it must have nothing after the port".to_owned());
        }
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let here = match address.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => host == "localhost",
        };
        Ok(Self { tls, here })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learner_is_named_by_scheme_host_and_port() {
        for (good, tls, here) in [
            ("http://127.0.0.1:50051", false, true),
            ("http://localhost:50051", false, true),
            ("http://learner:1/", false, false),
            ("http://[::1]:50051", false, true),
            ("https://10.0.0.1:50051", true, false),
        ] {
            assert_eq!(Learner::of(good), Ok(Learner { tls, here }), "{good}");
        }
        for bad in [
            "",
            "learner",
            "learner:50051",
            "grpc://learner:50051",
            "http://learner",
            "http://l:1/x",
        ] {
            assert!(Learner::of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_connection_is_as_safe_as_it_looks() {
        let config = |learner: &str, ca: bool, certificate: bool, token: bool| {
            let file = |given: bool| given.then(|| PathBuf::from("file.pem"));
            let config = ActorConfig {
                learner: learner.to_owned(),
                tls_ca: file(ca),
                tls_certificate: file(certificate),
                tls_private_key: file(certificate),
                token_file: file(token),
                ..ActorConfig::default()
            };
            config.check().map_err(|fault| fault.key)
        };
        let (https, http, here) = ("https://l:1", "http://l:1", "http://127.0.0.1:1");
        assert_eq!(config(https, true, true, true), Ok(()));
        assert_eq!(config(https, true, false, false), Ok(()));
        assert_eq!(config(here, false, false, true), Ok(()));
        for (refused, key) in [
            (config(https, false, false, false), "actor.learner"),
            (config(http, true, false, false), "actor.learner"),
            (config(http, false, false, true), "actor.learner"),
            (config(here, false, true, false), "actor.tls_certificate"),
        ] {
            assert_eq!(refused, Err(key.to_owned()));
        }
        let half = ActorConfig {
            tls_private_key: Some("key.pem".into()),
            ..ActorConfig::default()
        };
        assert_eq!(half.check().expect_err("half").key, "actor.tls_private_key");
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
