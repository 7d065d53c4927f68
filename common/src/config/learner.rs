//! `[learner]`: the learner process, its queue and the length of the run.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    address::{self, WebListen},
    file,
    rules::{self, Checked},
};

/// `learner.batch_unrolls`: the unrolls of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BatchUnrolls {
    /// Always this number.
    Fixed(usize),
    /// One of each rollout thread of the joined actors, within limits.
    Auto(AutoBatch),
}

impl fmt::Display for BatchUnrolls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(unrolls) => write!(f, "{unrolls}"),
            Self::Auto(_) => write!(
                f,
                "\"auto\" (learner.min_batch_unrolls to learner.max_batch_unrolls)"
            ),
        }
    }
}

/// The word for [`BatchUnrolls::Auto`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AutoBatch {
    /// `"auto"`.
    Auto,
}

/// The smallest and the largest number of unrolls in a full batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchRange {
    /// The smallest number, at least 1.
    pub least: usize,
    /// The largest number, at least `least`.
    pub most: usize,
}

impl BatchRange {
    /// Returns the unrolls of a full batch while `rollouts` rollout threads are joined.
    pub fn for_rollouts(self, rollouts: usize) -> usize {
        rollouts.max(self.least).min(self.most)
    }
}

/// `[learner]`: the settings of the learner process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LearnerConfig {
    /// Address of the gRPC service; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Trains on the unrolls. With `false`, the learner admits, counts and drops them, and publishes the same weights
    /// as a new version every `telemetry.log_interval_seconds`. `hrm-actor load` then measures what it can admit.
    pub train: bool,
    /// Actors that `hrm-learner train` starts in its own process; 0 if all run elsewhere.
    pub local_actors: usize,
    /// Threads that share a minibatch; 0 for one per core.
    pub threads: usize,
    /// Unrolls per batch; "auto" for as many as the joined actors have rollout threads, between `min_batch_unrolls` and
    /// `max_batch_unrolls`.
    pub batch_unrolls: BatchUnrolls,
    /// Fewest unrolls per batch, with `batch_unrolls` = "auto".
    pub min_batch_unrolls: usize,
    /// Most unrolls per batch, with `batch_unrolls` = "auto".
    pub max_batch_unrolls: usize,
    /// Capacity of the queue before the batcher, in unrolls. It limits the learner's memory.
    pub queue_unrolls: usize,
    /// Largest number of joined actors.
    pub max_sessions: usize,
    /// Largest number of open connections, including those of probes.
    pub max_connections: usize,
    /// Time after which the learner closes a session that sends no unroll although the trainer has taken all it sent,
    /// in seconds. In a synchronous run the other actors would wait for it.
    pub session_timeout_seconds: u64,
    /// Largest policy lag of an unroll, in batches, each of which makes one version of the weights. The learner drops
    /// older unrolls.
    pub max_policy_lag_batches: u64,
    /// Frames after which the run is complete.
    pub total_frames: u64,
    /// Minutes of training time after which the run is complete; 0 for no limit. Time counts from batch to batch while
    /// at least one actor plays. A gap between two batches counts for at most ten times the median gap. Waiting for
    /// actors, a suspended process and an outage therefore do not use the minutes up.
    pub max_minutes: f64,
    /// Greedy success of an evaluation during training, from 0 to 1, at which the run is complete; 0 for no target. The
    /// learning rate follows `total_frames` and `max_minutes` as without a target.
    pub target_success: f64,
    /// Keeps serving metrics and health after the run is complete, until the process is asked to stop. Use it under a
    /// supervisor that restarts every process that ends.
    pub stay_when_complete: bool,
    /// Time limit for the learner to finish when it is asked to stop, in seconds.
    pub drain_seconds: u64,
    /// Time that a complete run waits for lost actors, to tell them that it is complete, in seconds since the loss.
    /// Without local actors, or if `learner.listen` is not a loopback address, it also waits for this time since its
    /// start. Must be longer than the actors' `actor.backoff_max_ms`.
    pub farewell_seconds: u64,
    /// Address on which the learner serves `/metrics`; `""` switches it off.
    #[serde(with = "address::or_off")]
    pub metrics_listen: Option<SocketAddr>,
    /// Address on which the learner serves the gRPC health service alone; off by default. Probes then need no access to
    /// `learner.listen`, which also serves it.
    #[serde(with = "address::or_off")]
    pub health_listen: Option<SocketAddr>,
    /// Address of the live page, which shows the run in a browser; `""` switches it off. `"auto"` takes 127.0.0.1:8080,
    /// or any free port while that one is taken, and is off without local actors. The page has the TLS certificate of
    /// `listen`, and asks for a viewer's token if there are tokens.
    pub web_listen: WebListen,
    /// PEM file with the learner's certificate chain. Actors must then connect with TLS. `hrm-learner certs` creates
    /// one for tests.
    #[serde(with = "file::or_none")]
    pub tls_certificate: Option<PathBuf>,
    /// PEM file with the private key of `tls_certificate`.
    #[serde(with = "file::or_none")]
    pub tls_private_key: Option<PathBuf>,
    /// PEM file with the certificates of an authority. Every client must then have a certificate that it signed (mutual
    /// TLS).
    #[serde(with = "file::or_none")]
    pub tls_client_ca: Option<PathBuf>,
    /// File of tokens, one per line. Actors must then send one of them. The learner reloads the file when it changes.
    #[serde(with = "file::or_none")]
    pub actor_tokens_file: Option<PathBuf>,
    /// File of tokens for viewers, who may only ask for the status of the run. It is reloaded when it changes.
    #[serde(with = "file::or_none")]
    pub viewer_tokens_file: Option<PathBuf>,
    /// Allows other machines to reach `listen` and `web_listen` although the connection is not encrypted or clients are
    /// not authenticated.
    pub insecure: bool,
}

