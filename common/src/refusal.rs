//! The reasons for which the learner rejects a message or call, and their conversion to a gRPC status.
//!
//! An error of this project has its cause either in its text or as its `source`, never in both. Printing the whole
//! chain then says each cause once.

use bytes::Bytes;
use thiserror::Error;
use tonic::{Code, Status};

/// Returns an error with its causes in one line, each once. Use it for errors of other crates that omit their cause.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

/// The reason for which the learner rejects a message or call.
///
/// It ends the call. Unrolls that were admitted before stay admitted.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Refusal {
    /// A field of a message is invalid.
    #[error("field `{field}`: {detail}")]
    Field {
        /// Name of the protobuf field.
        field: &'static str,
        /// The value found and the value expected.
        detail: String,
    },
    /// The session never existed, has ended, or is fenced.
    #[error("session {session:016x} is not open; join again")]
    Session {
        /// The session that the peer named.
        session: u64,
    },
    /// The peer has a model of another shape.
    #[error("model fingerprint {found:016x}, but this run's is {expected:016x}; join again")]
    Fingerprint {
        /// The fingerprint that the peer sent.
        found: u64,
        /// The fingerprint of this run's model.
        expected: u64,
    },
    /// The peer uses another major version of the wire contract.
    #[error(
        "wire version {found}.x, but this learner uses {expected}.x; upgrade the {}",
        if found < expected { "actor" } else { "learner" }
    )]
    WireVersion {
        /// Major version of the peer.
        found: u32,
        /// Major version of this build.
        expected: u32,
    },
    /// The call has no token, or an unknown one.
    #[error(
        "the call has no valid token; send one as `authorization: Bearer TOKEN` (actor.token_file)"
    )]
    Unauthenticated,
    /// The token does not allow the call.
    #[error("the token is a viewer's, which allows status calls only")]
    Forbidden,
    /// The limit of joined actors is reached.
    #[error("{most} actors are joined, which is this learner's limit (learner.max_sessions)")]
    TooManySessions {
        /// The limit.
        most: usize,
    },
    /// The limit of open uploads is reached.
    #[error("{most} uploads are open, which is this learner's limit (twice learner.max_sessions)")]
    TooManyUploads {
        /// The limit.
        most: usize,
    },
    /// The session already has such a call.
    #[error("session {session:016x} already has an open {call}")]
    CallOpen {
        /// The session.
        session: u64,
        /// `upload` or `subscription`.
        call: &'static str,
    },
    /// The session did not send the unroll for which the learner waited.
    #[error(
        "no unroll arrived within {seconds} s although the learner waited for one (learner.session_timeout_seconds)"
    )]
    Silent {
        /// The time limit, in seconds.
        seconds: u64,
    },
    /// The learner is shutting down. The peer can join again after the restart.
    #[error("the learner is shutting down")]
    ShuttingDown,
    /// The run is complete, so the learner needs no more unrolls.
    #[error("the run is complete")]
    RunComplete,
}

impl Refusal {
    /// Returns the rejection of one field.
    pub fn field(field: &'static str, detail: impl Into<String>) -> Self {
        Self::Field {
            field,
            detail: detail.into(),
        }
    }

