//! Why the learner refuses something that came over the wire, and the one place where a refusal
//! becomes a gRPC status.
//!
//! An error of this project has its cause either in its text or as its `source`, never both: who prints the
//! whole chain would say it twice.

use bytes::Bytes;
use thiserror::Error;
use tonic::{Code, Status};

/// An error with its causes in one line, each once. For errors of other crates whose text leaves the cause out.
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

/// Something an actor sent that the learner does not admit.
///
/// A refusal ends the call it came on; what was admitted before stays admitted.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Refusal {
    /// A field of a message is outside what the contract allows.
    #[error("field `{field}`: {detail}")]
    Field {
        /// Name of the protobuf field.
        field: &'static str,
        /// What was found and what was expected.
        detail: String,
    },
    /// The session never existed, has ended, or was superseded by a newer one of the same actor.
    #[error("session {session:016x} is not open; join again")]
    Session {
        /// The session that the peer named.
        session: u64,
    },
    /// The peer was built for a model of another shape.
    #[error("model fingerprint {found:016x}, but this run's is {expected:016x}; join again")]
    Fingerprint {
        /// What the peer sent.
        found: u64,
        /// What this run uses.
        expected: u64,
    },
    /// The peer speaks another major version of the wire contract.
    #[error(
        "wire version {found}.x, but this learner speaks {expected}.x; upgrade the {}",
        if found < expected { "actor" } else { "learner" }
    )]
    WireVersion {
        /// Major version of the peer.
        found: u32,
        /// Major version of this build.
        expected: u32,
    },
    /// No token, or one that the learner does not know.
    #[error(
        "no valid token came with the call; send one as `authorization: Bearer TOKEN` (actor.token_file)"
    )]
    Unauthenticated,
    /// A token that allows less.
    #[error("the token is a viewer's and allows no more than to ask how the run stands")]
    Forbidden,
    /// As many actors are joined as the learner takes.
    #[error(
        "{most} actors are joined, which is as many as this learner takes (learner.max_sessions)"
    )]
    TooManySessions {
        /// How many it takes.
        most: usize,
    },
    /// As many uploads are open as the learner takes.
    #[error(
        "{most} uploads are open, which is as many as this learner takes (twice learner.max_sessions)"
    )]
    TooManyUploads {
        /// How many it takes.
        most: usize,
    },
    /// The session has such a call already.
    #[error("session {session:016x} has an open {call} already")]
    CallOpen {
        /// The session.
        session: u64,
        /// `upload` or `subscription`.
        call: &'static str,
    },
    /// The session owed an unroll and sent none.
    #[error(
        "no unroll came within {seconds} s although the learner waited for one (learner.session_timeout_seconds)"
    )]
    Silent {
        /// How long the learner waits.
        seconds: u64,
    },
    /// The learner is shutting down; the peer may come back after its restart.
    #[error("the learner is shutting down")]
    ShuttingDown,
    /// The run is complete: the peer is not needed any more.
    #[error("the run is complete")]
    RunComplete,
}

impl Refusal {
    /// A refusal of one field.
    pub fn field(field: &'static str, detail: impl Into<String>) -> Self {
        Self::Field {
            field,
            detail: detail.into(),
        }
    }

    /// The value of the `reason` label under which metrics count this refusal: bounded, since it
    /// never holds what a peer sent.
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

    /// True when a status is this refusal, as told by a learner and not by what stands before it.
    pub fn is(&self, status: &Status) -> bool {
        status.code() == self.code() && status.details() == self.reason().as_bytes()
    }

    /// The gRPC code that tells the peer what to do: mend the message, join again, upgrade, come back later, or leave.
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
        // With the reason, since codes also come from whatever stands between the two.
        let reason = Bytes::from_static(refusal.reason().as_bytes());
        Status::with_details(refusal.code(), refusal.to_string(), reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a peer is told about each kind of refusal. A new kind does not compile until it is listed.
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

    /// No cause may stand in the text of the error that it belongs to.
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