impl Default for LearnerConfig {
    fn default() -> Self {
        Self {
            listen: address::loopback(50051),
            train: true,
            local_actors: 2,
            threads: 0,
            batch_unrolls: BatchUnrolls::Fixed(2),
            min_batch_unrolls: 2,
            max_batch_unrolls: 16,
            queue_unrolls: 4,
            max_sessions: 1024,
            max_connections: 2048,
            session_timeout_seconds: 300,
            max_policy_lag_batches: 8,
            total_frames: 250_000,
            max_minutes: 0.0,
            target_success: 0.0,
            stay_when_complete: false,
            drain_seconds: 10,
            farewell_seconds: 30,
            metrics_listen: Some(address::loopback(9100)),
            health_listen: None,
            web_listen: WebListen::Auto,
            tls_certificate: None,
            tls_private_key: None,
            tls_client_ca: None,
            actor_tokens_file: None,
            viewer_tokens_file: None,
            insecure: false,
        }
    }
}

impl LearnerConfig {
    /// Returns the time limit for the learner to finish when it is asked to stop.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }

    /// Returns the time that a complete run waits for lost actors.
    pub fn farewell(&self) -> Duration {
        Duration::from_secs(self.farewell_seconds)
    }

    /// Returns the time after which a session that sends no unroll is closed.
    pub fn session_timeout(&self) -> Duration {
        Duration::from_secs(self.session_timeout_seconds)
    }

    /// Returns the range of the unrolls in a full batch.
    pub fn batch_range(&self) -> BatchRange {
        match self.batch_unrolls {
            BatchUnrolls::Fixed(unrolls) => BatchRange {
                least: unrolls,
                most: unrolls,
            },
            BatchUnrolls::Auto(_) => BatchRange {
                least: self.min_batch_unrolls,
                most: self.max_batch_unrolls,
            },
        }
    }

    /// Returns the limit of the training time, if there is one.
    pub fn time_limit(&self) -> Option<Duration> {
        (self.max_minutes > 0.0).then(|| Duration::from_secs_f64(self.max_minutes * 60.0))
    }