    /// Returns the value of the metrics' `reason` label. It never contains input of a peer, so the number of values is
    /// bounded.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Field { field, .. } => field,
            Self::Session { .. } => "session",
            Self::Fingerprint { .. } => "fingerprint",
            Self::WireVersion { .. } => "wire_version",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::TooManySessions { .. } => "sessions",
            Self::TooManyUploads { .. } => "uploads",
            Self::CallOpen { .. } => "call_open",
            Self::Silent { .. } => "silent",
            Self::ShuttingDown => "shutting_down",
            Self::RunComplete => "run_complete",
        }
    }

    /// True when a status is this rejection, and comes from a learner rather than from a proxy.
    pub fn is(&self, status: &Status) -> bool {
        status.code() == self.code() && status.details() == self.reason().as_bytes()
    }

    /// Returns the gRPC code. It tells the peer to correct the message, join again, upgrade, retry later, or leave.
    pub fn code(&self) -> Code {
        match self {
            Self::Field { .. } => Code::InvalidArgument,
            Self::Session { .. } | Self::Fingerprint { .. } => Code::FailedPrecondition,
            Self::WireVersion { .. } => Code::Unimplemented,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Forbidden => Code::PermissionDenied,
            Self::TooManySessions { .. } | Self::TooManyUploads { .. } => Code::ResourceExhausted,
            Self::CallOpen { .. } => Code::AlreadyExists,
            Self::Silent { .. } => Code::DeadlineExceeded,
            Self::ShuttingDown => Code::Unavailable,
            Self::RunComplete => Code::OutOfRange,
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        // The reason distinguishes this status from one with the same code of a proxy.
        let reason = Bytes::from_static(refusal.reason().as_bytes());
        Status::with_details(refusal.code(), refusal.to_string(), reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns code, reason and message parts for each kind. A new kind does not compile until it is listed.
    fn contract(refusal: &Refusal) -> (Code, &'static str, &'static [&'static str]) {
        match refusal {
            Refusal::Field { .. } => (
                Code::InvalidArgument,
                "rewards",
                &["`rewards`", "NaN is outside"],
            ),
            Refusal::Session { .. } => (
                Code::FailedPrecondition,
                "session",
                &["00000000000000ff", "join again"],
            ),
            Refusal::Fingerprint { .. } => (
                Code::FailedPrecondition,
                "fingerprint",
                &["000000000000000a", "000000000000000b", "join again"],
            ),
            Refusal::WireVersion { .. } => (
                Code::Unimplemented,
                "wire_version",
                &["1.x", "2.x", "upgrade the "],
            ),
            Refusal::Unauthenticated => (
                Code::Unauthenticated,
                "unauthenticated",
                &["Bearer", "actor.token_file"],
            ),
            Refusal::Forbidden => (Code::PermissionDenied, "forbidden", &["viewer's"]),
            Refusal::TooManySessions { .. } => (
                Code::ResourceExhausted,
                "sessions",
                &["9 actors", "learner.max_sessions"],
            ),
            Refusal::TooManyUploads { .. } => (
                Code::ResourceExhausted,
                "uploads",
                &["9 uploads", "learner.max_sessions"],
            ),
            Refusal::CallOpen { .. } => (
                Code::AlreadyExists,
                "call_open",
                &["00000000000000ff", "upload"],
            ),
            Refusal::Silent { .. } => (
                Code::DeadlineExceeded,
                "silent",
                &["7 s", "learner.session_timeout_seconds"],
            ),
            Refusal::ShuttingDown => (Code::Unavailable, "shutting_down", &["shutting down"]),
            Refusal::RunComplete => (Code::OutOfRange, "run_complete", &["the run is complete"]),
        }
    }

    #[test]
    fn a_refusal_tells_the_peer_what_to_do() {
        let all = [
            Refusal::field("rewards", "NaN is outside [-1, 1]"),
            Refusal::Session { session: 255 },
            Refusal::Fingerprint {
                found: 10,
                expected: 11,
            },
            Refusal::WireVersion {
                found: 1,
                expected: 2,
            },
            Refusal::Unauthenticated,
            Refusal::Forbidden,
            Refusal::TooManySessions { most: 9 },
            Refusal::TooManyUploads { most: 9 },
            Refusal::CallOpen {
                session: 255,
                call: "upload",
            },
            Refusal::Silent { seconds: 7 },
            Refusal::ShuttingDown,
            Refusal::RunComplete,
        ];
        for refusal in all {
            let (code, reason, says) = contract(&refusal);
            assert_eq!(refusal.reason(), reason);
            let status = Status::from(refusal.clone());
            assert_eq!(status.code(), code, "{refusal}");
            assert!(refusal.is(&status));
            let of_a_proxy = Status::new(code, status.message());
            assert!(!refusal.is(&of_a_proxy), "{refusal}");
            for word in says {
                assert!(status.message().contains(word), "{status:?}: {word}");
            }
        }
    }

    /// Checks that an error's text does not contain its causes.
    fn assert_said_once(error: &dyn std::error::Error) {
        let text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let said = error.to_string();
            assert!(!text.contains(&said), "{text:?} and its cause {said:?}");
            cause = error.source();
        }
        assert_eq!(causes(error).matches(&text).count(), 1);
    }

    #[tokio::test]
    async fn errors_say_their_cause_once() {
        use crate::{config::Spec, model::state, telemetry::ExporterError, weights::WeightsError};

        let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = closed.local_addr().expect("an address");
        drop(closed);
        let unreachable = crate::health::check(address, "").await.expect_err("closed");
        assert!(unreachable.to_string().contains("refused"), "{unreachable}");
        assert_said_once(&unreachable);
        assert_said_once(&Spec::from_json("{").expect_err("half"));
        let invalid = Spec::from_json("{}").expect_err("empty");
        assert_said_once(&invalid);
        let format = state::decode(b"x").expect_err("no tensors");
        assert_said_once(&format);
        assert_said_once(&WeightsError::from(format));
        let buckets = metrics_exporter_prometheus::PrometheusBuilder::new().set_buckets(&[]);
        assert_said_once(&ExporterError::from(buckets.map(drop).expect_err("none")));
    }

    #[test]
    fn the_older_side_is_the_one_to_upgrade() {
        let says = |found, expected| Refusal::WireVersion { found, expected }.to_string();
        assert!(says(1, 2).ends_with("upgrade the actor"));
        assert!(says(3, 2).ends_with("upgrade the learner"));
    }
}
