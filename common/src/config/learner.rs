//! `[learner]`: the learner process, its queue and the length of the run.

use std::{net::SocketAddr, num::NonZero, path::PathBuf, thread, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    address, file,
    rules::{self, Checked},
};

/// `[learner]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
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
    /// Actors that may be joined at a time.
    pub max_sessions: usize,
    /// Connections that may be open at a time, those of probes included.
    pub max_connections: usize,
    /// A session that sends no unroll for so long, in seconds, although the trainer has taken all it sent, is
    /// closed: in a synchronous run the others would wait for it.
    pub session_timeout_seconds: u64,
    /// Unrolls whose policy is older than this many versions are dropped.
    pub max_policy_lag: u64,
    /// The run is complete after this many frames.
    pub total_frames: u64,
    /// The run is complete after this many minutes of training; 0 for no limit. Time counts from batch to batch while
    /// at least one actor is joined, and a gap between two batches for at most ten times the median gap: waiting for
    /// actors, a suspended process and an outage do not use the minutes up.
    pub max_minutes: f64,
    /// Once the run is complete, keep metrics and health until asked to stop, for supervisors that start again
    /// whatever ends.
    pub stay_when_complete: bool,
    /// How long the learner may take to finish when asked to stop, in seconds.
    pub drain_seconds: u64,
    /// The time that a learner whose run is complete waits for actors that it lost, in seconds since the loss, to tell
    /// them so; without local actors also since its own start. Longer than the actors' `actor.backoff_max_ms`.
    pub farewell_seconds: u64,
    /// Where the learner serves `/metrics`; `""` in a file switches it off.
    #[serde(with = "address::or_off")]
    pub metrics_listen: Option<SocketAddr>,
    /// Where the learner serves the gRPC health service alone, for probes that need no access to
    /// `learner.listen`, which serves it too; off by default.
    #[serde(with = "address::or_off")]
    pub health_listen: Option<SocketAddr>,
    /// The learner's certificate chain, a PEM file: actors then connect by TLS only. `hrm-learner certs` makes
    /// one to try it with.
    #[serde(with = "file::or_none")]
    pub tls_certificate: Option<PathBuf>,
    /// The private key of `tls_certificate`, a PEM file.
    #[serde(with = "file::or_none")]
    pub tls_private_key: Option<PathBuf>,
    /// Certificates of an authority, a PEM file: whoever connects must then show a certificate signed by it
    /// (mutual TLS).
    #[serde(with = "file::or_none")]
    pub tls_client_ca: Option<PathBuf>,
    /// A file of tokens, one a line: who may join and upload must then send one of them. Read again when it
    /// changes.
    #[serde(with = "file::or_none")]
    pub actor_tokens_file: Option<PathBuf>,
    /// A file of tokens for those who may ask how the run stands, and nothing else.
    #[serde(with = "file::or_none")]
    pub viewer_tokens_file: Option<PathBuf>,
    /// Whether `listen` may be an address that other machines reach although the connection is not encrypted,
    /// or whoever reaches it may join.
    pub insecure: bool,
}

impl Default for LearnerConfig {
    fn default() -> Self {
        Self {
            listen: address::loopback(50051),
            local_actors: 2,
            threads: 0,
            batch_unrolls: 2,
            queue_unrolls: 4,
            max_sessions: 1024,
            max_connections: 2048,
            session_timeout_seconds: 300,
            max_policy_lag: 256,
            total_frames: 250_000,
            max_minutes: 0.0,
            stay_when_complete: false,
            drain_seconds: 10,
            farewell_seconds: 30,
            metrics_listen: Some(address::loopback(9100)),
            health_listen: None,
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
    /// How long the learner may take to finish when asked to stop.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }

    /// The time that a complete run waits for actors that it lost.
    pub fn farewell(&self) -> Duration {
        Duration::from_secs(self.farewell_seconds)
    }

    /// How long a session may owe an unroll.
    pub fn session_timeout(&self) -> Duration {
        Duration::from_secs(self.session_timeout_seconds)
    }

    /// The longest the run may take, if there is a limit.
    pub(crate) fn time_limit(&self) -> Option<Duration> {
        (self.max_minutes > 0.0).then(|| Duration::from_secs_f64(self.max_minutes * 60.0))
    }

    /// The share of the run that is over after so many frames and so many seconds of training: the larger of the shares
    /// of `total_frames` and of `max_minutes`. The run is complete at 1.
    pub fn share_done(&self, frames: u64, seconds: f64) -> f64 {
        let of_frames = frames as f64 / self.total_frames.max(1) as f64;
        let of_time = self
            .time_limit()
            .map_or(0.0, |limit| seconds / limit.as_secs_f64());
        of_frames.max(of_time)
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
        /// Room is made for them in advance.
        const MAX_UNROLLS: usize = 1 << 16;
        const MAX_PEERS: usize = 1_000_000;
        /// Each takes a core and a thread.
        const MAX_LOCAL_ACTORS: usize = 4096;
        rules::between("learner.batch_unrolls", self.batch_unrolls, 1, MAX_UNROLLS)?;
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
        self.check_security()
    }

    /// Strangers are let in only by somebody who says so.
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
        let encrypted = self.tls_certificate.is_some();
        let closed = self.tls_client_ca.is_some() || self.actor_tokens_file.is_some();
        if self.listen.ip().is_loopback() || self.insecure || (encrypted && closed) {
            return Ok(());
        }
        let reason = match encrypted {
            true => "other machines reach it, and whoever does may join",
            false => "other machines reach it, and the connection is not encrypted",
        };
        rules::conflict(
            "learner.listen",
            format!("\"{}\"", self.listen),
            reason,
            "set learner.tls_certificate and learner.tls_private_key, and learner.actor_tokens_file or \
             learner.tls_client_ca; or, in a network where everybody is trusted, learner.insecure = true",
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
    fn strangers_are_let_in_only_by_who_says_so() {
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
        let lacks = check(here, false, true, false, false);
        assert_eq!(lacks, Err("learner.tls_client_ca".to_owned()));
    }
}