    /// Returns the completed share of the run after `frames` and `seconds` of training: the larger of the shares of
    /// `total_frames` and `max_minutes`. The run is complete at 1.
    pub fn share_done(&self, frames: u64, seconds: f64) -> f64 {
        let of_frames = frames as f64 / self.total_frames.max(1) as f64;
        let of_time = self
            .time_limit()
            .map_or(0.0, |limit| seconds / limit.as_secs_f64());
        of_frames.max(of_time)
    }

    /// Returns true when the run has a live page.
    pub fn has_page(&self) -> bool {
        match self.web_listen {
            WebListen::Auto => self.local_actors > 0,
            WebListen::Off => false,
            WebListen::At(_) => true,
        }
    }

    /// Returns the threads that share a minibatch, with 0 resolved to the number of cores.
    pub fn resolved_threads(&self) -> usize {
        rules::threads_or_cores(self.threads)
    }

    pub(super) fn check(&self) -> Checked {
        /// A century, which a `Duration` can hold.
        const MAX_MINUTES: f64 = 100.0 * 366.0 * 24.0 * 60.0;
        /// The queue allocates its capacity in advance.
        const MAX_UNROLLS: usize = 1 << 16;
        const MAX_PEERS: usize = 1_000_000;
        /// Each local actor uses a core and a thread.
        const MAX_LOCAL_ACTORS: usize = 4096;
        let BatchRange { least, most } = self.batch_range();
        let key = match self.batch_unrolls {
            BatchUnrolls::Fixed(_) => "learner.batch_unrolls",
            BatchUnrolls::Auto(_) => "learner.max_batch_unrolls",
        };
        rules::between(key, most, 1, MAX_UNROLLS)?;
        rules::between("learner.min_batch_unrolls", least, 1, most)?;
        if self.queue_unrolls < most {
            return rules::conflict(
                "learner.queue_unrolls",
                self.queue_unrolls,
                format!("it is below {key} = {most}, so the queue could never hold a batch"),
                format!("set it to {most} or more"),
            );
        }
        rules::between("learner.queue_unrolls", self.queue_unrolls, 1, MAX_UNROLLS)?;
        rules::between(
            "learner.local_actors",
            self.local_actors,
            0,
            MAX_LOCAL_ACTORS,
        )?;
        rules::between("learner.drain_seconds", self.drain_seconds, 0, rules::DAY)?;
        rules::between(
            "learner.farewell_seconds",
            self.farewell_seconds,
            0,
            rules::DAY,
        )?;
        rules::between("learner.max_sessions", self.max_sessions, 1, MAX_PEERS)?;
        rules::between(
            "learner.max_connections",
            self.max_connections,
            1,
            MAX_PEERS,
        )?;
        rules::at_least(
            "learner.session_timeout_seconds",
            self.session_timeout_seconds,
            1,
        )?;
        rules::at_least("learner.total_frames", self.total_frames, 1)?;
        rules::between("learner.max_minutes", self.max_minutes, 0.0, MAX_MINUTES)?;
        rules::between("learner.target_success", self.target_success, 0.0, 1.0)?;
        self.check_security()
    }

    /// Checks that other machines have access only with TLS and authentication, or with `insecure`.
    fn check_security(&self) -> Checked {
        rules::both(
            ("learner.tls_certificate", &self.tls_certificate),
            ("learner.tls_private_key", &self.tls_private_key),
        )?;
        rules::needs(
            ("learner.tls_client_ca", &self.tls_client_ca),
            ("learner.tls_certificate", &self.tls_certificate),
        )?;
        rules::needs(
            ("learner.viewer_tokens_file", &self.viewer_tokens_file),
            ("learner.actor_tokens_file", &self.actor_tokens_file),
        )?;
        let clients = "set learner.tls_certificate and learner.tls_private_key, and learner.actor_tokens_file or \
                       learner.tls_client_ca";
        let closed = self.tls_client_ca.is_some() || self.actor_tokens_file.is_some();
        self.check_open("learner.listen", self.listen, closed, clients)?;
        // Browsers have no certificate.
        let WebListen::At(address) = self.web_listen else {
            return Ok(());
        };
        let viewers = "set learner.tls_certificate and learner.tls_private_key, learner.actor_tokens_file and \
                       learner.viewer_tokens_file";
        let closed = self.actor_tokens_file.is_some();
        self.check_open("learner.web_listen", address, closed, viewers)
    }

