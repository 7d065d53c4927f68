//! `[rollout]` and `[actor]`: the actors of a run, and the connection of one actor to its learner.

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

/// Most rollout threads of one actor process. It limits what an actor can make a learner remember.
pub const MAX_THREADS: u32 = 256;

/// `[rollout]`: the settings of all actors of a run. The learner sends them to the actors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutConfig {
    /// Environments per rollout thread of an actor: N.
    pub envs: usize,
    /// Ticks per unroll: T.
    pub unroll_length: usize,
    /// The dtype of the carry in an unroll. With `bf16` the actor continues from the rounded values, so that both sides
    /// start from the same bits.
    pub carry_dtype: Dtype,
    /// Makes an actor wait for the weights made from its last unroll (policy lag 0).
    pub synchronous: bool,
    /// Most credits of a rollout thread: unrolls that it may play before the trainer takes them. With 1, it plays the
    /// next unroll while the learner trains on the last. Each further credit hides more network latency and adds policy
    /// lag. A learner that is busy gives fewer.
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
    /// Largest number of environments per rollout thread, which limits what a learner can make an actor allocate.
    const MAX_ENVS: usize = 4096;
    /// Largest number of ticks per unroll, for the same reason.
    const MAX_UNROLL_LENGTH: usize = 1024;

    /// Largest number of credits per rollout thread.
    const MAX_IN_FLIGHT: usize = 64;

    /// Returns the frames per unroll, N times T.
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

/// `[actor]`: the settings of one actor process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ActorConfig {
    /// The learner's URL: `http://host:port`, or `https://host:port` for TLS.
    pub learner: String,
    /// Rollout threads, each with `rollout.envs` environments; 0 for one per core that the process may use. They share
    /// one connection and one copy of the weights.
    pub threads: u32,
    /// Most frames per second of a rollout thread, which rests after an unroll that took less time; 0 for no limit. It
    /// leaves the cores to other processes, and imitates slower machines in studies. An unroll must take less than
    /// `learner.session_timeout_seconds`.
    pub max_frames_per_second: f64,
    /// Address on which an actor process serves `/metrics`; `""` switches it off.
    #[serde(with = "address::or_off")]
    pub metrics_listen: Option<SocketAddr>,
    /// Address on which an actor process serves the gRPC health service, for probes; off by default.
    #[serde(with = "address::or_off")]
    pub health_listen: Option<SocketAddr>,
    /// Shortest wait before the next attempt to connect to the learner, in milliseconds.
    pub backoff_min_ms: u64,
    /// Longest wait before the next attempt to connect to the learner, in milliseconds.
    pub backoff_max_ms: u64,
    /// Time limit for the actor to finish when it is asked to stop, in seconds.
    pub drain_seconds: u64,
    /// PEM file with the certificates of the authority that signed the learner's certificate; for `https://`.
    #[serde(with = "file::or_none")]
    pub tls_ca: Option<PathBuf>,
    /// PEM file with the actor's certificate chain, if the learner requires one (`learner.tls_client_ca`).
    #[serde(with = "file::or_none")]
    pub tls_certificate: Option<PathBuf>,
    /// PEM file with the private key of `tls_certificate`.
    #[serde(with = "file::or_none")]
    pub tls_private_key: Option<PathBuf>,
    /// File whose first token is the actor's, if the learner requires one (`learner.actor_tokens_file`). It is read at
    /// every attempt to connect.
    #[serde(with = "file::or_none")]
    pub token_file: Option<PathBuf>,
}

impl Default for ActorConfig {
    fn default() -> Self {
        Self {
            learner: "http://127.0.0.1:50051".to_owned(),
            threads: 0,
            max_frames_per_second: 0.0,
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
    /// Returns the number of rollout threads, with 0 resolved to the number of cores.
    pub fn resolved_threads(&self) -> u32 {
        rules::threads_or_cores(self.threads as usize).min(MAX_THREADS as usize) as u32
    }

    /// Returns the shortest wait before the next attempt to connect to the learner.
    pub fn backoff_min(&self) -> Duration {
        Duration::from_millis(self.backoff_min_ms)
    }

    /// Returns the longest wait before the next attempt to connect to the learner.
    pub fn backoff_max(&self) -> Duration {
        Duration::from_millis(self.backoff_max_ms)
    }

    /// Returns the time limit for the actor to finish when it is asked to stop.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }

    pub(super) fn check(&self) -> Checked {
        self.check_connection()?;
        rules::between("actor.threads", self.threads, 0, MAX_THREADS)?;
        let rate = self.max_frames_per_second;
        rules::between("actor.max_frames_per_second", rate, 0.0, 1e9)?;
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

    /// Checks that `https://` has what TLS needs, and that no token is sent unencrypted over a network.
    fn check_connection(&self) -> Checked {
        let refuse = |reason: &str, remedy: &str| {
            rules::conflict(
                "actor.learner",
                format!("{:?}", self.learner),
                reason,
                remedy,
            )
        };
        let learner = match Learner::from_url(&self.learner) {
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
                "it requires TLS, but actor.tls_ca is not set",
                "set actor.tls_ca to the certificates of the authority that signed the learner's certificate",
            ),
            (false, Some(_)) => refuse(
                "it does not use TLS, so actor.tls_ca would have no effect",
                "begin it with https://, or do not set actor.tls_ca",
            ),
            _ if self.token_file.is_some() && !learner.tls && !learner.here => refuse(
                "the token of actor.token_file would be sent unencrypted over the network",
                "begin it with https:// and set actor.tls_ca, or do not set actor.token_file",
            ),
            _ => Ok(()),
        }
    }
}

/// The parts of a learner's URL that matter for security.
#[derive(Debug, PartialEq, Eq)]
struct Learner {
    /// True for `https`.
    tls: bool,
    /// True for an address on the loopback interface.
    here: bool,
}

impl Learner {
    /// Reads `http://host:port` or `https://host:port`.
    fn from_url(url: &str) -> Result<Self, String> {
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
            assert_eq!(Learner::from_url(good), Ok(Learner { tls, here }), "{good}");
        }
        for bad in [
            "",
            "learner",
            "learner:50051",
            "grpc://learner:50051",
            "http://learner",
            "http://l:1/x",
        ] {
            assert!(Learner::from_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn insecure_and_contradictory_connections_are_rejected() {
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