    /// Checks an address, which is `key` in the configuration and authenticates clients if it is `closed`.
    fn check_open(
        &self,
        key: &'static str,
        address: SocketAddr,
        closed: bool,
        remedy: &str,
    ) -> Checked {
        let encrypted = self.tls_certificate.is_some();
        if address.ip().is_loopback() || self.insecure || (encrypted && closed) {
            return Ok(());
        }
        let reason = match encrypted {
            true => "other machines can reach it, and clients are not authenticated",
            false => "other machines can reach it, and the connection is not encrypted",
        };
        rules::conflict(
            key,
            format!("\"{address}\""),
            reason,
            format!("{remedy}; in a trusted network you can set learner.insecure = true instead"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_is_over_by_frames_or_by_minutes() {
        let share = |max_minutes: f64, frames: u64, seconds: f64| {
            let config = LearnerConfig {
                total_frames: 1000,
                max_minutes,
                ..LearnerConfig::default()
            };
            config.share_done(frames, seconds)
        };
        assert_eq!(share(0.0, 250, 1e9), 0.25);
        assert_eq!(share(2.0, 250, 60.0), 0.5);
        assert_eq!(share(2.0, 750, 60.0), 0.75);
        assert_eq!(share(2.0, 0, 0.0), 0.0);
    }

    #[test]
    fn a_public_address_needs_tls_and_authentication_or_insecure() {
        let file = |given: bool| given.then(|| PathBuf::from("file.pem"));
        let check = |listen: &str, tls: bool, ca: bool, tokens: bool, insecure: bool| {
            let config = LearnerConfig {
                listen: listen.parse().expect("an address"),
                tls_certificate: file(tls),
                tls_private_key: file(tls),
                tls_client_ca: file(ca),
                actor_tokens_file: file(tokens),
                insecure,
                ..LearnerConfig::default()
            };
            config.check().map_err(|fault| fault.key)
        };
        let (here, everywhere) = ("127.0.0.1:0", "0.0.0.0:1");
        for fine in [
            check(here, false, false, false, false),
            check("[::1]:0", false, false, true, false),
            check(everywhere, true, true, false, false),
            check(everywhere, true, false, true, false),
            check(everywhere, false, false, false, true),
        ] {
            assert_eq!(fine, Ok(()));
        }
        for open in [
            check(everywhere, false, false, false, false),
            check(everywhere, false, false, true, false),
            check(everywhere, true, false, false, false),
            check("[::]:1", false, false, false, false),
            check("192.0.2.1:1", false, false, false, false),
        ] {
            assert_eq!(open, Err("learner.listen".to_owned()));
        }
        let page = |listen: &str, tls: bool, ca: bool, tokens: bool, insecure: bool| {
            let config = LearnerConfig {
                web_listen: WebListen::At(listen.parse().expect("an address")),
                tls_certificate: file(tls),
                tls_private_key: file(tls),
                tls_client_ca: file(ca),
                actor_tokens_file: file(tokens),
                insecure,
                ..LearnerConfig::default()
            };
            config.check().map_err(|fault| fault.key)
        };
        for fine in [
            page(here, false, false, false, false),
            page(everywhere, true, false, true, false),
            page(everywhere, false, false, false, true),
        ] {
            assert_eq!(fine, Ok(()));
        }
        for open in [
            page(everywhere, false, false, false, false),
            page(everywhere, false, false, true, false),
            page(everywhere, true, true, false, false),
        ] {
            assert_eq!(open, Err("learner.web_listen".to_owned()));
        }
        let lacks = check(here, false, true, false, false);
        assert_eq!(lacks, Err("learner.tls_client_ca".to_owned()));
    }
}
